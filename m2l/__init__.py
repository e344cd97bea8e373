"""Music2Latent: a consistency autoencoder for music (ISMIR 2024), re-built from the paper."""
