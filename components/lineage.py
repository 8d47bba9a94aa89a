"""From a state back to the raw bytes: follow `parents` from manifest to manifest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from components import VERBS, paths
from components.manifest import Manifest, read_manifest
from components.outcomes import Refused


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

    def of(self, verb: str) -> list[Manifest]:
        """The states that a verb left, in order."""
        return [state for state in self.states if state.verb == verb]

    def licences(self) -> list[str]:
        """Every licence on the way, of states and of single records, sorted; those spelt alike once."""
        met = {state.licence for state in self.states}.union(
            *(state.details.get("licences", {}) for state in self.of("ingest"))
        )
        return sorted(set(spellings(met - {""}).values()))

    def as_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Plain values for a JSON file."""
        states = [
            {
                "verb": state.verb,
                "name": state.name,
                "payload_hash": state.payload_hash,
                "licence": state.licence,
                "revisions": state.revisions,
                "counts": state.counts,
                "parents": state.parents,
            }
            for state in self.states
        ]
        return {"states": states, "inputs": [vars(row) for row in self.inputs]}


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
        is_whole = PurePosixPath(path) in (paths.payload(*node), paths.state(*node))
        if is_whole and parent.payload_hash != content_hash:
            raise Refused(
                f"{paths.state(manifest.verb, manifest.name)} was made from {path} with the content "
                f"{content_hash[:12]}, which is {parent.payload_hash[:12]} now. "
                f"Run: hiraku {manifest.verb} {manifest.name}"
            )
        if node not in seen:
            _walk(parent, states, inputs, seen)
    states[manifest.verb, manifest.name] = manifest
