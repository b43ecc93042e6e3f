"""One architecture a file, one framework a file; each file is named after its paper."""
