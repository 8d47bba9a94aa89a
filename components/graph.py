"""The graph of stages: rendered from the recipes into `dvc.yaml`, which is committed like a lock file.

Recipes say what depends on what, by the types of their values and never by key names. DVC decides what is stale, the
flow runs the stages in the order of `plan`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import yaml

from components import PURE_VERBS, paths
from components.agreement import require_agreement
from components.contamination import corpora_to_read
from components.encoders import models_behind, require_layers
from components.foreign import files_of
from components.manifest import MANIFEST_NAME
from components.modalities import MODALITIES
from components.outcomes import Refused
from components.painters import ENGINES as PAINTERS
from components.recipes import Corpus, Foreign, Library, Recipe, references
from components.records import column_of
from components.voices import ENGINES as VOICES
from models import FAMILIES, part_of

GRAPH_NAME = "dvc.yaml"
HEADER = "# Rendered from recipes/ by `hiraku graph`, and committed like a lock file: edit the recipes, not this.\n"

# The keys of a YAML file that a verb reads. `description`, `expected_gigabytes`, `follow`, `publish`, `schedule` reach
# no stage: an edit there makes nothing stale. Encoders and tasks are read whole.
READS = {
    "ingest": ("licence", "source", "columns", "splits", "min_records", "max_reject_share"),
    "validate": ("language", "licence", "columns", "splits", "min_records", "allowed_licences"),
    "pretrain": ("family", "network", "encoder", "pretrain"),
    "align": ("family", "network", "encoder", "starts_from", "align"),
    "evaluate": ("family", "encoder", "evaluate"),
}

OPERATION = frozenset({"publish", "promote", "schedule"})
"""Sections of a recipe that say when and where a model goes, and so reach no stage."""

ENGINES = {"spoken": VOICES, "drawn": PAINTERS}
"""Kind of a source -> kind of its engine -> the module whose REVISION is raised when what it makes changes."""

Node = tuple[str, str]
"""A verb and the name it works on."""


@dataclass(frozen=True)
class Stage:
    """One stage: a pure verb and its object."""

    verb: str
    name: str
    deps: tuple[str, ...]
    """Payload files and folders it reads."""
    params: tuple[tuple[str, tuple[str, ...]], ...]
    """(file, keys) whose values it reads: sections of recipes, and REVISION of code; no keys are the whole file."""
    parents: tuple[Node, ...]
    defaults: tuple[str, ...] = ()
    """Keys that its file leaves out."""
    mine: bool = False
    """Whether it stands in `recipes/mine/dvc.yaml`."""
    own_network: bool = False
    """Whether it computes with a network that no stage has made, such as a translator."""

    @property
    def key(self) -> str:
        """The name DVC knows it by."""
        return f"{self.verb}-{self.name}"

    @property
    def address(self) -> str:
        """What `dvc repro` takes as its target."""
        return f"{paths.RECIPES / 'mine' / GRAPH_NAME if self.mine else GRAPH_NAME}:{self.key}"

    @property
    def command(self) -> str:
        """What DVC runs.

        DVC does not notice a parameter that is gone, only one that has changed, so keys left to their defaults stand in
        a comment of the shell: taking a key out of a YAML changes the command.
        """
        command = f"python -m components {self.verb} {self.name}"
        return f"{command}  # default: {', '.join(self.defaults)}" if self.defaults else command

    @property
    def out(self) -> str:
        """The state it leaves."""
        return paths.state(self.verb, self.name).as_posix()


@dataclass
class _Builder:
    """Collects stages while it follows references; a path that meets itself is a cycle."""

    library: Library
    stages: dict[Node, Stage] = field(default_factory=dict)
    path: list[Node] = field(default_factory=list)

    def add(self, verb: str, name: str) -> None:
        """Add a stage and all that it depends on."""
        node = (verb, name)
        if node in self.path:
            circle = [*self.path[self.path.index(node) :], node]
            steps = " needs ".join(f"{each_verb} {each_name}" for each_verb, each_name in circle)
            raise Refused(
                f"The recipes form a circle: {steps}. Let one of them name something made without the others."
            )
        if node in self.stages:
            return
        self.path.append(node)
        stage = getattr(self, f"_{verb}")(name)
        for parent in stage.parents:
            self.add(*parent)
        self.path.pop()
        self.stages[node] = stage

    # ---- what a reference means ----

    def _resolve(self, kind: str, name: str) -> tuple[list[Node], list[str]]:
        """The stages behind a reference and the payload to depend on."""
        if kind == "corpus":
            self.library.path("corpus", name)
            return self._payloads([("ingest", name), ("validate", name)])
        if kind == "encoder":
            self.library.path("encoder", name)
            return self._payloads([("fit", name)])
        if kind == "shards":
            return self._payloads([("shard", name)])
        recipe = self.library.read("recipe", name)
        if kind == "package" or isinstance(recipe, Foreign):
            layout = recipe.layout if isinstance(recipe, Foreign) else recipe.package.layouts[0]
            files = part_of(recipe.family, "schema").LAYOUTS[layout]
            return [("package", name)], [(paths.layout(name, layout) / file).as_posix() for file in files]
        return self._payloads([("align" if recipe.align else "pretrain", name)])

    def _payloads(self, nodes: list[Node]) -> tuple[list[Node], list[str]]:
        return nodes, [paths.payload(*node).as_posix() for node in nodes]

    def _follow(
        self, section: Any, only: tuple[str, ...] | None = None
    ) -> tuple[list[Node], list[str], list[tuple[str, tuple[str, ...]]]]:
        """All that a section refers to; a task stands for what it refers to itself."""
        nodes: list[Node] = []
        deps: list[str] = []
        params: list[tuple[str, tuple[str, ...]]] = []
        for kind, name in references(section, only):
            if kind == "task":
                task = self.library.read("task", name)
                more_nodes, more_deps, more_params = self._follow(task)
                params += [self._file("task", name), self._modality(task.modality), *more_params]
                deps += [path.as_posix() for path in getattr(task, "files", ())]
                judges = [each for kind, each in references(task) if kind == "package"]
                params += [row for each in judges for row in self._code_of(self.library.read("recipe", each).family)]
            else:
                more_nodes, more_deps = self._resolve(kind, name)
            nodes += more_nodes
            deps += more_deps
        return nodes, deps, params

    # ---- what a stage reads ----

    def _file(self, kind: str, name: str, keys: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
        """The keys of a YAML file that are there; without `keys`, the file whole."""
        path = self.library.path(kind, name)
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return path.as_posix(), tuple(key for key in keys if key in raw)

    def _corpus_keys(self, verb: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The keys of a corpus that a verb reads: those in its file, and those it leaves out.

        Editing an expectation must not ingest again, so for `ingest` columns are listed key by key.
        """
        raw = yaml.safe_load(self.library.path("corpus", name).read_text(encoding="utf-8"))
        corpus = self.library.read("corpus", name)
        there = [key for key in READS[verb] if key in raw]
        left_out = [key for key in READS[verb] if key not in raw]
        if verb == "ingest":
            there.remove("columns")
            for column, section in corpus.columns.items():
                for key in sorted(set(type(section).model_fields) - {"expectations"}):
                    (there if key in raw["columns"][column] else left_out).append(f"columns.{column}.{key}")
        return tuple(there), tuple(left_out)

    @staticmethod
    def _revision(module: str) -> tuple[str, tuple[str, ...]]:
        return module, ("REVISION",)

    def _verb(self, verb: str) -> tuple[str, tuple[str, ...]]:
        return self._revision(f"components/{verb}.py")

    def _modality(self, name: str) -> tuple[str, tuple[str, ...]]:
        return self._revision(f"{MODALITIES[name].replace('.', '/')}/__init__.py")

    def _code_of(self, family: str) -> list[tuple[str, tuple[str, ...]]]:
        """The revisions of a family and of the modality it reads."""
        own = self._revision(f"{FAMILIES[family].replace('.', '/')}/__init__.py")
        return [own, self._modality(part_of(family, "schema").MODALITY)]

    def _behind(self, encoder: str) -> tuple[list[Node], list[str], list[tuple[str, tuple[str, ...]]]]:
        """What an encoder computes with: the weights of recipes, and the code of their families."""
        nodes: list[Node] = []
        deps: list[str] = []
        params: list[tuple[str, tuple[str, ...]]] = []
        for name in models_behind(self.library, encoder):
            more_nodes, more_deps = self._resolve("weights", name)
            nodes += more_nodes
            deps += more_deps
            params += self._code_of(self.library.read("recipe", name).family)
        return nodes, deps, params

    # ---- one method per verb ----

    def _ingest(self, name: str) -> Stage:
        corpus: Corpus = self.library.read("corpus", name)
        nodes, deps, params = self._follow(corpus)
        raw = [(paths.DATA / path).as_posix() for path in getattr(corpus.source, "raw_paths", [])]
        engine: Any = getattr(corpus.source, "engine", None)
        raw += [folder for folder in [getattr(engine, "folder", None)] if folder]
        modalities = {column.modality for column in corpus.columns.values()}
        params += [self._verb("ingest"), *(self._modality(each) for each in sorted(modalities))]
        if engines := ENGINES.get(corpus.source.kind):
            params.append(self._revision(f"{engines[engine.kind].replace('.', '/')}.py"))
        if getattr(corpus.source, "files_field", None):
            params.append(self._revision("components/attached.py"))
        if corpus.source.kind == "cleaned":
            params.append(self._revision("components/near_duplicates.py"))
        for kind, model in references(corpus):
            if kind in ("package", "weights"):
                params += self._code_of(self.library.read("recipe", model).family)
        stage = self._corpus_stage("ingest", name, raw + deps, params, nodes)
        return replace(stage, own_network=getattr(engine, "computes", False))

    def _validate(self, name: str) -> Stage:
        corpus: Corpus = self.library.read("corpus", name)
        nodes, deps = self._payloads([("ingest", name)])
        modalities = {column.modality for column in corpus.columns.values()}
        params = [self._verb("validate"), *(self._modality(each) for each in sorted(modalities))]
        return self._corpus_stage("validate", name, deps, params, nodes)

    def _corpus_stage(self, verb: str, name: str, deps: list[str], params: list[Any], nodes: list[Node]) -> Stage:
        there, left_out = self._corpus_keys(verb, name)
        params.append((self.library.path("corpus", name).as_posix(), there))
        stage = self._stage(verb, name, deps, params, nodes, self.library.is_mine("corpus", name))
        return replace(stage, defaults=left_out)

    def _fit(self, name: str) -> Stage:
        encoder = self.library.read("encoder", name)
        require_layers(self.library, name)
        nodes, deps, params = self._follow(encoder)
        params += [self._verb("fit"), self._modality(encoder.modality), self._file("encoder", name)]
        params += self._behind(name)[2]
        return self._stage("fit", name, deps, params, nodes, self.library.is_mine("encoder", name))

    def _shard(self, name: str) -> Stage:
        corpus_name, encoder_name = name.split("+")
        column_of(self.library, corpus_name, encoder_name)  # refuses what has none
        encoder = self.library.read("encoder", encoder_name)
        nodes, deps = self._payloads([("ingest", corpus_name), ("validate", corpus_name), ("fit", encoder_name)])
        params = [self._verb("shard"), self._modality(encoder.modality), self._file("encoder", encoder_name)]
        more_nodes, more_deps, more_params = self._behind(encoder_name)
        nodes, deps, params = nodes + more_nodes, deps + more_deps, params + more_params
        mine = self.library.is_mine("corpus", corpus_name) or self.library.is_mine("encoder", encoder_name)
        return self._stage("shard", name, deps, params, nodes, mine)

    def _trained(self, verb: str, name: str) -> Stage:
        recipe: Recipe = self.library.read("recipe", name)
        require_agreement(self.library, name)
        nodes, deps, params = self._follow(recipe, READS[verb])
        params += [self._verb(verb), *self._code_of(recipe.family), self._file("recipe", name, READS[verb])]
        return self._stage(verb, name, deps, params, nodes, self.library.is_mine("recipe", name))

    _pretrain, _align = partialmethod(_trained, "pretrain"), partialmethod(_trained, "align")

    def _evaluate(self, name: str) -> Stage:
        recipe: Recipe | Foreign = self.library.read("recipe", name)
        weights, weights_deps = self._resolve("weights", name)
        nodes, deps, params = self._follow(recipe, ("encoder", "evaluate"))
        if isinstance(recipe, Recipe):  # somebody else's package has its encoder in it
            more_nodes, more_deps, more_params = self._behind(recipe.encoder)
            nodes, deps, params = nodes + more_nodes, deps + more_deps, params + more_params
        for corpus in corpora_to_read(self.library, name):
            more_nodes, more_deps = self._resolve("corpus", corpus)
            nodes, deps = nodes + more_nodes, deps + more_deps
        params += [self._verb("evaluate"), *self._code_of(recipe.family), self._file("recipe", name, READS["evaluate"])]
        mine = self.library.is_mine("recipe", name)
        return self._stage("evaluate", name, weights_deps + deps, params, weights + nodes, mine)

    def _package(self, name: str) -> Stage:
        recipe = self.library.read("recipe", name)
        raw = tuple(yaml.safe_load(self.library.path("recipe", name).read_text(encoding="utf-8")))
        keys = tuple(key for key in raw if key not in OPERATION)
        params = [self._verb("package"), *self._code_of(recipe.family), self._file("recipe", name, keys)]
        mine = self.library.is_mine("recipe", name)
        if isinstance(recipe, Foreign):
            return self._stage("package", name, [files_of(recipe.source, recipe.layout).as_posix()], params, [], mine)
        trained, _ = self._resolve("weights", name)
        nodes, deps = self._payloads([("evaluate", name), ("fit", recipe.encoder)])
        # The card tells the whole lineage, so it reads the manifest of every ancestor; training reads none of them.
        deps += [paths.state(*trained[0]).as_posix()]
        ancestors = self._ancestors([*trained, *nodes])
        for verb, ancestor in ancestors:
            manifest = (paths.state(verb, ancestor) / MANIFEST_NAME).as_posix()
            if not manifest.startswith(paths.state(*trained[0]).as_posix() + "/"):
                deps.append(manifest)
        params += self._read_by(ancestors, without=self.library.path("recipe", name).as_posix())
        stage = self._stage("package", name, deps, params, trained + nodes, mine)
        # No other verb reads it, so a word on the terms of data makes no more stale than the verdict on the release.
        silent = [f"{each}.releasable" for verb, each in ancestors if verb == "ingest" and not self._says(each)]
        return replace(stage, defaults=tuple(silent))

    def _says(self, corpus: str) -> bool:
        return self.library.read("corpus", corpus).releasable is not None

    def _read_by(self, nodes: list[Node], without: str) -> list[tuple[str, tuple[str, ...]]]:
        """What stages read of the recipes, a row a file: the lineage in the package tells the hash of it."""
        rows = [row for node in nodes for row in self.stages[node].params if row[0].endswith(".yaml")]
        said = [each for verb, each in nodes if verb == "ingest" and self._says(each)]
        rows += [(self.library.path("corpus", each).as_posix(), ("releasable",)) for each in said]
        found: dict[str, list[str]] = {file: [] for file, _ in rows if file != without}
        for file in found:
            read = [keys for each, keys in rows if each == file]
            found[file] = sorted({key for keys in read for key in keys}) if all(read) else []  # no keys: read whole
        return [(file, tuple(keys)) for file, keys in sorted(found.items())]

    def _ancestors(self, nodes: list[Node]) -> list[Node]:
        for node in nodes:
            self.add(*node)
        found: dict[Node, None] = {}
        open_nodes = list(nodes)
        while open_nodes:
            node = open_nodes.pop()
            if node not in found:
                found[node] = None
                open_nodes += self.stages[node].parents
        return sorted(found, key=lambda node: (PURE_VERBS.index(node[0]), node[1]))

    @staticmethod
    def _stage(verb: str, name: str, deps: list[str], params: list[Any], nodes: list[Node], mine: bool) -> Stage:
        read, rows, parents = (tuple(dict.fromkeys(each)) for each in (deps, params, nodes))
        return Stage(verb, name, read, rows, parents, mine=mine)


