"""Published weights: what is published, where it is, and loading it strictly."""
