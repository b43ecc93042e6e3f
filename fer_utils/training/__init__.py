"""One training loop a framework, with the same few names: `fit`, `predict`, `prepare`."""
