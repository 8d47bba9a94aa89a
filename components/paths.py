"""Every path of a project: nobody else joins paths under `artifacts/`.

All are relative to the current folder, which is the project's root: DVC runs stages there, and a relative path is the
same on every machine.
"""

from pathlib import Path

from components import VERBS

ARTIFACTS = Path("artifacts")
DATA = Path("data")
RECIPES = Path("recipes")

# What dependents may read of each state. Reports, cards and manifests are not payload: rewording a card re-trains
# nothing.
PAYLOAD = {
    "ingest": "records",
    "validate": "accepted",
    "fit": "encoder",
    "shard": "shards",
    "pretrain": "weights",
    "align": "weights",
    "evaluate": "scores",
    "package": "",
}


def state(verb: str, name: str) -> Path:
    """The folder that a verb leaves for a name, such as `artifacts/sharded/wiki-ja+spm-32k`."""
    return ARTIFACTS / VERBS[verb] / name


def payload(verb: str, name: str) -> Path:
    """The part of a state that other stages depend on."""
    return state(verb, name) / PAYLOAD[verb]


def layout(recipe: str, name: str) -> Path:
    """One layout of a package, exactly as it will stand on the Hub."""
    return state("package", recipe) / name


def hub_model(repository: str, commit: str) -> Path:
    """The files of somebody else's model, as a commit of a Hub's repository holds them."""
    return DATA / "hub" / repository / commit


def registered_model(model: str, version: str) -> Path:
    """The files of a version of the registry, a package by layouts; `version` may be an alias."""
    return DATA / "registry" / model / version


def receipt(verb: str, recipe: str) -> Path:
    """A copy of a server's answer to `register` or `publish`."""
    return ARTIFACTS / VERBS[verb] / f"{recipe}.json"


def outcome(verb: str, name: str) -> Path:
    """How the last run of a stage ended; not declared to DVC."""
    return ARTIFACTS / "outcomes" / verb / f"{name}.json"


def outcome_folder(verb: str, name: str) -> Path:
    """What a refused stage leaves for a person to read, such as the report of a failed validation."""
    return ARTIFACTS / "outcomes" / verb / name


def journal(verb: str, name: str) -> Path:
    """What differs from run to run (curves, times, samples); not declared to DVC."""
    return ARTIFACTS / "journals" / verb / name
