"""Which licences of data forbid releasing a model made from them: the one place that says so.

A licence is judged by its name. Known open ones allow a release; non-commercial ones allow a non-commercial model only;
those that forbid derivatives allow none; any other name is unknown and allows none, until a person who has read the
terms vouches for it: for a corpus by `releasable: true`, for a model by `package.allowed_licences`. The verdict counts
all that a model was made from, its parents' data too, and not what it was only scored on.
"""

import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.lineage import LINEAGE_NAME, Lineage, merged, read_lineage
from components.manifest import Manifest
from components.outcomes import Refused

OPEN = frozenset(
    {"apache-2.0", "mit", "isc", "zlib", "ncsa", "postgresql", "unlicense", "wtfpl", "afl-3.0", "artistic-2.0"}
    | {"bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "ecl-2.0", "ms-pl", "ofl-1.1"}
    | {"cc0-1.0", "pddl", "odc-by", "odc-by-1.0", "odbl", "odbl-1.0", "etalab-2.0"}
    | {f"cc-by-{version}" for version in ("2.0", "2.1", "2.5", "3.0", "4.0")}
    | {f"cc-by-sa-{version}" for version in ("2.0", "2.1", "2.5", "3.0", "4.0")}
    | {"cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2"}
    | {"gfdl", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mpl-2.0"}
    | {"osl-3.0", "0bsd", "mit-0", "psf-2.0", "cc-pddc", "public-domain", "unicode-3.0"}
)
"""Open in the sense of opendefinition.org: anybody may use, change and pass on, for any purpose.

That a Hub knows a licence by name says nothing of this: those of the Llama, Gemma and OpenRAIL models restrict use.
"""
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[- ](?:use |purposes? )?only|academic[- ]use")
NO_DERIVATIVES = re.compile(r"\bnd\b|no-?deriv")
RECIPE_KEY = "package.allowed_licences"
HANDED_ON = re.compile(r"open-?rail|\brail\b")
"""Licences whose text goes to whoever gets the weights or what is made from them: CreativeML OpenRAIL-M says so in its
paragraph 4b, and asks in 4a that the uses it forbids stay forbidden."""
TEXT_NAME = "LICENSE"
"""The text of a licence in a package, and beside weights that are trained from such a model."""
TEXT_NAMES = re.compile(r"licen[cs]e(\.md|\.txt)?", re.IGNORECASE)


def plain(licence: str) -> str:
    """A name in the spelling that names are compared in: `CC BY-SA 4.0` is `cc-by-sa-4.0`."""
    return "-".join(licence.split()).casefold()


def obstacle(licence: str, own: str, vouched: Collection[str] = ()) -> str:
    """Why data under a licence must not become a released model; empty if they may.

    Args:
        licence: of the data; `A or B` allows what one of them does, `A and B` what both do.
        own: of the model: a non-commercial one may be made from non-commercial data, and any from data under its terms.
        vouched: licences whose terms a person has read and found to allow it.
    """
    if plain(licence) in {plain(each) for each in vouched}:
        return ""
    for word, judge in ((r"\s+or\s+", min), (r"\s+and\s+", max)):
        parts = re.split(word, licence, flags=re.IGNORECASE)
        if len(parts) > 1:
            return judge((obstacle(part, own, vouched) for part in parts), key=len)
    name = plain(licence)
    if NO_DERIVATIVES.search(name):
        return "forbids derivatives"
    if NON_COMMERCIAL.search(name):
        return "" if NON_COMMERCIAL.search(plain(own)) else "forbids commercial use"
    return "" if name in OPEN or name == plain(own) else "is not known to allow a release"


def judged(lineage: Lineage, own: str, allowed: list[str], corpora: dict[str, Any]) -> Lineage:
    """A lineage with the verdict on releasing what it leads to.

    Args:
        lineage: of a package.
        own: the licence of its recipe.
        allowed: `package.allowed_licences` of its recipe.
        corpora: name -> section, of every corpus that it was made from.
    """
    reasons: list[str] = []
    vouched = {plain(each): each for each in allowed}
    for state in lineage.made_from().states[:-1]:
        if state.verb == "ingest":
            found, said = _of_corpus(state, own, allowed, getattr(corpora.get(state.name), "releasable", None))
            reasons += found
            vouched |= {plain(each): each for each in said}
        elif state.verb == "package":
            reasons += of_model(state, own, allowed)
    return replace(lineage, obstacles=tuple(dict.fromkeys(reasons)), vouched=tuple(sorted(vouched.values())))


def _of_corpus(state: Manifest, own: str, allowed: list[str], releasable: bool | None) -> tuple[list[str], list[str]]:
    """What forbids a release, and the licences that the corpus vouches for."""
    if releasable is False:
        return [f"corpus '{state.name}' says that no model made from it may be released (releasable: false)"], []
    reasons, vouched = [], []
    for licence, count in _licences(state).items():
        why = obstacle(licence, own, allowed)
        if not why:
            continue
        if releasable and "known" in why:  # a person's word is about what the name does not tell, not against it
            vouched.append(licence)
            continue
        reasons.append(f"{count} of corpus '{state.name}' under {licence or 'no licence'}, which {why}")
    return reasons, vouched


def _licences(state: Manifest) -> dict[str, str]:
    """Licence of records -> how many records, in words; of what made them too, such as a translator."""
    counts = merged(state.details.get("licences", {})) or {state.licence: 0}
    found = {
        licence: f"{count:,} record{'s'[: count != 1]}" if count else "the records" for licence, count in counts.items()
    }
    return {each: f"the records made by {name}" for name, each in state.details.get("engines", {}).items()} | found


def of_model(state: Manifest, own: str, allowed: list[str]) -> Iterator[str]:
    """What forbids to release a model that is made from somebody else's: its licence, and what it says itself."""
    if why := obstacle(state.licence, own, allowed):
        yield f"model '{state.name}' is under {state.licence}, which {why}"
    yield from (f"model '{state.name}': {reason}" for reason in state.details.get("obstacles", ()))


# ---- the text of a licence -------------------------------------------------------------------------------------------


def must_go_along(licence: str) -> bool:
    """Whether the text of a licence goes to whoever gets the weights."""
    return bool(HANDED_ON.search(plain(licence)))


def text_in(folder: Path) -> Path | None:
    """The file of a folder that holds the text of a licence, if there is one with anything in it."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and TEXT_NAMES.fullmatch(path.name))
    return next((path for path in found if path.read_text(encoding="utf-8", errors="replace").strip()), None)


def hand_on(sources: Iterable[Path], folder: Path) -> None:
    """Copy the text of the first folder that has one."""
    for source in sources:
        if source.is_dir() and (text := text_in(source)) is not None:
            shutil.copyfile(text, folder / TEXT_NAME)
            return


def require_text(name: str, licence: str, folder: Path) -> None:
    """Refuse weights without the text of a licence that must go along with them.

    Args:
        name: the recipe.
        licence: its own.
        folder: where the text must lie, beside the weights that a person brought or that were trained.

    Raises:
        Refused: as it says.
    """
    if must_go_along(licence) and folder.is_dir() and text_in(folder) is None:
        raise Refused(
            f"Recipe '{name}' is under {licence}, whose text must go to everybody who gets the weights or what is made "
            f"from them, but {folder} has no {TEXT_NAME}. Save the text that you accepted on the page of the model to "
            f"start from as {TEXT_NAME} in its folder, and package that one again."
        )


def inherited(source: Path) -> list[str]:
    """What a folder that this project packaged says against its release; nothing of a folder from elsewhere."""
    return list(read_lineage(source).obstacles or ()) if (source / LINEAGE_NAME).is_file() else []


def require_releasable(name: str, layout: Path) -> None:
    """Refuse to publish what may not be released.

    Args:
        name: the recipe, for messages.
        layout: the folder that would be published, whose lineage tells.

    Raises:
        Refused: with every reason, or because nobody has judged.
    """
    obstacles = read_lineage(layout).obstacles
    if obstacles is None:
        raise Refused(
            f"The package of '{name}' does not tell whether the licences of its data allow a release, expected a "
            f"verdict in lineage.json. Nothing was sent. Package it again: hiraku release {name}"
        )
    if obstacles:
        raise Refused(
            "\n  ".join([f"'{name}' may not be released (releasable: false). Nothing was sent:", *obstacles])
            + f"\nTake those records out of its corpora and train again; or, if a person has read the terms and they "
            f"allow it, name the licence under {RECIPE_KEY}, or say releasable: true in the corpus, and run: "
            f"hiraku release {name}"
        )