def stages(library: Library) -> list[Stage]:
    """Every stage of every recipe, corpus and encoder, in the order of verbs and names."""
    builder = _Builder(library)
    for name in library.files["corpus"]:
        builder.add("validate", name)
    for name in library.files["encoder"]:
        builder.add("fit", name)
    for name in library.files["recipe"]:
        builder.add(last_verb(library, name), name)
    return sorted(builder.stages.values(), key=lambda stage: (PURE_VERBS.index(stage.verb), stage.name))


def plan(library: Library, recipe: str) -> list[Stage]:
    """What the release of one recipe needs, parents before children."""
    return plan_to(library, last_verb(library, recipe), recipe)


def last_verb(library: Library, recipe: str) -> str:
    """The stage that ends a release: a package tells its scores, but somebody else's model is scored as packaged."""
    section = library.read("recipe", recipe)
    return "evaluate" if isinstance(section, Foreign) and section.evaluate else "package"


def plan_to(library: Library, verb: str, name: str) -> list[Stage]:
    """What one stage needs, itself last."""
    builder = _Builder(library)
    builder.add(verb, name)
    return list(builder.stages.values())


def render(library: Library) -> dict[Path, str]:
    """The text of `dvc.yaml`, and of `recipes/mine/dvc.yaml` if a person has recipes of their own."""
    rows = stages(library)
    rendered = {Path(GRAPH_NAME): _text([row for row in rows if not row.mine], wdir=None)}
    if mine := [row for row in rows if row.mine]:
        rendered[library.root / "mine" / GRAPH_NAME] = _text(mine, wdir="../..")
    return rendered


def _text(rows: list[Stage], wdir: str | None) -> str:
    body = {"stages": {row.key: dict(_entries(row, wdir)) for row in rows}}
    return HEADER + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=1000)


def _entries(stage: Stage, wdir: str | None) -> Iterator[tuple[str, Any]]:
    yield "cmd", stage.command
    if wdir:
        yield "wdir", wdir
    yield "deps", list(stage.deps)
    # A block under the file's name: an inline `[file:]` parses as a string and fails.
    yield "params", [{file: list(keys) or None} for file, keys in stage.params]
    yield "outs", [stage.out]
