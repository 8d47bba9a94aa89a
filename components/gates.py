"""What must hold before a version becomes the champion: each gate looks at the registered files alone, and says why."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml

from components.card import CARD_NAME, LINEAGE_NAME, OWN_NAMES
from components.comparison import Comparison, PairedTest
from components.contamination import SHARE
from components.licences import RECIPE_KEY, TEXT_NAME, obstacle
from components.lineage import Lineage, from_rows
from components.loadback import load_back
from components.manifest import MANIFEST_NAME, tree_hash
from components.outcomes import Refused
from components.registry import DATA_LICENCES, Version
from components.scoring import Scores
from components.wording import one_line
from models import part_of

LIBRARIES = ("torch", "transformers", "diffusers")
METADATA = ("license", "language", "pipeline_tag")


@dataclass(frozen=True)
class Gate:
    """What one gate found."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Candidate:
    """All that the gates look at."""

    name: str
    recipe: Any
    version: Version
    folder: Path
    """The version's files, fetched from the registry: a package by layouts, manifest included."""
    comparison: Comparison
    scores: Scores | None
    proof: str = ""
    """What `proof_of_loading` said when these very files were loaded before; empty if they were not."""

    @property
    def layouts(self) -> list[Path]:
        """The folders as they stand on a Hub."""
        return [self.folder / name for name in self.recipe.package.layouts]


def check(candidate: Candidate) -> list[Gate]:
    """Ask every gate; all are asked, so that a person sees everything at once."""
    return [ask(name, candidate) for name in GATES]


def ask(name: str, candidate: Candidate) -> Gate:
    """Ask one gate."""
    try:
        passed, reason = GATES[name](candidate)
    except Refused as error:
        passed, reason = False, str(error)
    return Gate(name, passed, one_line(reason, 400))


def proof_of_loading(version: Version) -> str:
    """Names the files and the libraries that loaded them, for a tag of the version: what was loaded once is known."""
    return " ".join([version.content_hash, *(f"{name}-{installed(name)}" for name in LIBRARIES)])


# ---- the gates -------------------------------------------------------------------------------------------------------


def _no_task_worse(candidate: Candidate) -> tuple[bool, str]:
    tolerated = candidate.recipe.promote.tolerated_loss
    lost = [test for test in candidate.comparison.tests if _is_lost(test, tolerated.get(test.task, 0.0))]
    reasons = [
        f"{test.task} is worse by {-test.gain:.4g} {test.measure.name} (95 % interval {-test.high:.4g} to "
        f"{-test.low:.4g}, tolerated {tolerated.get(test.task, 0.0):g})"
        for test in lost
    ]
    reasons += [
        f"{each.task} has no {each.measure.name} of the challenger, and the champion has it: the notes of its scores "
        "say why"
        for each in candidate.comparison.unpaired
        if each.is_lost
    ]
    if reasons:
        return False, "; ".join(reasons)
    if not candidate.comparison.tests:
        return True, "there is no champion to compare with"
    return True, f"none of {len(candidate.comparison.tests)} measures is worse beyond noise and promote.tolerated_loss"


def _is_lost(test: PairedTest, tolerated: float) -> bool:
    """Whether a loss is more than noise, and surely more than is tolerated."""
    return test.verdict == "worse" and (tolerated <= 0 or -test.high >= tolerated)


def _verdict(candidate: Candidate) -> tuple[bool, str]:
    wanted, verdict = candidate.recipe.promote.min_verdict, candidate.comparison.verdict
    if verdict == "first" or wanted == "cannot-tell":
        return True, f"the recipe asks for no more than that nothing is lost (promote.min_verdict: {wanted})"
    if any(test.verdict == "better" for test in candidate.comparison.tests):
        return True, "at least one task is better beyond noise"
    sizes = ", ".join(f"{test.task} has {test.num_items}" for test in candidate.comparison.tests)
    return False, f"promote.min_verdict is better, but no task improved beyond noise ({sizes} items)"


def _licences(candidate: Candidate) -> tuple[bool, str]:
    lineages = _lineages(candidate)
    if stated := [reason for lineage in lineages for reason in lineage.obstacles or ()]:
        return False, f"packaged as releasable: false: {'; '.join(dict.fromkeys(stated))}"
    own = candidate.recipe.licence
    told: list[str] = json.loads(candidate.version.tags.get(DATA_LICENCES, "[]"))
    found = sorted(set(told).union(*(lineage.made_from().licences() for lineage in lineages)))
    vouched = [*candidate.recipe.package.allowed_licences, *(each for row in lineages for each in row.vouched)]
    if barred := [each for each in found if obstacle(each, own, vouched)]:
        return False, (
            f"made from data under {', '.join(barred)}, which may not allow a release under {own}. If their terms do, "
            f"name them under {RECIPE_KEY} and package it again"
        )
    return True, f"{', '.join(found) or 'no data licence recorded'} allow a release under {own}"


