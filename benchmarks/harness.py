"""The paper's tasks beside plain lm-eval: CPU time of each task, and whether both answer alike.

Two networks that were never trained, a GPT-2 and a GPT-NeoX, with a tokenizer fitted on the items' text; the same task
files, items and examples. The peer is lm-eval's own command line with its `hf` model, once at each of several batch
sizes; its fastest is compared. Log-likelihoods must agree item by item, and metrics too but for ties, which are listed.
"""

import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import Row
from benchmarks.machine import describe, one_core
from benchmarks.report import Result, require_repeats
from benchmarks.sides import our_command, peer_command, run_side
from components.modalities.text import japanese_answers, tokenizers
from components.modalities.text.harness_schema import FOLDER
from components.modalities.text.schema import SentencePiece
from components.outcomes import Refused
from components.paths import DATA, RECIPES

NAME = "harness"
PLACE = Path(".bench") / NAME
VERSION = "0.2"
ONLY_VERSIONS = {"xwinograd-ja": "0.0", "xlsum-ja": "0.0", "mgsm-ja": "0.0"}
SHOTS = {
    "jcommonsenseqa": 3,
    "jnli": 3,
    "marc-ja": 3,
    "jsquad": 2,
    "xwinograd-ja": 0,
    "jaqket-v2": 1,
    "xlsum-ja": 1,
    "mgsm-ja": 5,
}
METRICS = {"jsquad": "exact_match", "jaqket-v2": "exact_match", "xlsum-ja": "rouge2"}
SHAPE = {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "intermediate_size": 1024, "max_positions": 2048}
ARCHITECTURES = {"gpt2": "GPT-2", "gpt_neox": "GPT-NeoX"}
VOCABULARY = 8000
NOISE = 0.08
"""Added to the weights, so that the most likely token is so by more than rounding."""
TOLERANCE = 1e-4
"""In nats, of an item's log-likelihood."""
DEFAULT_BATCH_SIZE = 1
"""Of lm-eval."""
BATCH_SIZES = (DEFAULT_BATCH_SIZE, 4, 16)
WANTED = 1.5
SEED = 0


def measure(
    *,
    data: Path = DATA / "eval_ja",
    share: float = 0.01,
    least: int = 2,
    repeats: int = 3,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
) -> Result:
    """CPU time of every task whose items are there, and the agreement of both sides.

    Args:
        data: the folder with a folder for each task; a stand-in, named `<task>_standin_...`, is taken as well.
        share: of the items of each task, its first ones.
        least: so many of each at least, or all there are; with fewer, few seconds decide about a task of few items.
        repeats: pairs of runs.
        batch_sizes: of the peer; the fastest over all tasks is compared.
    """
    require_repeats(repeats)
    sections = list(_sections(data))
    if not sections:
        raise Refused(f"{data} has no folder of one of the tasks {', '.join(SHOTS)}. Name another one with --data.")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    sizes = {each["task"]: _num_items(each) for each in sections}
    limits = {task: min(size, max(least, math.ceil(share * size))) for task, size in sizes.items()}
    _write_peer_tasks(sections)
    _write_models(sections)
    rows, notes, measured = [], [_work(sections, limits)], {}
    with one_core():
        for architecture, title in ARCHITECTURES.items():
            given = {size: _specification(architecture, sections, limits, size) for size in batch_sizes}
            theirs = {size: [_peer(given[size])] for size in batch_sizes}
            totals = {size: work_of(found[0]) for size, found in theirs.items()}
            best = min(totals, key=totals.__getitem__)
            theirs[best] += [_peer(given[best]) for _ in range(repeats - 1)]
            pairs = [(_ours(given[best]), other) for other in theirs[best]]
            rows += _rows(title, best, pairs)
            notes += _agreement(title, *pairs[0])
            told = ", ".join(f"{seconds:.1f} at {_named(size)}" for size, seconds in totals.items())
            notes.append(f"{title}: CPU seconds of lm-eval for all tasks by batch size: {told}.")
            measured[architecture] = [[each["seconds"] for each in pair] for pair in pairs]
    command = f"python -m benchmarks {NAME} --share {share} --least {least} --repeats {repeats}"
    return Result(NAME, command, rows, notes, describe(), measured)


