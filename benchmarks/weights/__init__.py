"""Published weights: the table of them, finding their files, and loading them strictly."""
