"""How pictures become numbers, in one place for shards, networks and releases."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue between 0 and 1; those of OpenAI's CLIP (its `clip.py`), as rinna's client has them."""
