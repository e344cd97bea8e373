"""Files that `m2l-bench new-autoencoder` copies: real code, tested as it is, with names to replace."""
