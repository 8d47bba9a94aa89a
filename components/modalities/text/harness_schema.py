"""What a task of EleutherAI's lm-eval says in its YAML file, and which files it reads."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, model_validator

from components import paths
from components.measures import Measure
from components.outcomes import Refused
from components.wording import one_line, unknown_name
from models.schema import CorpusRef, Name, Strict

FOLDER = "harness"
PAPER = "paper"
VERSION_PATTERN = r"^[0-9]+(\.[0-9]+)*$"

SETS = {
    "fixed": "with what follows mended, so that models can be compared",
    PAPER: "as the published numbers were computed",
}
"""Ways to score the same answers -> what each is."""

QUIRKS = {
    "length": "An answer taken from a text had no more tokens than the longest right answer, and a summary at most ten "
    "more than the right one, so the length of what was asked for was given away; `fixed` has one limit for all items.",
    "ROUGE-2": "It was taken over the model's own tokens, so models with other tokenizers cannot be compared; `fixed` "
    "takes MeCab's words. The published total is the middle of resampled means, here it is the mean.",
    "choices": "Prompt 0.2 of jcommonsenseqa asks for the number of a choice and shows numbers, while the texts of the "
    "choices were scored; `fixed` scores the numbers.",
    "ends": "An answer ended only at the last token of the separator, never at the end-of-text token, which stood "
    "in it as text; `fixed` ends at either, wherever the separator is spelt.",
    "tokens": "Context and choice were encoded apart, so a tokenizer could put a space between them; `fixed` encodes "
    "both as one.",
    "start": "No token stood before a context, even where the tokenizer puts one (Llama's `<s>`); `fixed` puts it.",
    "passages": "jaqket-v2 had ten passages, and what was too long lost its beginning; `fixed` has five and leaves "
    "examples out.",
    "turns": "Prompts of mgsm-ja did not end answers at `<NL>` (0.4) or had it in the question (0.5), where turns end "
    "otherwise.",
    "examples": "In both sets examples are drawn by today's lm-eval, so they are not those of the published numbers.",
}
"""Why the two sets differ (Stability-AI/lm-evaluation-harness, branch jp-stable, read in its code)."""


class HarnessTask(Strict):
    """One task: its prompt, its examples and its data."""

    task: Name
    """A folder below `recipes/tasks/harness`."""
    version: str = Field(pattern=VERSION_PATTERN)
    """Of the prompt: a file of that folder. `<version>-paper.yaml` beside it is what the set `paper` reads instead."""
    shots: int = Field(ge=0)
    """Examples before the question, drawn for each item from the train split."""
    metric: str = "acc"
    """Of its metrics, what counts in the average and compares models."""
    corpus: CorpusRef | None = None
    """Its items are records of a corpus; None: of files."""
    column: str = "text"
    """Of the corpus. A document is the field `text` of an item, other forms have their parts as fields."""
    data: str | None = None
    """A folder below `data/` with `train.jsonl`, `validation.jsonl`, `test.jsonl`, as far as the prompt reads them;
    None: the task's name with underscores, below the folder of all."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """A commit of the Hub's data set that the prompt names, in place of files."""

    @model_validator(mode="after")
    def has_one_place(self) -> "HarnessTask":
        """Two sources would leave open which one is scored."""
        given = [key for key in ("corpus", "data", "revision") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} name different data; leave one")
        return self

    @property
    def is_files(self) -> bool:
        """Whether its data lie below `data/`."""
        return self.corpus is None and self.revision is None


class Harness(Strict):
    """Tasks of lm-eval, few-shot, each item a row; beside each score the average over the tasks that have data."""

    CAN_LEAK: ClassVar = True
    SETS: ClassVar = SETS
    QUIRKS: ClassVar = QUIRKS
    kind: Literal["harness"]
    modality: Literal["text"] = "text"
    tasks: list[HarnessTask] = Field(min_length=1)
    data: str = "eval_ja"
    """The folder below `data/` that holds the files of all tasks."""
    sets: list[Literal["fixed", "paper"]] = Field(default=["fixed", "paper"], min_length=1)
    max_items: int | None = Field(default=None, ge=1)
    """Only the first so many of each task; None takes all."""

    @model_validator(mode="after")
    def names_differ(self) -> "Harness":
        """Scores are known by the names of tasks."""
        names = [each.task for each in self.tasks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands in 'tasks' twice; another version is another task file")
        return self

    @property
    def MEASURES(self) -> tuple[Measure, ...]:  # noqa: N802 (other kinds have it as a constant)
        """The metrics of each task in each set, and the averages; what counts in the first set compares models."""
        found: list[Measure] = []
        for name in self.sets:
            keys = tuple(self.key(name, each) for each in self.tasks)
            found += [Measure(key, "higher", may_miss=True, told_only=name != self.sets[0]) for key in keys]
            found.append(Measure(f"{name}/average", "higher", mean_of=keys, told_only=True))
            found += [Measure(f"{name}/{each.task}/", "higher", is_each=True, told_only=True) for each in self.tasks]
        return tuple(found)

    @staticmethod
    def key(name: str, task: HarnessTask) -> str:
        """The name of a task's metric in one of the sets."""
        return f"{name}/{task.task}/{task.metric}"

    def place(self, task: HarnessTask) -> Path:
        """The folder of a task's files."""
        return paths.DATA / (task.data or f"{self.data}/{task.task.replace('-', '_')}")

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it reads besides states: prompts, and folders of raw data.

        Raises:
            Refused: there is no such prompt.
        """
        found: dict[Path, None] = {}
        for each in self.tasks:
            for name in self.sets:
                found |= dict.fromkeys(with_includes(prompt_file(each, name)))
            if each.is_files:
                found[paths.DATA / (each.data or self.data)] = None
        return tuple(found)

    def told(
        self,
        totals: dict[str, float],
        errors: dict[str, float],
        notes: list[str],
        looked: dict[str, Any] | None = None,
    ) -> list[str]:
        """What a card says of the scores; see `harness_card`."""
        from components.modalities.text import harness_card

        return harness_card.told(self, totals, errors, notes, looked or {})


def roots() -> list[Path]:
    """Where prompts are looked for: those of the project, and a person's own."""
    return [paths.RECIPES / "tasks" / FOLDER, paths.RECIPES / "mine" / "tasks" / FOLDER]


