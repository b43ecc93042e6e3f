"""Data, models, training and statistics shared by the chapters of the FER companion."""

__version__ = "0.1.0"
