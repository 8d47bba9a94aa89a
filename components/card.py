"""The card of a release: a README.md whose every number comes from a manifest, a recipe, a score file or a curve.

Metadata are in the form that the Hugging Face Hub reads. Nothing here depends on the time or the machine.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components import paths
from components.card_metadata import metadata
from components.card_scores import evaluation
from components.corpora import scored_on
from components.curve import LOSS_UNIT, Line, draw
from components.drawn import GRID_NAME
from components.licences import TEXT_NAME
from components.lineage import LINEAGE_NAME, Lineage, merged, mermaid, write_lineage
from components.manifest import Manifest
from components.markdown import fenced, label, number, short, table
from components.scoring import parsed
from models import part_of

CARD_NAME = "README.md"
CURVE_NAME = "curve.svg"
OWN_NAMES = frozenset({CARD_NAME, CURVE_NAME, GRID_NAME, LINEAGE_NAME})  # what stands in a package besides its layout

# Of what an encoder reports of text it was not fitted on, what tells a reader how well it fits.
HELD_OUT_COUNTS = {"held_out/characters_per_token", "held_out/unknown_tokens"}

CITATION = """\
@inproceedings{sawada2024release,
  title     = {Release of Pre-Trained Models for the {J}apanese Language},
  author    = {Sawada, Kei and Zhao, Tianyu and Shing, Makoto and Mitsui, Kentaro and Kaga, Akio and Hono, Yukiya and
               Wakatsuki, Toshiaki and Mitsuda, Koh},
  booktitle = {Proceedings of the 2024 Joint International Conference on Computational Linguistics, Language
               Resources and Evaluation (LREC-COLING 2024)},
  pages     = {13898--13905},
  year      = {2024},
  url       = {https://arxiv.org/abs/2404.01657}
}

@software{hiraku,
  title     = {Hiraku: training, evaluating and openly releasing pre-trained models for a language},
  author    = {{Hiraku maintainers}},
  license   = {Apache-2.0}
}"""


@dataclass(frozen=True)
class Release:
    """All that a card tells of."""

    name: str
    recipe: Any
    lineage: Lineage
    scores: dict[str, dict[str, float]]
    """Task -> metric -> value."""
    num_parameters: int
    class_name: str
    """The class of transformers that computes it."""
    curve: list[Line]
    target: str
    """What `dvc repro` takes to make the package again."""
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task -> metric -> standard error of its value, where single items tell it."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Task -> what could not be scored, in words."""
    curve_unit: str = LOSS_UNIT
    """What the curve's lines count."""
    has_licence_text: bool = False
    """Whether the text of the licence lies beside the card."""
    grid: str = ""
    """SVG of what it draws; empty if it draws nothing."""
    training_flops: float | None = None
    """Of forward and backward passes; None where the family has no such arithmetic."""

    def hub_names(self, layout: str) -> tuple[str, str]:
        """The Hub's names of the library that loads a layout, and of what the model does."""
        library, tag = part_of(self.recipe.family, "schema").HUB_NAMES[layout]
        return library, tag

    @property
    def own(self) -> Lineage:
        """What it was made from and scored on, without how its judges were made."""
        return self.lineage.without_judges()

    @property
    def architecture(self) -> str:
        """The kind of network within its family."""
        return str(getattr(self.recipe.network, "architecture", self.recipe.family))

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Task -> its section, as it was when it was scored."""
        return {task: section for state in self.own.of("evaluate") for task, section in state.details["tasks"].items()}

    @property
    def training(self) -> Any:
        """The section that made the weights."""
        return self.recipe.align or self.recipe.pretrain


# ---- sections --------------------------------------------------------------------------------------------------------


def _network(release: Release) -> str:
    hidden = {"architecture", "expected_num_parameters"}
    section = release.recipe.network.model_dump(exclude_none=True, exclude=hidden)
    rows = [
        ("Architecture", f"{release.architecture} (`{release.class_name}`)"),
        ("Parameters", number(release.num_parameters)),
        *((label(key), number(value)) for key, value in section.items()),
    ]
    for state in release.own.of("fit"):
        encoder = state.details.get("encoder", {})
        left_out = {"kind", "modality", "column", "num_threads"}
        plain = {key: value for key, value in encoder.items() if key not in left_out and not isinstance(value, list)}
        name = "Encoder" if state.name == release.recipe.encoder else "Encoder on the way"
        rows.append((name, f"`{state.name}`, {encoder.get('kind', '')}: {number(plain)}".removesuffix(": ")))
        fits = {key: value for key, value in state.counts.items() if key in HELD_OUT_COUNTS}
        rows += [(label(key).replace("Held out", "Held-out"), number(value)) for key, value in sorted(fits.items())]
    return table(("", ""), rows)


def _uses(release: Release, corpus: str) -> str:
    """What a corpus served for in this release."""
    records = paths.payload("ingest", corpus).as_posix()
    by_verb = {"shard": "training", "fit": "encoder"}
    uses = [word for verb, word in by_verb.items() if any(records in row.parents for row in release.own.of(verb))]
    # What a model was trained on is a parent of its scores too: items are looked for in it.
    if corpus in scored_on(parsed(section) for section in release.tasks.values()):
        uses.append("evaluation")
    return ", ".join(uses)


def _data(release: Release) -> str:
    accepted = {state.name: state.counts for state in release.lineage.of("validate")}
    rows = []
    for state in release.own.of("ingest"):
        kept = accepted.get(state.name, {})
        columns = (state.counts.get("num_rows"), state.counts.get("num_rejects"), kept.get("num_accepted"))
        splits = (kept.get(f"num_{split}") for split in ("train", "valid", "test"))
        numbers = ("" if value is None else number(value) for value in (*columns, *splits))
        rows.append((f"`{state.name}`", _uses(release, state.name), *numbers, state.licence))
    head = ("Corpus", "Used for", "Rows read", "Left out", "Accepted", "Train", "Valid", "Test", "Licence")
    parts = [table(head, rows)]
    for state in release.own.of("ingest"):
        parts += _corpus(state)
    for state in release.own.of("shard"):
        parts.append(f"What the encoder made of it, `{state.name}`:")
        parts.append(table(("", ""), [(label(key), number(value)) for key, value in sorted(state.counts.items())]))
    return "\n\n".join(parts)


def _corpus(state: Manifest) -> list[str]:
    """Where one corpus comes from, the licences of its records, and what was left out of it."""
    origin = ", ".join(f"`{path}` (SHA-256 {short(content)})" for path, content in sorted(state.parents.items()))
    parts = [f"`{state.name}` was read from {origin}."]
    if made := state.details.get("translation"):
        engine = ", ".join(f"{key} {value}" for key, value in made["engine"].items())
        doubtful = sum(made["suspicious"].values())
        parts.append(
            f"It is `{made['corpus']}` translated by a machine ({engine}): {number(made['pairs'])} texts, "
            f"{number(doubtful)} marks of doubt in them (too long, too short, copied or repeated)."
        )
    if said := state.details.get("speech"):
        engine = ", ".join(f"{key} {value}" for key, value in said["engine"].items())
        parts.append(
            f"It is `{said['corpus']}` read aloud by a machine ({engine}): {number(said['seconds'] / 60)} minutes by "
            f"{number(said['speakers'])} speakers. {said['attribution']}"
        )
    licences, rejects = merged(state.details.get("licences", {})), state.details.get("rejects", {})
    if licences:
        parts.append(table(("Licence of records", "Records"), _ranked(licences)))
    if sources := state.details.get("sources"):
        parts.append(table(("Source of records", "Records"), _ranked(sources)))
    if rejects:
        parts.append(table(("Left out because", "Rows"), _ranked(rejects)[:12]))
    return parts


def _ranked(counts: dict[str, int]) -> list[tuple[str, str]]:
    """The largest first, equal ones by name."""
    return [(key, number(count)) for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _mixed(shards: Any) -> str:
    """Shards with their part in a mixture."""
    part = f"× {number(shards.weight)}" if shards.share is None else f"{shards.share:.1%}"
    return f"`{shards.shards}` {part}"


def _procedure(release: Release) -> str:
    training = release.training
    optimizer, rate = training.optimizer, training.learning_rate
    samples = training.samples.model_dump()
    settings = training.objective.model_dump(exclude={"kind"}, exclude_none=True)
    schedule = f"{rate.kind}, {number(rate.warmup_steps)} warm-up steps"
    for key in ("hold_steps", "decay_steps"):
        if steps := getattr(rate, key):
            schedule += f", {number(steps)} {key.replace('_', ' ')}"
    if rate.kind != "constant":
        schedule += f", down to {number(rate.final_share)} of the peak"
    rows: list[tuple[str, str]] = [
        ("Objective", f"{training.objective.kind}: {number(settings)}" if settings else training.objective.kind),
        ("Start", f"weights of `{release.recipe.starts_from}`" if release.recipe.starts_from else "random"),
        ("Optimiser steps", number(training.num_steps)),
        *((label(key), number(value)) for key, value in samples.items() if value != {}),
    ]
    if "batch_tokens" in samples:
        rows.append(("Tokens seen", number(training.num_steps * samples["batch_tokens"])))
    rows += [
        ("Data mixture", ", ".join(_mixed(each) for each in training.shards)),
        ("Optimiser", f"AdamW, betas {optimizer.beta1} and {optimizer.beta2}, epsilon {optimizer.epsilon:g}"),
        ("Weight decay", f"{number(optimizer.weight_decay)}, not on biases and norms"),
        ("Gradient clipping", f"norm {number(optimizer.clip_norm)}"),
        ("Peak learning rate", f"{optimizer.learning_rate:g}"),
        ("Schedule", schedule),
        ("Precision", training.precision),
        ("Seed", number(training.seed)),
    ]
    return table(("", ""), rows)


def _curve(release: Release) -> str:
    """The drawing and its ends in words."""
    if not release.curve:
        return ""
    ends = [
        f"{line.label} went from {number(line.points[0][1])} at step {number(line.points[0][0])} to "
        f"{number(line.points[-1][1])} at step {number(line.points[-1][0])}"
        for line in release.curve
    ]
    title = "Loss" if release.curve_unit == LOSS_UNIT else "Reward and KL"
    loss = getattr(release.training.objective, "LOSS", "Loss in nats")
    told = loss if release.curve_unit == LOSS_UNIT else "Reward, and KL per answer in nats"
    return f"![{title} over optimiser steps]({CURVE_NAME})\n\n{told}: {'; '.join(ends)}."


def _compute(release: Release) -> str:
    """What training takes by arithmetic; what it took differs from run to run, so it cannot stand in a package."""
    training = release.training
    samples = training.samples.model_dump()
    took = []
    if "batch_tokens" in samples:
        took.append(f"{number(training.num_steps * samples['batch_tokens'])} tokens seen")
    if release.training_flops is not None:
        took.append(f"{release.training_flops:.3g} FLOPs of forward and backward passes")
    sums = f"Training is {' and '.join(took)}, by arithmetic on the recipe. " if took else ""
    return (
        f"{sums}Hours, devices and power differ from run to run while the files here do not, so they stand with the "
        "run of the training on the tracking server."
    )


def _recipe(release: Release) -> str:
    """The recipe with its defaults, as far as training and evaluation read it."""
    keys = {"family", "language", "licence", "network", "encoder", "starts_from", "pretrain", "align", "evaluate"}
    plain = release.recipe.model_dump(mode="json", exclude_none=True, include=keys)
    text = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=100)
    return f"<details><summary>The whole recipe, with its defaults</summary>\n\n{fenced(text, 'yaml')}\n\n</details>"


def _warning(release: Release) -> str:
    """What whoever holds a package that may not be released must know first."""
    if not release.lineage.obstacles:
        return ""
    reasons = "\n".join(f"> - {reason}" for reason in release.lineage.obstacles)
    return f"> **Not for release** (releasable: false), for the licences of what it was made from:\n>\n{reasons}"


def _provenance(release: Release) -> str:
    states = release.lineage.states[:-1]
    rows = [(state.verb, f"`{state.name}`", short(state.payload_hash), state.licence) for state in states]
    raw = [("raw data", f"`{row.path}`", short(row.content_hash), "") for row in release.lineage.inputs]
    met = ", ".join(release.lineage.licences())
    vouched = ", ".join(release.lineage.vouched)
    word = f" That {vouched} allow a release is the word of a person, not of their names." if vouched else ""
    text = f"; [its text]({TEXT_NAME}) goes to whoever you give them to" if release.has_licence_text else ""
    return "\n\n".join(
        [
            f"The weights are released under {release.recipe.licence}{text}. Licences met on the way: {met}.{word}",
            f"Everything this model was made from, by the SHA-256 of its content (in full in `{LINEAGE_NAME}`):",
            table(("Stage", "Name", "SHA-256", "Licence"), raw + rows),
            fenced(mermaid(release.lineage), "mermaid"),
        ]
    )


def _limits(release: Release, layout: str) -> str:
    """What all networks of a family cannot do, where the family says it."""
    told = getattr(part_of(release.recipe.family, "release"), "limits", None)
    return str(told(release.recipe.network, layout)) if told else ""


def render(release: Release, layout: str, program: str, printed: str) -> str:
    """The text of README.md.

    Args:
        release: what it tells of.
        layout: the layout it stands in.
        program: its example.
        printed: what the example printed when it was run.
    """
    package = release.recipe.package
    sections = [
        metadata(release, layout),
        f"# {package.title}",
        package.summary,
        _warning(release),
        f"![Generated pictures by their prompts]({GRID_NAME})" if release.grid else "",
        _network(release),
        "## Use",
        fenced(program, "python"),
        "It printed, when this package was made and loaded back in a fresh process without a Hub:",
        fenced(printed),
        "## Training data",
        _data(release),
        "## Training",
        _procedure(release),
        _curve(release),
        "### Compute",
        _compute(release),
        "## Evaluation",
        evaluation(release),
        "## Intended use",
        package.intended_use,
        "## Limits",
        package.limits,
        _limits(release, layout),
        "## Licence and provenance",
        _provenance(release),
        "## Reproduction",
        "In a clone of Hiraku that holds the raw data above:",
        fenced(f"dvc repro {release.target}", "sh"),
        "Stages of text give the same bytes on any machine, training the same bits on one machine and one device.",
        _recipe(release),
        "## Citation",
        "The recipes re-create the models of this paper; the software is cited below it.",
        fenced(CITATION, "bibtex"),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def write_card(release: Release, layout: str, program: str, printed: str, folder: Path) -> None:
    """Write README.md and what it shows into a package."""
    if release.curve:
        drawing = draw(release.curve, "optimiser steps", release.curve_unit)
        (folder / CURVE_NAME).write_text(drawing, encoding="utf-8")
    if release.grid:
        (folder / GRID_NAME).write_text(release.grid, encoding="utf-8")
    (folder / CARD_NAME).write_text(render(release, layout, program, printed), encoding="utf-8")
    write_lineage(release.lineage, folder, OWN_NAMES)
