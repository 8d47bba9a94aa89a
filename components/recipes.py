"""Recipes, corpora, encoders and tasks: one strict YAML each, read from `recipes/` and a person's `recipes/mine/`.

Every problem of a file is reported at once, an unknown key together with the nearest known one, before any work.
"""

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model, field_validator, model_validator

from components import paths
from components.executor_schema import Executor, Local
from components.foreign_schema import Evaluate, Foreign
from components.modalities import MODALITIES, schema_of
from components.outcomes import Refused
from components.release_schema import Follow, Package, Promote, Publish, Schedule
from components.source_schema import SOURCES, Split
from components.training_schema import Training
from components.wording import nearest_name, one_line, unknown_name
from models import FAMILIES, part_of
from models.schema import NAME_PATTERN, EncoderRef, RecipeRef, Reference, Strict

FOLDERS = {"recipe": "", "corpus": "corpora", "encoder": "encoders", "task": "tasks"}
FIXED_COLUMNS = ("id", "split", "licence", "source", "file")
"""What records have besides the columns of their corpus, `file` where one was brought along."""


# ---- corpora ---------------------------------------------------------------------------------------------------------


class Splits(Strict):
    """Shares that are held out, chosen by the hash of the content; of conversations and preferences, of the first turn.

    So no prompt is trained on and held out, in one corpus or in several of equal shares.
    """

    valid: float = Field(default=0.02, ge=0, lt=0.5)
    test: float = Field(default=0.02, ge=0, lt=0.5)
    only: Split | None = None
    """Everything belongs to this one: a corpus that is only scored on, or only trained on."""

    @property
    def expected(self) -> list[str]:
        """The splits that must not be empty; where the raw data name the splits, a share of 0 expects none."""
        return [self.only] if self.only else ["train", *(each for each in ("valid", "test") if getattr(self, each) > 0)]

    @model_validator(mode="after")
    def has_shares_or_one_split(self) -> "Splits":
        """A key that would do nothing is a mistake."""
        if self.only is not None and self.model_fields_set & {"valid", "test"}:
            raise ValueError("'only' leaves no shares for 'valid' and 'test': take them out")
        return self


class Corpus(Strict):
    """Raw data with one purpose: what to read, how to clean it, and what must hold of it."""

    description: str
    language: str
    licence: str
    source: Any
    follow: Follow | None = None
    """Where new raw data come from by themselves; without it a person brings them. Reaches no stage."""
    columns: dict[str, Any] = Field(min_length=1)
    executor: Executor = Local()
    """Where the parts of a source of kind `cleaned` are worked on. Reaches no stage: what comes out is the same."""
    splits: Splits = Splits()
    min_records: int = Field(default=1, ge=1)
    max_reject_share: float = Field(default=0.5, ge=0, le=1)
    """More rejects than this share of all rows refuse the corpus: the raw data or the filters are wrong."""
    allowed_licences: list[str] = []
    """Licences a record may carry besides the corpus's own; anything else fails validation."""
    releasable: bool | None = None
    """Whether models made from it may be released, where the names of licences do not tell (`components.licences`):
    false forbids it, true is the word of a person who has read the terms. Without it, unknown names forbid."""
    expected_gigabytes: float | None = Field(default=None, gt=0)
    """About how much text there is, in 10^9 bytes and not compressed; only `hiraku doctor` reads it, to plan."""

    @field_validator("follow", mode="before")
    @classmethod
    def follows_a_folder(cls, follow: Any) -> Any:
        """`follow: true` is for sources that have revisions of their own; files lie in a folder."""
        if isinstance(follow, bool):
            raise ValueError("a corpus of files follows a folder. Write follow: {folder: PATH}, or take the key out")  # noqa: TRY004
        return follow

    @model_validator(mode="after")
    def has_files_to_follow(self) -> "Corpus":
        """What is made from another corpus is brought up to date with it."""
        if self.follow is not None and not hasattr(self.source, "paths"):
            raise ValueError(
                f"'follow' brings files, but the source is '{self.source.kind}': move it to the other corpus"
            )
        return self

    @field_validator("columns")
    @classmethod
    def has_columns_of_its_own(cls, columns: dict[str, Any]) -> dict[str, Any]:
        """A column stands in the records beside the fixed ones, so it cannot have the name of one."""
        for name in columns:
            if name in FIXED_COLUMNS or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                taken = ", ".join(FIXED_COLUMNS)
                raise ValueError(f"a column is named by lower-case letters, digits, '_', and not {taken}: '{name}'")
        return columns


# ---- recipes ---------------------------------------------------------------------------------------------------------


