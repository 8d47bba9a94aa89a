"""Guesses of how a continuation goes on, so that one pass of a network may answer for several tokens.

What the network says is never changed: a guess is put behind the last token, the pass tells what the network says after
each of both, and guesses hold as far as they are what it says (Leviathan et al. 2023, arXiv 2211.17192). Guessed is
what followed the last two tokens before, in the prompt or in the continuation (Yang et al. 2023, arXiv 2304.04487):
answers are taken from their prompts, and small networks repeat themselves.
"""

from collections.abc import Sequence

MOST = 12
"""Guesses of one stream in a pass."""
MAX_TOKENS = {"cpu": 64, "cuda": 512}
"""Of one pass, in all its rows: with so few, a pass takes little longer than with one token a row."""
HOLD, FAIL = 0.5, 0.25
"""Shares of guesses that hold from which on more, or below which fewer are made."""


class Lookup:
    """What followed two tokens in one text."""

    def __init__(self, text: Sequence[int]) -> None:
        self._text = list(text)
        self._after: dict[tuple[int, int], int] = {}
        self._num_read = 1

    def add(self, tokens: Sequence[int]) -> None:
        """The text goes on."""
        self._text.extend(tokens)

    def guesses(self, number: int) -> list[int]:
        """So many tokens that may come next, or none; of a text that repeats itself, the next repetitions."""
        text = self._text
        # The last token is followed by nothing yet.
        for place in range(self._num_read, len(text) - 1):
            self._after[text[place - 1], text[place]] = place + 1
        self._num_read = max(self._num_read, len(text) - 1)
        start = self._after.get((text[-2], text[-1])) if len(text) > 1 else None
        if start is None:
            return []
        found: list[int] = []
        for place in range(start, start + number):
            found.append(text[place] if place < len(text) else found[place - len(text)])
        return found


class Pace:
    """How many guesses are worth making.

    Args:
        device: type of the device.
    """

    def __init__(self, device: str) -> None:
        self._max_tokens = MAX_TOKENS.get(device, MAX_TOKENS["cuda"])
        self._number = 2

    def number(self, num_rows: int) -> int:
        """Guesses of each row in the next pass."""
        return max(0, min(self._number, self._max_tokens // num_rows - 1))

    def learn(self, num_made: int, num_held: int) -> None:
        """Take in how many guesses were made in a pass, and how many held."""
        if num_made and num_held >= HOLD * num_made:
            self._number = min(MOST, 2 * self._number)
        elif num_held < FAIL * num_made:
            self._number = max(1, self._number // 2)
