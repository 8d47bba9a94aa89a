"""The parts of an encoded conversation: which ids are asked, which answered, and which answered worse."""

PROMPT = 0
CHOSEN = 1
"""Of the answer: the better one, where there are two."""
REJECTED = 2
"""Of the worse answer to the same prompt."""
PADDING = 3
"""Of no sequence."""