class Recipe(Strict):
    """Everything in which one released model differs from another; sections of a family are typed by it."""

    family: str
    description: str
    language: str
    licence: str
    network: Any
    encoder: EncoderRef
    starts_from: RecipeRef | None = None
    pretrain: Any = None
    align: Any = None
    evaluate: Evaluate
    package: Package
    publish: Publish | None = None
    schedule: Schedule | None = None
    promote: Promote = Promote()

    @model_validator(mode="after")
    def has_one_way_to_weights(self) -> "Recipe":
        """A model is pre-trained from a random start, or aligned from another one."""
        if (self.pretrain is None) == (self.align is None):
            raise ValueError("exactly one of the sections 'pretrain' and 'align' must be there")
        if (self.align is None) != (self.starts_from is None):
            raise ValueError("'starts_from' and 'align' belong together: one is there without the other")
        return self


def _one_of(tag: str, choices: list[Any]) -> Any:
    """A union of sections told apart by the value of one key."""
    return Annotated[Union[tuple(choices)], Field(discriminator=tag)] if len(choices) > 1 else choices[0]  # noqa: UP007


@cache
def _corpus_type() -> type[Corpus]:
    column = _one_of("modality", [schema_of(name).Column for name in MODALITIES])
    columns: Any = dict.__class_getitem__((str, column))
    source = _one_of("kind", list(SOURCES.values()))
    return create_model("Corpus", __base__=Corpus, columns=(columns, Field(min_length=1)), source=(source, ...))


def _kinds(table: str) -> Any:
    return _one_of("kind", [kind for name in MODALITIES for kind in getattr(schema_of(name), table).values()])


@cache
def _recipe_type(family: str) -> type[Recipe]:
    schema = part_of(family, "schema")
    preview = schema.Preview

    def training(objective: Any, samples: Any) -> Any:
        return create_model(
            "Training",
            __base__=Training,
            objective=(objective, ...),
            samples=(samples, ...),
            preview=(preview, preview()),
        )

    sections: dict[str, Any] = {"family": (Literal[family], ...), "network": (schema.Network, ...)}
    for section in ("pretrain", "align"):
        objective = getattr(schema, f"{section.capitalize()}Objective", None)
        samples = getattr(schema, f"{section.capitalize()}Samples", None) or getattr(schema, "Samples", None)
        sections[section] = (training(objective, samples) | None if objective else None, None)
    return create_model("Recipe", __base__=Recipe, **sections)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _type_of(kind: str, raw: dict[str, Any]) -> Any:
    if kind == "corpus":
        return _corpus_type()
    if kind == "encoder":
        return _kinds("ENCODERS")
    if kind == "task":
        return _kinds("TASKS")
    family = raw.get("family")
    if family not in FAMILIES:
        raise Refused(unknown_name("family", str(family), FAMILIES, "Change the key 'family'."))
    return Foreign if "source" in raw else _recipe_type(family)


def _sections_at(annotation: Any, where: tuple[Any, ...]) -> Iterator[type[BaseModel]]:
    """The sections that a path of keys, as pydantic reports it, can lead to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not where:
            yield annotation
        elif where[0] in annotation.model_fields:
            yield from _sections_at(annotation.model_fields[where[0]].annotation, where[1:])
        return
    if get_origin(annotation) is Annotated:
        yield from _sections_at(get_args(annotation)[0], where)
    elif get_origin(annotation) in (Union, types.UnionType):
        for arm in get_args(annotation):
            yield from _sections_at(arm, where)
            yield from _sections_at(arm, where[1:])  # pydantic puts the tag of a union into the path
    elif where and get_origin(annotation) in (list, dict, tuple):
        yield from _sections_at(get_args(annotation)[-1], where[1:])


def _keys_of(annotation: Any, where: tuple[Any, ...]) -> list[Any]:
    """The path of an error as it stands in the file: pydantic adds the tag of every union it passes."""
    return [
        part
        for depth, part in enumerate(where)
        if depth == len(where) - 1
        or isinstance(part, int)
        or any(part in section.model_fields for section in _sections_at(annotation, where[:depth]))
        or not any(True for _ in _sections_at(annotation, where[:depth]))
    ]


def _problem(error: Any, kind: Any) -> str:
    """One line about one problem that pydantic found."""
    where = ".".join(str(part) for part in _keys_of(kind, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = sorted({key for section in _sections_at(kind, error["loc"][:-1]) for key in section.model_fields})
        near = nearest_name(str(error["loc"][-1]), known)
        hint = f"Did you mean '{near}'?" if near else f"Known here: {', '.join(known)}."
        return f"unknown key '{where}'. {hint}"
    if error["type"] == "missing":
        return f"key '{where}' is missing"
    found = "" if isinstance(error["input"], dict) else f", found {one_line(repr(error['input']), 60)}"
    return f"'{where}': {error['msg']}{found}" if where else str(error["msg"])


def read_section(path: Path, kind: str) -> Any:
    """Read one YAML file as a corpus, encoder, task or recipe.

    Raises:
        Refused: with every problem of the file, one a line.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Refused(f"{path} is not YAML: {one_line(error)}. Mend the file.") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    if not isinstance(raw, dict):
        raise Refused(f"{path} holds {one_line(repr(raw), 60)}, expected keys and values. Start from a shipped {kind}.")
    section = _type_of(kind, raw)
    try:
        return TypeAdapter(section).validate_python(raw)
    except ValidationError as error:
        problems = [_problem(each, section) for each in error.errors()]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise Refused("\n  ".join([f"{path} has {count}:", *problems])) from error


