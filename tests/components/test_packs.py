"""Whole conversations that share a sample."""

from typing import Any

import numpy as np

from components.modalities.text.packing import Packs, _Source, packed
from models.conversation import CHOSEN, PADDING, PROMPT


def sequence(first: int, asked: int, answered: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [PROMPT] * asked + [CHOSEN] * answered
    return np.arange(first, first + len(parts)), np.array(parts, np.uint8)


def test_each_conversation_of_a_sample_begins_at_position_0_and_so_does_what_fills_it() -> None:
    given: Any = [sequence(10, 2, 2), sequence(20, 1, 2), sequence(30, 3, 3)]
    samples = packed(np.array([4, 3, 6]), 8)
    assert samples == [[2], [0, 1]]
    found = Packs([_Source(given, samples, 1.0)], "conversations", 8, pad=2).batch(np.arange(2), epoch=0)
    rows = {row[0]: number for number, row in enumerate(found["input_ids"].tolist())}
    shared, alone = rows[10], rows[30]
    assert found["input_ids"][shared].tolist() == [10, 11, 12, 13, 20, 21, 22, 2]
    assert found["position_ids"][shared].tolist() == [0, 1, 2, 3, 0, 1, 2, 0]
    assert found["parts"][shared].tolist() == [PROMPT] * 2 + [CHOSEN] * 2 + [PROMPT] + [CHOSEN] * 2 + [PADDING]
    assert found["input_ids"][alone].tolist() == [30, 31, 32, 33, 34, 35, 2, 2]
    assert found["position_ids"][alone].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
