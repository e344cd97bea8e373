"""Statistics of an autoencoder's latents: how they are spread, how smooth they are, how they answer to gain and mix."""
