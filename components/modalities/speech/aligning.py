"""When which phoneme is said, as a recogniser hears it: what units are compared with where nobody marked phones."""

import json
from itertools import pairwise
from typing import TYPE_CHECKING

from components.modalities.speech.phonemes import BLANK_ID
from components.modalities.speech.schema import BOUNDARY
from models.frames import FRAME_SAMPLES, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ


def phones_of(log_probs: "Tensor", ids: "np.ndarray", symbols: list[str]) -> str:
    """The likeliest alignment of a transcript, in the form of a clean column of phones.

    CTC says a phoneme in a frame or two and is silent until the next one, so each phoneme is taken to last from the
    middle of the gap before it to the middle of the gap behind it. Word boundaries are no phones.

    Args:
        log_probs: float32 [frames, symbols].
        ids: of the transcript, word boundaries among them.
        symbols: by their ids.

    Returns:
        JSON of [phone, begin, end] in seconds; of no phone if the frames are too few for the transcript.
    """
    import torch
    from torchaudio.functional import forced_align, merge_tokens

    targets = torch.from_numpy(ids.astype("int32"))[None]
    repeats = sum(one == other for one, other in pairwise(ids.tolist()))
    if not len(ids) or len(log_probs) < len(ids) + repeats:
        return "[]"
    path, scores = forced_align(log_probs[None], targets, blank=BLANK_ID)
    spans = merge_tokens(path[0], scores[0].exp(), blank=BLANK_ID)
    bounds = [float(spans[0].start), *((one.end + other.start) / 2 for one, other in pairwise(spans))]
    bounds.append(float(spans[-1].end))
    rows = [
        [symbols[span.token], begin * FRAME_SECONDS, end * FRAME_SECONDS]
        for span, (begin, end) in zip(spans, pairwise(bounds), strict=True)
    ]
    return json.dumps([row for row in rows if row[0] != BOUNDARY], ensure_ascii=False)
