"""Pictures that a generator draws of the captions of records, each from its prompt and its seed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from components.kept import Kept
from components.modalities.image.captions import first_of
from components.modalities.image.generation_schema import Generated, Sampled
from components.modalities.image.pictures import encoded
from components.modalities.image.reading import Read, Row, Tell, picture_batches, records_of
from components.outcomes import Refused
from models import FAMILIES, part_of

Paint = Callable[[list[str], list[int]], np.ndarray]
"""Prompts and seeds -> uint8 [pictures, height, width, 3]."""
NUM_KEPT = 60
"""Pictures of a task that are kept with its scores."""


@dataclass(frozen=True)
class Asked:
    """What a generator is asked for, and what it drew."""

    records: list[Row]
    prompts: list[str]
    seeds: list[int]
    pictures: list[bytes]
    """PNG files, in the order of the records."""

    def shown(self, words: list[str], are_right: list[bool]) -> Iterator[Row]:
        """Rows by which the first pictures are kept, each with what a judge says of it."""
        for number, record in enumerate(self.records[:NUM_KEPT]):
            yield {
                "item": None,
                "drawn": {
                    "item": record["id"],
                    "prompt": self.prompts[number],
                    "seed": self.seeds[number],
                    "picture": self.pictures[number],
                    "word": words[number],
                    "is_right": bool(are_right[number]),
                },
            }


def seed_of(seed: int, item: str) -> int:
    """The seed of an item's noise: the same for every model, whatever other items there are."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{item}".encode(), digest_size=4).digest(), "big")


def draw(task: Generated, model: Any, columns: list[str], read: Read, tell: Tell) -> Asked:
    """Let a model draw the prompts of a task.

    Args:
        task: the task's section.
        model: `network` and `encoder`, of a family with a file `sampling`; with `content`, pictures are kept by it.
        columns: that are wanted of the records besides captions.
        read: (corpus, columns, splits) -> rows.
        tell: receives how many pictures are done, of how many.

    Raises:
        Refused: there is no prompt, the model draws nothing, or draws other than pictures.
    """
    found = records_of(task, [task.captions, *columns], read)
    captions = [first_of(record[task.captions], task.caption_kind) for record in found]
    records = [record for record, text in zip(found, captions, strict=True) if text is not None]
    prompts = [text for text in captions if text is not None]
    if not records:
        raise Refused(
            f"No record in the split '{task.split}' of corpus '{task.corpus}' has a caption of the kind "
            f"'{task.caption_kind}'. Change the key 'caption_kind' of the task."
        )
    return draw_prompts(task, model, records, prompts, tell)


def draw_prompts(task: Sampled, model: Any, records: list[Row], prompts: list[str], tell: Tell) -> Asked:
    """Let a model draw a prompt for each record, from the seed that its id decides.

    Args:
        task: the task's section.
        model: see `draw`.
        records: rows with an `id`.
        prompts: what is asked for, one for each.
        tell: receives how many pictures are done, of how many.

    Raises:
        Refused: the model draws nothing, or draws other than pictures.
    """
    seeds = [seed_of(task.seed, record["id"]) for record in records]
    kept = _memory(task, model)
    keys = [json.dumps([prompt, seed], ensure_ascii=False) for prompt, seed in zip(prompts, seeds, strict=True)]
    known = kept.recall(keys) if kept is not None else {}
    paint = painter_of(task, model) if len(known) < len(set(keys)) else None
    for start in range(0, len(keys), task.batch_pictures):
        # Batches begin at the same places after a stop, so that the same pictures are drawn together again.
        batch = range(start, min(start + task.batch_pictures, len(keys)))
        part = [number for number in batch if keys[number] not in known]
        if not part:
            continue
        assert paint is not None  # noqa: S101 - something is missing
        made = _files(paint([prompts[each] for each in part], [seeds[each] for each in part]), len(part))
        fresh = {keys[number]: file for number, file in zip(part, made, strict=True)}
        if kept is not None:
            kept.keep(fresh)
        known |= fresh
        tell(batch.stop, len(records))
    tell(len(records), len(records))
    return Asked(records, prompts, seeds, [known[key] for key in keys])


def painter_of(task: Sampled, model: Any) -> Paint:
    """The sampler of a model's family, around its network and its tokenizer.

    Raises:
        Refused: the model draws nothing.
    """
    if not hasattr(model.network, "unet"):
        raise Refused(
            f"A task of kind '{task.kind}' scores generators of pictures; found a {type(model.network).__name__}. Name "  # type: ignore[attr-defined]
            "another task under 'evaluate.tasks'."
        )
    sampling = part_of(task.family, "sampling")
    pipeline = sampling.pipeline_of(model.network, model.encoder.folder)

    def paint(prompts: list[str], seeds: list[int]) -> np.ndarray:
        found: np.ndarray = sampling.pictures(
            pipeline, prompts, seeds, task.num_steps, task.guidance_scale, task.negative
        )
        return found

    return paint


def _memory(task: Sampled, model: Any) -> "Kept[bytes] | None":
    """Where pictures of this very model are kept, so that tasks with the same prompts draw them once."""
    if not getattr(model, "content", ""):
        return None
    facts = {
        "model": model.content,
        "num_steps": task.num_steps,
        "guidance_scale": task.guidance_scale,
        "negative": task.negative,
        "revision": import_module(FAMILIES[task.family]).REVISION,
        "device": str(next(model.network.parameters()).device.type),
        **{each: version(each) for each in ("torch", "diffusers", "transformers")},
    }
    return Kept("pictures", facts)


def _files(pixels: np.ndarray, count: int) -> list[bytes]:
    """PNG files of pictures.

    Raises:
        Refused: they are no pictures, or not as many as were asked for.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != count or pixels.shape[3] != 3:
        raise Refused(
            f"The generator gave {pixels.dtype} {list(pixels.shape)} for {count} prompts, expected uint8 [{count}, "
            "height, width, 3]: its weights are damaged, or its family draws otherwise."
        )
    return [encoded(Image.fromarray(each), is_lossless=True) for each in pixels]


def real_pictures(task: Generated, records: list[Row], read: Read) -> list[bytes]:
    """The pictures of some records, in their order."""
    found: list[bytes] = [b""] * len(records)
    for places, pictures in picture_batches(task, records, read, lambda _done, _all: None):
        for place, picture in zip(places, pictures, strict=True):
            found[place] = picture
    return found
