"""How pictures are given to networks, the same in every family and modality."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Of red, green and blue between 0 and 1, subtracted before a network sees them: OpenAI's CLIP (openai/CLIP, clip.py),
which the client of rinna/japanese-clip-vit-b-16 applies too."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""What the difference is divided by; from the same place."""
