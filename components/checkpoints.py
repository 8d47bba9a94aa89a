"""Checkpoints: enough to resume a training stage bit for bit, in a folder that is named by what is trained.

They lie under `settings().checkpoint_root`, undeclared to DVC, in `<verb>/<name>-<fingerprint>/`: a kill resumes, a
changed recipe, other data or another REVISION never continues from foreign weights, and a clone that shares the root
goes on with what another one began. A file is written beside its place, flushed, loaded back and renamed; its name
carries the hash of its bytes, since torch does not check the sums inside of its own files. Two are kept, and of a
finished training the last one, until its result is recorded.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.locks import lock
from components.manifest import file_hash
from components.outcomes import Busy, Refused
from components.settings import settings

KEPT = 2
HASH_LENGTH = 16
PARTIAL_SUFFIX = ".partial"
OWN_FILES = ("step-*", "records/part-*", "rejects.jsonl", "seen.sqlite*", "shards/*", "place.json", "sample-*")
"""What trainings keep, and what `components.half_done` and others keep of stages that have not come to their end."""


def fingerprint_of(facts: dict[str, Any]) -> str:
    """SHA-256 over everything that decides a training's outcome: sections, payload hashes, revisions; as hex."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training."""

    verb: str
    name: str
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return settings().checkpoint_root / self.verb / f"{self.name}-{self.fingerprint[:HASH_LENGTH]}"

    def files(self) -> list[Path]:
        """Finished checkpoints, the newest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against every other process, until this one ends in whatever way.

        Raises:
            Busy: another process holds it; the message names that process.
        """
        try:
            descriptor = lock(_lock_path(self.folder))
        except Busy as error:
            raise Busy(f"{self.verb} {self.name} is running already: {error} Wait for it, or stop it.") from error
        try:
            self.folder.mkdir(exist_ok=True)
            for left_over in self.folder.glob(f"*{PARTIAL_SUFFIX}"):
                left_over.unlink()
            yield
        finally:
            os.close(descriptor)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint, and drop all but the newest two.

        Args:
            step: optimiser steps done.
            state: tensors, numbers, texts and containers of them only.

        Raises:
            Refused: the disk is full. What stood there before still stands.
        """
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"step-{step:010d}{PARTIAL_SUFFIX}"
        try:
            with partial.open("wb") as stream:
                torch.save({"fingerprint": self.fingerprint, "step": step, "state": state}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            torch.load(partial, map_location="cpu", weights_only=True, mmap=True)  # its tensors need no second memory
            place = self.folder / f"step-{step:010d}-{file_hash(partial)[:HASH_LENGTH]}.ckpt"
            partial.replace(place)
        except (OSError, RuntimeError) as error:
            written = partial.stat().st_size if partial.exists() else 0
            partial.unlink(missing_ok=True)
            self._refuse_full_disk(size_of(state), written, error)
            raise
        _flush_folder(self.folder)
        for old in [path for path in self.files() if path != place][KEPT - 1 :]:
            old.unlink()
        return place

    def require_space(self, num_bytes: int) -> None:
        """Refuse before long work what could not be saved after it.

        Args:
            num_bytes: size of one checkpoint; KEPT of them and a partial one must fit, less those that stand there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        standing = sum(path.stat().st_size for path in self.files())
        self._refuse_full_disk((KEPT + 1) * num_bytes - standing, 0, None)

    def _refuse_full_disk(self, needed: int, written: int, cause: Exception | None) -> None:
        free = shutil.disk_usage(self.folder).free + written
        if free < needed:
            raise Refused(
                f"{self.folder} has {free / 1e6:,.0f} MB left, checkpoints need {needed / 1e6:,.0f} MB. "
                "Free some, or set HIRAKU_CHECKPOINT_ROOT to a larger disk; the next run goes on from the last one."
            ) from cause

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint that is whole: (steps done, state on the CPU, to be copied); None if there is none.

        A broken one is set aside with a word on standard error, and the one before it is taken, if there is one.

        Raises:
            Refused: a checkpoint belongs to another training.
        """
        import torch

        files = self.files()
        for number, path in enumerate(files, start=1):
            if not file_hash(path).startswith(path.stem.rpartition("-")[2]):
                instead = "Taking the one before." if files[number:] else "None is before it: training from step 0."
                sys.stderr.write(f"{path} is damaged: its bytes are not those that were saved. {instead}\n")
                with suppress(FileNotFoundError):  # another rank did so
                    path.replace(path.with_suffix(".damaged"))
                continue
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # once for all ranks
            if content["fingerprint"] != self.fingerprint:
                raise Refused(
                    f"{path} belongs to another training: fingerprint {content['fingerprint'][:12]}, expected "
                    f"{self.fingerprint[:12]}. It was put there by hand. Remove it, or restore its recipe and data."
                )
            return content["step"], content["state"]
        return None

    def set_newest_aside(self) -> None:
        """Load the one before from now on, if there is one."""
        files = self.files()
        if len(files) > 1:
            files[0].replace(files[0].with_suffix(".suspect"))

    def keep_last(self) -> None:
        """Drop all but the newest, once what it led to stands in its place. Call while they are held."""
        for old in self.files()[1:]:
            old.unlink()


def kept_in_words(found: tuple[int, dict[str, Any]] | None) -> str:
    """What is left of a training that is refused: a sentence about what `Checkpoints.load` has found."""
    return f"The checkpoint of step {found[0]:,} is kept." if found else "No checkpoint was written yet."


def discard(folder: Path) -> int | None:
    """Remove the checkpoints of one training, with their folder and its lock.

    Never called by a process that holds checkpoints: it would lose its lock.

    Args:
        folder: a `Checkpoints.folder`; other files in it stay, and it with them.

    Returns:
        The bytes that came free; None if another process holds it, which is left alone.
    """
    if not folder.is_dir():
        return 0
    try:
        descriptor = lock(_lock_path(folder))
    except Busy:
        return None
    try:
        num_bytes = 0
        for path in [each for pattern in OWN_FILES for each in folder.glob(pattern)]:
            num_bytes += path.stat().st_size
            path.unlink()
        with suppress(OSError):  # not empty
            for inner in (each for each in folder.iterdir() if each.is_dir()):
                inner.rmdir()
            folder.rmdir()
        _lock_path(folder).unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return num_bytes


def clear(root: Path) -> dict[Path, int]:
    """Remove the checkpoints of every training that no process holds; a stopped one begins from step 0 then.

    Args:
        root: `settings().checkpoint_root`.

    Returns:
        The folders that went, each with the bytes that came free; what still stands under `root` is held.
    """
    freed = {folder: discard(folder) for folder in sorted(root.glob("*/*-*")) if folder.is_dir()}
    return {folder: num_bytes for folder, num_bytes in freed.items() if num_bytes is not None}


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")  # a suffix would replace what follows a dot in the name


def checkpoint_bytes(num_parameters: int, training: Any) -> int:
    """Bytes of one checkpoint: weights, AdamW's two moments and the average if there is one, all in fp32."""
    return num_parameters * (16 if training.ema_decay else 12)


def size_of(state: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if hasattr(state, "element_size"):
        return int(state.numel() * state.element_size())
    if isinstance(state, dict):
        return sum(size_of(value) for value in state.values())
    return sum(size_of(value) for value in state) if isinstance(state, list | tuple) else 0


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
