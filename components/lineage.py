"""From a state back to the raw bytes: follow `parents` from manifest to manifest."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from components import VERBS, paths
from components.manifest import Manifest, file_hash, read_manifest
from components.outcomes import Refused

LINEAGE_NAME = "lineage.json"
"""The file by which a published folder tells what it was made from."""
SEAL = "seal"
WEIGHTS_HASH = "weights_hash"
"""The detail in the manifest of somebody else's model that tells the hash of its layout's files."""
Node = tuple[str, str]
"""A verb and the name it worked on."""


@dataclass(frozen=True)
class Input:
    """What no stage made: a raw file, or a section of a recipe."""

    path: str
    content_hash: str


@dataclass(frozen=True)
class Lineage:
    """All that a state descends from."""

    states: tuple[Manifest, ...]
    """Manifests of the states, ancestors before descendants, the state itself last."""
    inputs: tuple[Input, ...]
    """What no stage made, sorted by path."""
    sections: dict[Node, dict[str, str]] = field(default_factory=dict)
    """State -> file of a recipe -> hash of the keys that its verb reads there; see `components.sections`."""
    obstacles: tuple[str, ...] | None = None
    """Why the model may not be released, by the licences of its data; None if nobody has judged, see
    `components.licences`."""
    vouched: tuple[str, ...] = ()
    """Licences that allow a release because a person says so, whatever their names tell."""

    def of(self, verb: str) -> list[Manifest]:
        """The states that a verb left, in order."""
        return [state for state in self.states if state.verb == verb]

    def made_from(self) -> "Lineage":
        """Without what the last state was only scored on."""
        made = {(state.verb, state.name): state for state in self.states}
        found: set[Node] = set()
        open_nodes = list(made)[-1:]
        while open_nodes:
            node = open_nodes.pop()
            if node not in found:
                found.add(node)
                parents = {state_of(path) for path in made[node].parents}
                open_nodes += [each for each in parents if each in made and each[0] != "evaluate"]
        return replace(self, states=tuple(made[node] for node in made if node in found))

    def without_judges(self) -> "Lineage":
        """Without what else judged the last state or its ancestors, and what that was made from: what a card tells."""
        made = {(state.verb, state.name): state for state in self.states}
        last = (self.states[-1].verb, self.states[-1].name)

        def judges(node: Node, parent: Node) -> bool:
            is_other = node[0] == "evaluate" and parent[0] == "package" and parent[1] != node[1]
            return is_other or (parent[0] == "evaluate" and node != last)

        kept, cut = _reached(made, [last], judges)
        others, _ = _reached(made, cut, lambda _node, _parent: False)
        return replace(self, states=tuple(made[node] for node in made if node in kept or node not in others))

    def licences(self) -> list[str]:
        """Every licence on the way, of states and of single records, sorted; those spelt alike once."""
        met = {state.licence for state in self.states}.union(
            *(state.details.get("licences", {}) for state in self.of("ingest"))
        )
        return sorted(set(spellings(met - {""}).values()))

    def as_rows(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        states = [
            {
                "verb": state.verb,
                "name": state.name,
                "payload_hash": state.payload_hash,
                "licence": state.licence,
                **({"licences": state.details["licences"]} if state.details.get("licences") else {}),
                "revisions": state.revisions,
                "counts": state.counts,
                "parents": state.parents,
                "sections": self.sections.get((state.verb, state.name), {}),
            }
            for state in self.states
        ]
        rows: dict[str, Any] = {"states": states, "inputs": [vars(row) for row in self.inputs]}
        if self.obstacles is not None:
            verdict = {"releasable": not self.obstacles, "obstacles": list(self.obstacles)}
            rows["release"] = verdict | {"vouched": list(self.vouched)}
        return rows


def _reached(
    made: dict[Node, Manifest], starts: Iterable[Node], is_cut: Callable[[Node, Node], bool]
) -> tuple[set[Node], set[Node]]:
    """The states that lead to some, those among them, and where ways that are cut begin."""
    found: set[Node] = set()
    cut: set[Node] = set()
    open_nodes = list(starts)
    while open_nodes:
        node = open_nodes.pop()
        if node not in found:
            found.add(node)
            for parent in {state_of(path) for path in made[node].parents}.intersection(made):
                if parent is not None and is_cut(node, parent):
                    cut.add(parent)
                elif parent is not None:
                    open_nodes.append(parent)
    return found, cut


def nearest_parents(lineage: Lineage) -> dict[Node, list[Node]]:
    """State -> the states it was made from, without those that another of them was made from too: the graph to draw."""
    made = {(state.verb, state.name): state for state in lineage.states}
    parents: dict[Node, list[Node]] = {}
    above: dict[Node, set[Node]] = {}
    for node, state in made.items():  # ancestors first
        own = [each for each in dict.fromkeys(state_of(path) for path in sorted(state.parents)) if each in made]
        further = set().union(*(above[each] for each in own if each))
        parents[node] = [each for each in own if each and each not in further]
        above[node] = further.union(each for each in own if each)
    return parents


def spellings(licences: Iterable[str]) -> dict[str, str]:
    """Each licence -> the spelling to show, the same for those that differ only in case or in space for hyphen.

    `CC BY-SA 4.0` and `cc-by-sa-4.0` are `CC-BY-SA-4.0` if that is among them: no spaces first, then capitals.
    """
    alike: dict[str, list[str]] = {}
    for licence in licences:
        alike.setdefault("-".join(licence.split()).casefold(), []).append(licence)
    return {licence: min(group, key=lambda each: (" " in each, each)) for group in alike.values() for licence in group}


def merged(counts: dict[str, int]) -> dict[str, int]:
    """Counts by licence, those spelt alike together."""
    shown = spellings(counts)
    found = dict.fromkeys(shown.values(), 0)
    for licence, count in counts.items():
        found[shown[licence]] += count
    return found


def state_of(path: str) -> tuple[str, str] | None:
    """The (verb, name) that left a path, such as `artifacts/fitted/spm-32k/encoder`; None for any other path."""
    verbs = {participle: verb for verb, participle in VERBS.items()}
    parts = PurePosixPath(path).parts
    root = paths.ARTIFACTS.parts
    if parts[: len(root)] != root or len(parts) < len(root) + 2 or parts[len(root)] not in verbs:
        return None
    return verbs[parts[len(root)]], parts[len(root) + 1]


def lineage_of(verb: str, name: str) -> Lineage:
    """Walk from a finished state to the raw bytes; see `lineage_from`."""
    return lineage_from(read_manifest(verb, name))


def lineage_from(manifest: Manifest) -> Lineage:
    """Walk from a manifest, whose state may not be finished yet, to the raw bytes.

    Raises:
        Refused: an ancestor is missing, or is not the one that its descendant was made from.
    """
    states: dict[tuple[str, str], Manifest] = {}
    inputs: dict[str, str] = {}
    _walk(manifest, states, inputs, seen=set())
    return Lineage(tuple(states.values()), tuple(Input(path, inputs[path]) for path in sorted(inputs)))


def _walk(
    manifest: Manifest,
    states: dict[tuple[str, str], Manifest],
    inputs: dict[str, str],
    seen: set[tuple[str, str]],
) -> None:
    seen.add((manifest.verb, manifest.name))
    for path, content_hash in sorted(manifest.parents.items()):
        node = state_of(path)
        if node is None:
            inputs[path] = content_hash
            continue
        parent = states.get(node) or read_manifest(*node)
        current = _content_of(parent, Path(path))
        # What earlier versions made with somebody else's weights tells the hash of the whole package at this path.
        if current is not None and content_hash not in (current, parent.payload_hash):
            raise Refused(
                f"{paths.state(manifest.verb, manifest.name)} was made from {path} with the content "
                f"{content_hash[:12]}, which is {current[:12]} now. "
                f"Run: hiraku {manifest.verb} {manifest.name}"
            )
        if node not in seen:
            _walk(parent, states, inputs, seen)
    states[manifest.verb, manifest.name] = manifest


def _content_of(state: Manifest, path: Path) -> str | None:
    """The hash of what lies at a path in a state; None where its manifest does not tell.

    Of somebody else's model a package tells that of its one layout's files, which alone decide what is made from it.
    """
    node = state.verb, state.name
    if path in (paths.payload(*node), paths.state(*node)):
        return state.payload_hash
    return state.details.get(WEIGHTS_HASH) if path.parent == paths.state(*node) else None


# ---- the file in a published folder ----------------------------------------------------------------------------------


def write_lineage(lineage: Lineage, folder: Path, own_names: Iterable[str]) -> None:
    """Write `lineage.json` into a layout: the states, the inputs, and the files that they led to.

    Args:
        lineage: of the package, whose own hash is not known before this file is written.
        folder: the layout, all of whose other files are there.
        own_names: files that tell of the model and are no part of it, such as the card.
    """
    files = {file.relative_to(folder).as_posix(): file_hash(file) for file in _files(folder)}
    rows = lineage.as_rows() | {"files": {path: files[path] for path in sorted(set(files) - set(own_names))}}
    text = json.dumps(rows | {SEAL: _seal(rows)}, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / LINEAGE_NAME).write_text(text + "\n", encoding="utf-8")


def read_lineage(folder: Path) -> Lineage:
    """What a published folder, or a package with such folders in it, was made from; needs nothing but the folder.

    Raises:
        Refused: there is no lineage in it, or it was changed: it does not agree with itself or with the files beside.
    """
    places = [place for place in (folder, *sorted(folder.glob("*/"))) if (place / LINEAGE_NAME).is_file()]
    if not places:
        raise Refused(
            f"{folder} has no {LINEAGE_NAME}, so it does not tell what it was made from. Name a folder that "
            "`hiraku package` made, or one downloaded from a repository that `hiraku publish` filled."
        )
    path = places[0] / LINEAGE_NAME
    try:
        rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lineage = from_rows(rows)
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is no lineage ({type(error).__name__}: {error}). Download the folder again.") from error
    if problem := _disagreement(rows, lineage, places[0]):
        raise Refused(f"{path} was changed after it was made: {problem}. Do not trust the folder: get it again.")
    return lineage


def from_rows(rows: dict[str, Any]) -> Lineage:
    """What `Lineage.as_rows` gave, read back and believed."""
    release = rows.get("release")
    return Lineage(
        tuple(_state(row) for row in rows["states"]),
        tuple(Input(**row) for row in rows["inputs"]),
        {(row["verb"], row["name"]): row.get("sections", {}) for row in rows["states"]},
        None if release is None else tuple(release["obstacles"]),
        () if release is None else tuple(release["vouched"]),
    )


def _state(row: dict[str, Any]) -> Manifest:
    known = ("verb", "name", "revisions", "parents", "counts", "licence", "payload_hash")
    details = {"licences": row["licences"]} if row.get("licences") else {}
    return Manifest(**{key: row[key] for key in known}, details=details)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _seal(rows: dict[str, Any]) -> str:
    """SHA-256 of all that a lineage says: a slip is found; who means to deceive is found by the registry's hash."""
    kept = {key: value for key, value in rows.items() if key != SEAL}
    return hashlib.sha256(json.dumps(kept, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _disagreement(rows: dict[str, Any], lineage: Lineage, folder: Path) -> str:
    """Where a lineage contradicts itself, or the files beside it; empty if nowhere."""
    if rows.get(SEAL) != _seal(rows):
        return f"its seal is {str(rows.get(SEAL))[:12]}, and what it says has {_seal(rows)[:12]}"
    made = {(state.verb, state.name): state for state in lineage.states}
    for state in lineage.states:
        for path, content_hash in state.parents.items():
            node = state_of(path)
            if node in made and PurePosixPath(path) == paths.payload(*node) and made[node].payload_hash != content_hash:
                return f"{state.verb} {state.name} was made from another {node[0]} {node[1]} than the one it tells of"
    for name, digest in rows.get("files", {}).items():
        if not (folder / name).is_file() or file_hash(folder / name) != digest:
            return f"{name} is not the file it tells of"
    return ""


# ---- a picture -------------------------------------------------------------------------------------------------------


def mermaid(lineage: Lineage) -> str:
    """The graph of states and raw inputs, as GitHub and the Hub draw it from a block of Mermaid."""
    raw = {each.path: f"i{place}" for place, each in enumerate(lineage.inputs)}
    made = {(state.verb, state.name): f"s{place}" for place, state in enumerate(lineage.states)}
    lines = ["graph TD"]
    lines += [f'  {raw[each.path]}[("{_words(each.path, each.content_hash)}")]' for each in lineage.inputs]
    nearest = nearest_parents(lineage)
    for state in lineage.states:
        own = made[state.verb, state.name]
        lines.append(f'  {own}["{_words(f"{state.verb} {state.name}", state.payload_hash)}"]')
        parents = [raw[path] for path in sorted(state.parents) if path in raw]
        parents += [made[node] for node in nearest[state.verb, state.name]]
        lines += [f"  {parent} --> {own}" for parent in parents]
    return "\n".join(lines)


def _words(name: str, content_hash: str) -> str:
    name = name.replace('"', "#quot;")
    return f"{name}<br/>{content_hash[:12]}" if content_hash else name
