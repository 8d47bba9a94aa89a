"""Units of a layer beside units of MFCC, at the same number of clusters: which tell more of what is said.

Where nobody marked when a phone is said, a recogniser aligns the transcripts of held-out recordings; both kinds of
units are judged by the same alignment.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import Row
from benchmarks.machine import describe
from benchmarks.report import Result, require_repeats
from components import paths
from components.encoders import weights_behind
from components.markdown import number
from components.modalities import modality
from components.outcomes import Refused
from components.recipes import Library
from components.records import iterate_records
from components.weights import weights_folder

NAME = "unit-agreement"
PEER = "units of MFCC, the same recordings and number of clusters"
PHONES = "phones"
FIGURES = {"pnmi": "PNMI", "phone_purity": "phone purity"}


def aligned(library: Library, recogniser: str, corpus: str, split: str, audio: str) -> list[dict[str, Any]]:
    """Held-out recordings with when which phone is said in them, as a recogniser hears it."""
    import torch

    from components.modalities.speech.aligning import phones_of
    from components.modalities.speech.recordings import as_waveform, decoded
    from components.modalities.speech.scoring import log_probs_of
    from components.scoring import open_model

    recipe = library.read("recipe", recogniser)
    encoder = library.read("encoder", recipe.encoder)
    fitted = paths.payload("fit", recipe.encoder)
    model = open_model(recipe.family, weights_folder(library, recogniser), fitted)
    found = []
    for record in iterate_records(corpus, [audio, encoder.column], splits={split}):
        wave = torch.from_numpy(as_waveform(decoded(record[audio])))[None]
        (ids,) = model.encoder.encode([record[encoder.column]])
        phones = phones_of(log_probs_of(model.network, wave)[0], ids, model.encoder.facts["symbols"])
        if phones != "[]":
            found.append({audio: record[audio], PHONES: phones})
    return found


def compare(library: Library, units: str, rows: list[dict[str, Any]], seeds: int) -> dict[str, list[dict[str, float]]]:
    """What the reports say of both kinds of units, for each seed."""
    section = library.read("encoder", units)
    if getattr(section.features, "model", None) is None:
        raise Refused(f"The encoder '{units}' has no units of a layer to compare. Name one with features of a layer.")
    mfcc = type(section).model_validate(section.model_dump() | {"features": {"kind": "mfcc"}})
    sections = {"ours": section, "theirs": mfcc}
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sections}
    for seed in range(seeds):
        for side, each in sections.items():
            own = each.model_copy(update={"seed": seed, "phones": PHONES})
            values = (
                record[section.column]
                for part in section.corpora
                for record in iterate_records(part.corpus, [section.column], splits={"train"})
            )
            with TemporaryDirectory() as place:
                report = modality("speech").fit(own, values, rows, weights_behind(library, units), Path(place))
            found[side].append({key: report[f"held_out_{key}"] for key in FIGURES})
    return found


def _stands_on(library: Library, recogniser: str) -> str:
    """Whose weights the recogniser began with: it may hear as the network hears whose units are judged."""
    start = library.read("recipe", recogniser).starts_from
    return f", which stands on {start}" if start else ""


def measure(
    *,
    units: str = "demo-units-layer",
    recogniser: str = "hubert-demo-ctc",
    corpus: str = "demo-speech-labelled",
    split: str = "test",
    seeds: int = 3,
) -> Result:
    """How well units agree with phones: those of a layer, and those of MFCC at the same number of clusters.

    Args:
        units: an encoder of units of a layer, whose network is trained.
        recogniser: the recipe, trained, that says when phones are said.
        corpus: of recordings with transcripts, not heard in training.
        split: of it.
        seeds: clusterings of each kind.
    """
    require_repeats(seeds)
    library = Library()
    section = library.read("encoder", units)
    rows = aligned(library, recogniser, corpus, split, section.column)
    if not rows:
        raise Refused(f"Split '{split}' of corpus '{corpus}' has no recording that can be aligned to its transcript.")
    found = compare(library, units, rows, seeds)
    table = []
    for key, words in FIGURES.items():
        ours, theirs = ([run[key] for run in found[side]] for side in ("ours", "theirs"))
        table.append(Row.compare(words, PEER, ours, theirs, at_least=1.0 if key == "pnmi" else None))
    note = (
        f"{number(section.num_clusters)} clusters, layer {section.features.layer} of {section.features.model}, "
        f"{number(len(rows))} held-out recordings of {corpus}, aligned by {recogniser}"
        f"{_stands_on(library, recogniser)}; {seeds} seeds."
    )
    command = (
        f"python -m benchmarks {NAME} --units {units} --recogniser {recogniser} --corpus {corpus} --split {split} "
        f"--seeds {seeds}"
    )
    return Result(NAME, command, table, [note], describe(), found)
