"""Language-image models: a locked image tower and a text tower trained to meet it (CLIP, CLOOB, SigLIP)."""

REVISION = 1