@dataclass(frozen=True)
class Library:
    """All that can be made: every YAML file below a folder of recipes."""

    root: Path = paths.RECIPES
    _read: dict[Path, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def files(self) -> dict[str, dict[str, Path]]:
        """Kind -> name -> file.

        Raises:
            Refused: two files of one kind have the same name, or a name that cannot be a folder's.
        """
        found: dict[str, dict[str, Path]] = {kind: {} for kind in FOLDERS}
        for kind, folder in FOLDERS.items():
            for place in (self.root / folder, self.root / "mine" / folder):
                for path in sorted(place.glob("*.yaml")):
                    if path.name == "dvc.yaml":  # the graph of recipes/mine/, which DVC wants to have that name
                        continue
                    name = path.stem
                    if not re.match(NAME_PATTERN, name):
                        raise Refused(f"{path}: a name has lower-case letters, digits, '.' and '-' only. Rename it.")
                    if name in found[kind]:
                        raise Refused(f"Two files make {kind} '{name}': {found[kind][name]} and {path}. Rename one.")
                    found[kind][name] = path
        return found

    def path(self, kind: str, name: str) -> Path:
        """The file of a name; an unknown one is answered with the nearest."""
        if name not in self.files[kind]:
            folder = self.root / FOLDERS[kind]
            way_out = f"Add {folder / (name + '.yaml')}, or run: hiraku recipes"
            raise Refused(unknown_name(kind, name, self.files[kind], way_out))
        return self.files[kind][name]

    def read(self, kind: str, name: str) -> Any:
        """The parsed file of a name."""
        path = self.path(kind, name)
        if path not in self._read:
            self._read[path] = read_section(path, kind)
        return self._read[path]

    def is_mine(self, kind: str, name: str) -> bool:
        """Whether a file is a person's own, whose stages stand in `recipes/mine/dvc.yaml`."""
        return (self.root / "mine") in self.path(kind, name).parents


def references(section: BaseModel, only: tuple[str, ...] | None = None) -> Iterator[tuple[str, str]]:
    """Every (kind, name) that a parsed section, or `only` some of its keys, refers to at any depth."""
    for key, info in type(section).model_fields.items():
        if only is None or key in only:
            value = getattr(section, key)
            yield from _references_of(Annotated[info.annotation, None, *info.metadata], value)


def _references_of(annotation: Any, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, BaseModel):
        yield from references(value)
        return
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        for mark in marks:
            if isinstance(mark, Reference) and isinstance(value, str):
                yield mark.kind, value
        yield from _references_of(inner, value)
    elif get_origin(annotation) in (Union, types.UnionType):
        seen = {found: None for arm in get_args(annotation) for found in _references_of(arm, value)}
        yield from seen
    elif isinstance(value, list | tuple | dict) and get_args(annotation):  # an arm of a union may hold no items
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references_of(get_args(annotation)[-1], item)


NO_PARAMETERS = {"description", "package", "publish", "promote", "schedule"}
"""Keys of a recipe that decide nothing of what is computed."""


def parameters_of(library: Library, name: str) -> dict[str, Any]:
    """All that decides what a recipe computes, nested and under the same names for every recipe.

    Its sections as they stand, then `encoder.<key>`, `tasks.<task>.<key>`, `corpora.<corpus>.<key>`.

    Raises:
        Refused: a file cannot be read.
    """
    recipe = library.read("recipe", name)
    found: dict[str, Any] = _values(recipe) | {"tasks": {}, "corpora": {}}
    for kind, each, section in _read_by(library, recipe, set()):
        if kind == "encoder":
            found |= {f"encoder.{key}": value for key, value in _values(section).items()}
        else:
            found["tasks" if kind == "task" else "corpora"][each] = _values(section)
    return found


def _values(section: BaseModel) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude_none=True, exclude=NO_PARAMETERS)


def _read_by(library: Library, section: BaseModel, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str, Any]]:
    """(kind, name, section) of every corpus, encoder and task that a section reads, at any depth, once each."""
    for kind, name in references(section):
        corpus, _, encoder = name.partition("+")
        for node in [("corpus", corpus), ("encoder", encoder)] if kind == "shards" else [(kind, name)]:
            if node[0] in ("corpus", "encoder", "task") and node not in seen:
                seen.add(node)
                read = library.read(*node)
                yield (*node, read)
                yield from _read_by(library, read, seen)
