"""Files that `m2l-bench new-autoencoder` and `new-metric` copy: real code, tested as it is, with names to replace."""