def _named(batch_size: int) -> str:
    return f"{batch_size} (its default)" if batch_size == DEFAULT_BATCH_SIZE else str(batch_size)


def _num_items(section: dict[str, Any]) -> int:
    """Items that are scored: of the split that the task's file names, as lm-eval chooses it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    keys = load_yaml(_task_file(section))
    split = keys.get("test_split") or keys["validation_split"]
    with (Path(section["data"]) / f"{split}.jsonl").open("rb") as stream:
        return sum(1 for _ in stream)


def _task_file(section: dict[str, Any]) -> Path:
    return (RECIPES / "tasks" / FOLDER / section["task"] / f"{section['version']}.yaml").resolve()


def _work(sections: list[dict[str, Any]], limits: dict[str, int]) -> str:
    named = ", ".join(f"{limits[each['task']]} of {each['task']} ({Path(each['data']).name})" for each in sections)
    return (
        f"Items, the first ones of each task: {named}. Prompts {VERSION} where there is one, examples as in the paper; "
        f"networks of {SHAPE['num_layers']} layers of width {SHAPE['hidden_size']}, {VOCABULARY} pieces, fp32, one "
        "thread. CPU time within lm-eval's `evaluate` on both sides: prompts, answers and metrics, libraries loaded. "
        "Ours packs by length."
    )


# ---- what both sides are given ---------------------------------------------------------------------------------------


def _sections(data: Path) -> Iterator[dict[str, Any]]:
    """The tasks that have items; `data` of each is absolute."""
    for task, shots in SHOTS.items():
        name = task.replace("-", "_")
        folders = [each for each in (data / name, *sorted(data.glob(f"{name}_standin_*"))) if each.is_dir()]
        if folders:
            version = ONLY_VERSIONS.get(task, VERSION)
            metric = METRICS.get(task, "acc")
            place = str(folders[0].resolve())
            yield {"task": task, "version": version, "shots": shots, "metric": metric, "data": place}


def _write_peer_tasks(sections: list[dict[str, Any]]) -> None:
    """Task files that include ours and say where the items lie."""
    for each in sections:
        files = {split.stem: str(split) for split in sorted(Path(each["data"]).glob("*.jsonl"))}
        body = {
            "include": str(_task_file(each)),
            "task": each["task"],
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str((PLACE / "cache").resolve())},
            "num_fewshot": each["shots"],
        }
        place = PLACE / "tasks" / f"{each['task']}.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")


def _write_models(sections: list[dict[str, Any]]) -> None:
    """Networks that were never trained, each beside the same tokenizer."""
    import torch

    from models.gpt import convert, network
    from models.gpt.schema import GPT2, GPTNeoX

    files = [file for each in sections for file in sorted(Path(each["data"]).glob("*.jsonl"))]
    texts = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[:2000]]
    section = SentencePiece.model_validate(
        {"kind": "sentencepiece", "corpora": [{"corpus": "items"}], "vocab_size": VOCABULARY, "symbols": ["\n", "<NL>"]}
    )
    tokenizers.fit(section, texts, texts[:200], PLACE / "tokenizer")
    facts = tokenizers.open_encoder(PLACE / "tokenizer").facts
    for architecture in ARCHITECTURES:
        kind = GPT2 if architecture == "gpt2" else GPTNeoX
        torch.manual_seed(SEED)
        built = network.build(kind.model_validate({"architecture": architecture, **SHAPE}), facts)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(torch.randn_like(parameter) * NOISE)
        convert.save(built, PLACE / architecture)
        for file in (PLACE / "tokenizer").iterdir():
            shutil.copyfile(file, PLACE / architecture / file.name)


# ---- both sides ------------------------------------------------------------------------------------------------------


def _specification(architecture: str, sections: list[dict[str, Any]], limits: dict[str, int], batch_size: int) -> Path:
    path = PLACE / f"specification-{architecture}-{batch_size}.json"
    told = {
        "model": str((PLACE / architecture).resolve()),
        "eos": tokenizers.open_encoder(PLACE / "tokenizer").facts["eos"],
        "prompts": str((PLACE / "tasks").resolve()),
        "sections": sections,
        "limits": limits,
        "functions": japanese_answers.__name__,
        "batch_size": batch_size,
        "output": str((PLACE / "answers" / f"{architecture}-{batch_size}").resolve()),
    }
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def _ours(specification: Path) -> dict[str, Any]:
    return run_side(our_command("benchmarks.our_harness"), [str(specification)], PLACE / "ours.json")


def _peer(specification: Path) -> dict[str, Any]:
    shutil.rmtree(json.loads(specification.read_text(encoding="utf-8"))["output"], ignore_errors=True)
    command = peer_command(Path(sys.executable), "lm_eval_tasks.py")
    return run_side(command, [str(specification)], PLACE / "peer.json")


# ---- what came out ---------------------------------------------------------------------------------------------------


def _rows(title: str, batch_size: int, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[Row]:
    """CPU time of the peer over ours: of each task, and of all."""
    peer = f"lm-eval, batch size {batch_size}"

    def row(figure: str, of: Any) -> Row:
        ours, theirs = ([1 / of(pair[side]) for pair in pairs] for side in (0, 1))
        return Row.compare(f"{title}: {figure}, runs per CPU second", peer, ours, theirs, at_least=WANTED)

    tasks = list(pairs[0][0]["seconds"])
    singles = [row(task, lambda run, task=task: run["seconds"][task]) for task in tasks]
    return [row(f"all {len(tasks)} tasks", work_of), *singles]


def work_of(run: dict[str, Any]) -> float:
    """CPU seconds of all tasks."""
    return float(sum(run["seconds"].values()))


def _agreement(title: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """How far both sides agree, in words.

    Raises:
        Refused: a log-likelihood differs by more than the tolerance, or a metric where no two choices tie.
    """
    largest, num_items = 0.0, 0
    differing: dict[str, list[str]] = {}
    for task, rows in ours["answers"].items():
        for mine, other in zip(rows, theirs["answers"][task], strict=True):
            num_items += 1
            gap = _gap(mine["answers"], other["answers"])
            if gap is not None and not mine["is_cut"]:
                largest = max(largest, gap)
            if any(abs(float(mine["metrics"][key]) - float(other["metrics"][key])) > 1e-9 for key in mine["metrics"]):
                differing.setdefault(_why(title, task, mine), []).append(f"{task}/{mine['item']}")
    if largest > TOLERANCE:
        raise Refused(f"{title}: log-likelihoods differ by up to {largest:.2e} nats, expected at most {TOLERANCE}.")
    but = "".join(f", but for {why} at {', '.join(items)}" for why, items in differing.items())
    return [
        f"{title}: {num_items} items have the same metrics{but}; log-likelihoods differ by {largest:.1e} nats at most."
    ]


def _why(title: str, task: str, mine: dict[str, Any]) -> str:
    """Why an item's metrics may differ between the sides.

    Raises:
        Refused: they may not.
    """
    if mine["is_cut"]:
        return "contexts that do not fit, of which ours leaves examples out and lm-eval the beginning,"
    values = sorted(float(each[0][0]) for each in mine["answers"] if not isinstance(each[0], str))
    if not values:
        return "texts that go on otherwise"
    if min(b - a for a, b in itertools.pairwise(values)) > 2 * TOLERANCE:
        raise Refused(
            f"{title}: the metrics of {task}/{mine['item']} differ, and no two of its choices are within "
            f"{2 * TOLERANCE} nats of each other."
        )
    return "ties"


def _gap(mine: list[Any], other: list[Any]) -> float | None:
    """The largest difference of log-likelihoods; None for answers that are texts."""
    pairs = [(each[0], peer[0]) for each, peer in zip(mine, other, strict=True) if not isinstance(each[0], str)]
    gaps = [abs(float(a[0]) - float(b[0])) for a, b in pairs]
    return max(gaps) if gaps else None
