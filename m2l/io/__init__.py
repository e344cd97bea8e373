"""Files: audio in all its containers, latents, checkpoints, and writing them so that nothing is lost."""
