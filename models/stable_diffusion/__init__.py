"""Latent diffusion from captions (Stable Diffusion): the autoencoder of pictures, and the pair of text encoder and U-Net."""

REVISION = 1
