"""Downloads of weights and data sets."""
