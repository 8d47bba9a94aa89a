"""Latent diffusion from captions (Stable Diffusion): an autoencoder of pictures, a text encoder and a U-Net."""

REVISION = 4
