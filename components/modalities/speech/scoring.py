"""Scores of networks of speech. Recordings are heard one at a time, so no score depends on batches or padding."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from components.modalities.speech.decoding import Errors, errors_of, interval, open_decoder
from components.modalities.speech.features import num_frames
from components.modalities.speech.recordings import as_waveform, decoded
from components.modalities.speech.schema import (
    WINDOW_SAMPLES,
    MaskedUnitAccuracy,
    PhonemeErrorRate,
    Recordings,
)
from components.outcomes import Refused

if TYPE_CHECKING:
    from torch import Tensor

Read = Callable[..., Iterable[dict[str, Any]]]
Tell = Callable[[int, int], None]
Row = dict[str, Any]


def score(task: PhonemeErrorRate | MaskedUnitAccuracy, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    """Score a model on a task of speech.

    Args:
        task: the task's section.
        model: `network` (on its device, in evaluation mode) and `encoder` (of what it predicts).
        read: (corpus, columns, splits) -> rows with `id` and those columns.
        tell: receives how many recordings are done, of how many.

    Raises:
        Refused: there is no recording, the model is of another kind, or it computes no numbers.
    """
    is_recogniser = isinstance(task, PhonemeErrorRate)
    kind, found = "phonemes" if is_recogniser else "units", getattr(model.encoder, "kind", "something else")
    if found != kind:
        raise Refused(
            f"A task of kind '{task.kind}' scores networks whose encoder makes {kind}; found one that makes {found}. "
            "Name another task under 'evaluate.tasks'."
        )
    if isinstance(task, PhonemeErrorRate):
        yield from _phoneme_errors(task, model, read, tell)
    else:
        yield from _accuracy(task, model, read, tell)


def _records(task: Recordings, columns: list[str], read: Read) -> list[Row]:
    """The records of a task; where it takes a sample, those with the smallest hashes of their ids."""
    import hashlib
    import heapq

    def by_hash(record: Row) -> bytes:
        return hashlib.blake2b(record["id"].encode("utf-8"), digest_size=16).digest()

    found = read(task.corpus, columns, splits={task.split})
    records = list(found) if task.max_recordings is None else heapq.nsmallest(task.max_recordings, found, key=by_hash)
    if not records:
        raise Refused(
            f"Split '{task.split}' of corpus '{task.corpus}' has no accepted recording, expected at least one to "
            "score. Give the corpus some, or choose another 'split' in the task."
        )
    return records


def _heard(flac: bytes) -> tuple["Tensor", "Tensor"]:
    """Waveform float32 [1, samples] and length int64 [1]; as long as one frame at least."""
    import torch

    samples = decoded(flac)
    wave = np.pad(as_waveform(samples), (0, max(0, WINDOW_SAMPLES - len(samples))))
    return torch.from_numpy(wave)[None], torch.tensor([len(wave)])


# ---- phonemes --------------------------------------------------------------------------------------------------------


def log_probs_of(network: Any, waveforms: "Tensor") -> "Tensor":
    """float32 [recordings, frames, symbols] on the CPU of whole recordings, none of them padded."""
    import torch

    device = next(network.parameters()).device
    with torch.inference_mode():
        hidden = network.hubert(waveforms.to(device)).last_hidden_state
        return network.lm_head(hidden).float().log_softmax(dim=-1).cpu()


def _phoneme_errors(task: PhonemeErrorRate, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    columns = [task.column, task.transcript, *([task.speaker] if task.speaker else [])]
    records = _records(task, columns, read)
    symbols = model.encoder.facts["symbols"]
    decoders = {name: open_decoder(name, symbols, task.beam_size) for name in task.decoders}
    found: dict[str, list[Errors]] = {name: [] for name in decoders}
    for number, record in enumerate(records):
        said = [symbols[each] for each in model.encoder.encode([record[task.transcript]])[0]]
        log_probs = log_probs_of(model.network, _heard(record[task.column])[0])[0]
        if not math.isfinite(float(log_probs.sum())):
            raise Refused(
                f"The network computes no numbers for recording {record['id']}: its weights are damaged or training "
                "diverged. Look at the curve, then train again with a lower 'optimizer.learning_rate'."
            )
        for name, decode in decoders.items():
            errors = errors_of(said, [symbols[each] for each in decode(log_probs)])
            found[name].append(errors)
            yield from _rows_of(record["id"], errors, _suffix(task, name))
        tell(number + 1, len(records))
    yield from _totals(task, records, found)


def _suffix(task: PhonemeErrorRate, decoder: str) -> str:
    """What the metrics of a decoder end with: nothing for the one that models are compared by."""
    return "" if decoder == task.decoders[0] else f"_{decoder.replace('-', '_')}"


def _rows_of(item: str, errors: Errors, suffix: str) -> Iterator[Row]:
    values = {f"errors{suffix}": errors.errors, f"errors_with_boundary{suffix}": errors.errors_with_boundary}
    if not suffix:
        values |= {
            "num_phonemes": errors.num_phonemes,
            "num_symbols": errors.num_symbols,
            "substitutions": errors.substitutions,
            "deletions": errors.deletions,
            "insertions": errors.insertions,
        }
    for metric, value in values.items():
        yield {"item": item, "metric": metric, "value": float(value)}


def _totals(task: PhonemeErrorRate, records: list[Row], found: dict[str, list[Errors]]) -> Iterator[Row]:
    speakers = [record[task.speaker] if task.speaker else "" for record in records]
    totals: dict[str, float] = {}
    for name, errors in found.items():
        whole, suffix = sum(errors, Errors()), _suffix(task, name)
        totals |= {f"{metric}{suffix}": value for metric, value in whole.rates().items()}
        wrong, said = (np.array([getattr(each, key) for each in errors], float) for key in ("errors", "num_phonemes"))
        bounds = interval(wrong, said, speakers, task.num_resamples, task.seed)
        totals |= {
            f"phoneme_error_rate_{end}{suffix}": value for end, value in zip(("low", "high"), bounds, strict=True)
        }
        if not suffix:
            by_speaker = []
            for speaker in sorted(set(speakers)):
                chosen = [other == speaker for other in speakers]
                by_speaker.append(wrong[chosen].sum() / max(1.0, said[chosen].sum()))
                if task.speaker:  # under metrics of their own: nothing is compared by these, nor counts them as items
                    for metric, values in (("speaker_errors", wrong), ("speaker_phonemes", said)):
                        yield {"item": f"speaker:{speaker}", "metric": metric, "value": float(values[chosen].sum())}
            if len(by_speaker) > 1:
                totals |= {"best_speaker_error_rate": min(by_speaker), "worst_speaker_error_rate": max(by_speaker)}
            totals |= {"num_speakers": len(by_speaker)} if task.speaker else {}
            totals |= {"num_phonemes": whole.num_phonemes, "num_recordings": len(errors)}
    for metric, value in totals.items():
        yield {"item": None, "metric": metric, "value": float(value)}


# ---- units -----------------------------------------------------------------------------------------------------------


def _accuracy(task: MaskedUnitAccuracy, model: Any, read: Read, tell: Tell) -> Iterator[Row]:
    import torch

    from models import part_of

    if getattr(model.network, "head", None) is None:
        raise Refused(
            "The network has no head that predicts units, since releases leave it out. Score the weights that training "
            "left: hiraku evaluate RECIPE"
        )
    section = part_of(task.family, "schema").MaskedUnits(kind="masked-units")
    objective = part_of(task.family, "objectives").objective(section, model.network, None)
    device = next(model.network.parameters()).device
    records = _records(task, [task.column], read)
    totals = {"num_right": 0.0, "num_masked": 0.0, "bits": 0.0}
    for number, record in enumerate(records):
        samples = decoded(record[task.column])
        units = model.encoder.units_of(samples)
        tell(number + 1, len(records))
        if num_frames(len(samples)) < section.mask_frames + section.min_masks:
            continue
        batch = {
            "waveforms": torch.from_numpy(as_waveform(samples))[None],
            "lengths": torch.tensor([len(samples)]),
            "targets": torch.from_numpy(units.astype(np.int64))[None],
        }
        batch = {key: value.to(device) for key, value in objective.prepared(batch).items()}
        with torch.inference_mode():
            parts = objective(batch).parts
        num_masked = objective.num_items(batch)
        values = {
            "num_right": round(float(parts["masked_accuracy"]) * num_masked),
            "num_masked": num_masked,
            "bits": float(parts["masked_loss"]) * num_masked / math.log(2),
        }
        for metric, value in values.items():
            totals[metric] += value
            yield {"item": record["id"], "metric": metric, "value": float(value)}
    if not totals["num_masked"]:
        raise Refused(f"No recording of corpus '{task.corpus}' is long enough to mask frames of it.")
    rates = {
        "accuracy": totals["num_right"] / totals["num_masked"],
        "bits_per_unit": totals["bits"] / totals["num_masked"],
    }
    for metric, value in {**rates, "num_masked": totals["num_masked"], "num_recordings": len(records)}.items():
        yield {"item": None, "metric": metric, "value": float(value)}