def prompt_file(task: HarnessTask, name: str) -> Path:
    """The file of a task's prompt in one of the sets.

    Raises:
        Refused: there is no such task, or no such version of it.
    """
    folders = {folder.name: folder for root in roots() for folder in sorted(root.glob("*")) if folder.is_dir()}
    if task.task not in folders:
        raise Refused(unknown_name("task of lm-eval", task.task, folders, "Change the key 'tasks' of the task."))
    folder = folders[task.task]
    file = folder / f"{task.version}.yaml"
    if not file.is_file():
        known = sorted(each.stem for each in folder.glob("[0-9]*.yaml") if not each.stem.endswith(f"-{PAPER}"))
        raise Refused(
            f"Task '{task.task}' of lm-eval has no prompt version {task.version}, known are {', '.join(known)}. "
            "Change the key 'version'."
        )
    special = folder / f"{task.version}-{PAPER}.yaml"
    return special if name == PAPER and special.is_file() else file


def with_includes(path: Path) -> list[Path]:
    """A task file of lm-eval and those that it includes."""
    named = plain(path).get("include", [])
    inner = [path.parent / each for each in ([named] if isinstance(named, str) else named)]
    return [path, *(file for each in inner for file in with_includes(each))]


def plain(path: Path) -> dict[str, Any]:
    """The keys of one task file.

    Raises:
        Refused: it is no YAML, or holds something else.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)  # noqa: S506 (a safe loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"{path} is no task file of lm-eval: {one_line(error)}. Mend it.") from error
    if not isinstance(raw, dict):
        raise Refused(f"{path} holds no keys and values. Start from a shipped task file.")
    return raw


def merged(path: Path) -> dict[str, Any]:
    """The keys of a task file and of those that it includes, its own before theirs."""
    found: dict[str, Any] = {}
    for each in reversed(with_includes(path)):
        found |= plain(each)
    return found


class _Plain(yaml.SafeLoader):
    """Names of functions are text."""


def _as_text(loader: Any, node: Any) -> str:
    return str(loader.construct_scalar(node))


_Plain.add_constructor("!function", _as_text)