def _lineages(candidate: Candidate) -> list[Lineage]:
    places = [layout / LINEAGE_NAME for layout in candidate.layouts]
    return [from_rows(json.loads(place.read_text(encoding="utf-8"))) for place in places if place.is_file()]


def _card(candidate: Candidate) -> tuple[bool, str]:
    problems = [problem for layout in candidate.layouts for problem in _card_problems(candidate, layout / CARD_NAME)]
    if problems:
        return False, f"{'; '.join(problems)}. Mend the recipe's section 'package' and release again"
    return True, f"all of {', '.join(candidate.recipe.promote.card_sections)}, and metadata for a Hub"


def _card_problems(candidate: Candidate, path: Path) -> list[str]:
    if not path.is_file():
        return [f"{path.name} is missing"]
    text = path.read_text(encoding="utf-8")
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    try:
        metadata = yaml.safe_load(head) if text.startswith("---\n") else None
    except yaml.YAMLError:
        metadata = None
    known = metadata if isinstance(metadata, dict) else {}
    problems = [f"the metadata of {path.name} have no '{key}'" for key in METADATA if not known.get(key)]
    filled = {title.strip(): rest.strip() for title, _, rest in (part.partition("\n") for part in _sections(body))}
    wanted = candidate.recipe.promote.card_sections
    return problems + [f"{path.name} has no section '{title}' with text" for title in wanted if not filled.get(title)]


def _sections(body: str) -> list[str]:
    return f"\n{body}".split("\n## ")[1:]


def _loads(candidate: Candidate) -> tuple[bool, str]:
    if candidate.proof == proof_of_loading(candidate.version):
        return True, f"loaded before in a fresh process: {candidate.proof.partition(' ')[2]}"
    how = part_of(candidate.recipe.family, "release")
    asked = how.probes(candidate.recipe.package.example_prompt)
    for layout in candidate.layouts:
        with tempfile.TemporaryDirectory() as temporary:
            answer, _ = load_back(candidate.recipe.family, layout, asked, Path(temporary))
        strange = [name for name, found in answer.items() if found.is_floating_point() and not found.isfinite().all()]
        if strange:
            return False, f"{layout.name} loads, but {strange[0]} are not finite"
    return True, f"loaded in a fresh process without a Hub: {proof_of_loading(candidate.version).partition(' ')[2]}"


def _contamination(candidate: Candidate) -> tuple[bool, str]:
    bound = candidate.recipe.promote.max_contamination
    totals = candidate.scores.totals if candidate.scores else {}
    measured = {task: values[SHARE] for task, values in totals.items() if SHARE in values}
    if over := {task: share for task, share in measured.items() if share > bound}:
        shares = ", ".join(f"{share:.2%} of {task}" for task, share in over.items())
        return False, f"{shares} stand in the training data, at most {bound:.2%} may (promote.max_contamination)"
    if not measured:
        return True, "not measured on these tasks"
    return True, ", ".join(f"{share:.2%} of {task}" for task, share in measured.items())


def _files(candidate: Candidate) -> tuple[bool, str]:
    digest = tree_hash(candidate.folder, without=MANIFEST_NAME)
    if digest != candidate.version.content_hash:
        return False, (
            f"the registry holds files with the content {digest[:12]}, but the version is "
            f"{candidate.version.content_hash[:12]}: somebody has changed them. Release again"
        )
    for layout in candidate.layouts:
        expected = set(part_of(candidate.recipe.family, "schema").LAYOUTS[layout.name])
        found = {file.relative_to(layout).as_posix() for file in layout.rglob("*") if file.is_file()}
        missing, strange = sorted(expected - found), sorted(found - expected - OWN_NAMES - {TEXT_NAME})
        if missing or strange:
            return (
                False,
                f"{layout.name} lacks {', '.join(missing) or 'nothing'} and has {', '.join(strange) or 'only'}",
            )
    return _size(candidate)


def _size(candidate: Candidate) -> tuple[bool, str]:
    megabytes = sum(file.stat().st_size for file in candidate.folder.rglob("*") if file.is_file()) / 1e6
    bound = candidate.recipe.promote.max_megabytes
    if bound is not None and megabytes > bound:
        return False, f"{megabytes:,.1f} MB, at most {bound:,.1f} may be (promote.max_megabytes)"
    return True, f"{megabytes:,.1f} MB, every file of its layouts and nothing else, content as registered"


GATES: dict[str, Callable[[Candidate], tuple[bool, str]]] = {
    "no task worse": _no_task_worse,
    "verdict": _verdict,
    "data licences": _licences,
    "card": _card,
    "loads": _loads,
    "contamination": _contamination,
    "files and size": _files,
}
"""Name -> gate, in the order in which they are shown."""
