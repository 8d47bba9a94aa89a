"""The tracking server: what came out of every run. The only module that imports mlflow.

A stage's process knows nothing of it: it leaves a journal, which the flow mirrors into a run while the stage works.
Without `MLFLOW_TRACKING_URI` everything goes to SQLite under `.hiraku/mlflow/`, artifacts beside it.
"""

import contextlib
import getpass
import json
import logging
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from components import processes
from components.corpora import UsedCorpus
from components.outcomes import Refused
from components.settings import STATE
from components.wording import DISK, one_line, shown

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

HOME = STATE / "mlflow"
BATCH_METRICS = 1000
BATCH_PARAMETERS = 100
MAX_VALUE_CHARS = 6000
"""Limits of MLflow's batch request."""
MOST_CHARS = 300
"""Of an error's words in a message."""


# ---- where ----------------------------------------------------------------------------------------------------------


def is_embedded() -> bool:
    """Whether runs go to this project's own database; a variable that is set to nothing names no server."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the database embedded in this project."""
    return f"sqlite:///{(HOME / 'mlflow.db').resolve()}" if is_embedded() else os.environ["MLFLOW_TRACKING_URI"]


def require_server() -> None:
    """Refuse a tracking server that does not answer, before long work.

    Raises:
        Refused: nothing listens at `MLFLOW_TRACKING_URI`.
    """
    address = urlparse(tracking_uri())
    if address.scheme not in ("http", "https"):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise Refused(
            f"MLFLOW_TRACKING_URI is {shown(tracking_uri())}, but nothing answers there ({error}). Start the server "
            "(mlflow/README.md), or unset the variable to track into .hiraku/mlflow/."
        ) from error


@cache
def _client_of(uri: str) -> "MlflowClient":
    from mlflow.tracking import MlflowClient

    # Database migrations of the first start are no news to anybody.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def client() -> "MlflowClient":
    """The one client of this process."""
    return _client_of(tracking_uri())


def troubles() -> tuple[type[Exception], ...]:
    """What a tracking server that falls silent raises."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    return (MlflowException, RequestException, OSError)


def is_of_server(error: BaseException) -> bool:
    """Whether one of the `troubles` is the server's or the network's; an error of this machine's files is not."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    return isinstance(error, MlflowException | RequestException | ConnectionError | TimeoutError | socket.gaierror)


def silence(error: BaseException, what: str = "tracking server") -> str:
    """`<address> does not answer as a <what> should (<error>)`, without the passwords of addresses."""
    words = one_line(shown(error), MOST_CHARS)
    return f"{shown(tracking_uri())} does not answer as a {what} should ({words})"


@contextlib.contextmanager
def silence_told(refusal: Callable[[str], Exception], what: str = "tracking server") -> Iterator[None]:
    """Raise what `refusal` makes of the words of `silence` when the server fails; all else passes as it is."""
    try:
        yield
    except troubles() as error:
        if not is_of_server(error):
            raise
        raise refusal(silence(error, what)) from None  # MLflow's own words hold addresses in full


def names_disk(error: BaseException) -> bool:
    """Whether the library tells, of files that it fetched, that this machine's disk did not take them."""
    return any(f"[Errno {number}]" in str(error) or f"OSError({number}," in str(error) for number in DISK)


def _experiment(name: str) -> str:
    found = client().get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = (HOME / "artifacts" / name).resolve().as_uri() if is_embedded() else None
    return str(client().create_experiment(name, artifact_location=place))


def sweep() -> int:
    """Mark runs as killed, in every experiment, that count as running though their process on this machine is gone."""
    places = [each.experiment_id for each in every(client().search_experiments)]
    ours = f"attributes.status = 'RUNNING' and tags.`hiraku.host` = '{socket.gethostname()}'"
    running = list(every(partial(client().search_runs, places, ours)))
    dead = [run for run in running if processes.is_dead(run.data.tags.get("hiraku.process", ""))]
    for run in dead:
        close_run(run.info.run_id, "KILLED")
    return len(dead)


def every(search: Callable[..., Any]) -> Iterator[Any]:
    """Everything that a search of MLflow finds, which it gives page by page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


# ---- runs -----------------------------------------------------------------------------------------------------------


REASON = "reason"
"""Tag of a run that did not come to its end."""


def tag_key(key: str) -> str:
    """A key with only the characters that MLflow allows."""
    return re.sub(r"[^\w./ :-]", "_", key)


@dataclass
class Release:
    """The run of a release, or of a verb alone: opened when something happens, so that nothing to do leaves none."""

    name: str
    experiment: str
    tags: dict[str, str] = field(default_factory=dict)
    """Its stages have them too."""
    verb: str = "release"
    run_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What it makes, nested: the recipe's sections and all they refer to."""
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def open(self) -> str:
        """The id of the run, made when it is first asked for, in whichever thread."""
        with self._opening:
            if not self.run_id:
                kind = "release" if self.verb == "release" else "verb"
                words = f"{self.verb} {self.name}"
                own = _source_tags(words, self.tags.get("git_revision", ""))
                self.run_id = _create_run(
                    self.experiment, words, {"hiraku.kind": kind, "verb": self.verb, **own, **self.tags}
                )
                log_parameters(self.run_id, self.parameters)
        return self.run_id

    def tag(self, key: str, value: str) -> None:
        """Tag the run, if there is one."""
        if self.run_id:
            tag_run(self.run_id, key, value)

    def metrics(self, values: dict[str, float]) -> None:
        """The figures by which releases are compared in a table."""
        if values and self.run_id:
            _log_points(self.run_id, [(key, value, time.time(), 0) for key, value in values.items()])

    def attach(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run, if both are there."""
        if self.run_id and path.is_file():
            client().log_artifact(self.run_id, str(path), folder)

    def write(self, name: str, text: str) -> None:
        """Keep a text with the run, if there is one, as a file among its artifacts."""
        if self.run_id:
            client().log_text(self.run_id, text, name)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, if there is one."""
        if self.run_id:
            client().set_terminated(self.run_id, status)


def resumable_run(run_id: str) -> "Run | None":
    """A run that can be gone on with: it exists and has not finished."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # another server, or deleted
        run = client().get_run(run_id)
        if run.info.status != "FINISHED" and run.info.lifecycle_stage == "active":
            return run
    return None


def open_stage_run(release: Release, verb: str, name: str, tags: dict[str, str], resume: str = "") -> str:
    """A run nested under a release; `resume` names one to go on with if that can be."""
    parent = release.open()
    tags = {"mlflow.parentRunId": parent, "verb": verb, "name": name, **tags}
    run = resumable_run(resume) if resume else None
    if run is not None:
        client().update_run(run.info.run_id, status="RUNNING")
        if REASON in run.data.tags:  # why an earlier try of it failed
            client().delete_tag(run.info.run_id, REASON)
        for key, value in {**processes.tags(), **tags}.items():
            client().set_tag(run.info.run_id, tag_key(key), value)
        return str(run.info.run_id)
    own = _source_tags(f"{verb} {name}", release.tags.get("git_revision", ""))
    return _create_run(release.experiment, f"{verb} {name}", {"hiraku.kind": "stage", **own, **release.tags, **tags})


def _create_run(experiment: str, name: str, tags: dict[str, str]) -> str:
    tags = {tag_key(key): value for key, value in {**processes.tags(), **tags}.items()}
    return str(client().create_run(_experiment(experiment), tags=tags, run_name=name).info.run_id)


def _source_tags(words: str, revision: str) -> dict[str, str]:
    """What fills MLflow's own columns of user, source and version."""
    tags = {"mlflow.source.name": f"hiraku {words}", "mlflow.source.type": "LOCAL"}
    if revision:
        tags["mlflow.source.git.commit"] = revision
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def logged_points(run_id: str) -> set[tuple[str, int]]:
    """The (metric, step) pairs that a run has, so that a resumed one repeats none."""
    keys = client().get_run(run_id).data.metrics
    return {(key, point.step) for key in keys for point in client().get_metric_history(run_id, key)}


def log_points(run_id: str, points: list[dict[str, Any]], logged: set[tuple[str, int]]) -> None:
    """Send points of a journal that are not yet in `logged`, and add them to it; of equal ones the first."""
    rows: dict[tuple[str, int], tuple[str, float, float, int]] = {}
    for point in points:
        for key, value in point["metrics"].items():
            place = (tag_key(key), int(point["step"]))
            if place not in logged:
                rows.setdefault(place, (place[0], float(value), float(point["time"]), place[1]))
    _log_points(run_id, list(rows.values()))
    logged.update(rows)


def last_metrics(run_id: str) -> dict[str, float]:
    """The last value of each metric of a run."""
    return dict(client().get_run(run_id).data.metrics)


def _log_points(run_id: str, rows: list[tuple[str, float, float, int]]) -> None:
    from mlflow.entities import Metric

    for batch in _batches(rows, BATCH_METRICS):
        metrics = [Metric(key, value, int(seconds * 1000), step) for key, value, seconds, step in batch]
        client().log_batch(run_id, metrics=metrics)


def log_parameters(run_id: str, nested: dict[str, Any]) -> None:
    """Send parameters, nested keys joined by dots; what the run has already is left as it is."""
    from mlflow.entities import Param

    known = client().get_run(run_id).data.params
    rows = [(tag_key(key), str(value)[:MAX_VALUE_CHARS]) for key, value in flatten(nested)]
    for batch in _batches([row for row in rows if row[0] not in known], BATCH_PARAMETERS):
        client().log_batch(run_id, params=[Param(key, value) for key, value in batch])


def flatten(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` -> `("a.b", 1)`; lists stay whole, as JSON."""
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def attach_files(run_id: str, files: dict[Path, str | None]) -> None:
    """Keep files with a run: path -> folder among its artifacts."""
    for path, folder in files.items():
        client().log_artifact(run_id, str(path), folder)


def attached_bytes(run_id: str, folder: str) -> dict[str, int]:
    """Name -> size of the files that a run has in a folder among its artifacts."""
    found = client().list_artifacts(run_id, folder)
    return {Path(file.path).name: file.file_size or 0 for file in found if not file.is_dir}


def log_corpora(run_id: str, corpora: list[UsedCorpus], tags: dict[str, str]) -> None:
    """Name the data sets that a run reads; those it has already are left as they are.

    Args:
        run_id: the run.
        corpora: what it reads.
        tags: of each, such as the hash of `data.dvc`.
    """
    from mlflow.data.dataset_source_registry import get_dataset_source_from_json
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types.schema import ColSpec, DataType, Schema

    types = {"string": DataType.string, "large_string": DataType.string, "int64": DataType.long}
    inputs = []
    for each in corpora:
        columns: list[Any] = [ColSpec(types.get(kind, DataType.binary), name) for name, kind in each.columns.items()]
        is_address = urlparse(each.source).scheme in ("http", "https")
        place = {"url" if is_address else "uri": each.source}
        source = get_dataset_source_from_json(json.dumps(place), "http" if is_address else "local")
        schema = Schema(columns) if columns else None
        made = MetaDataset(source, each.name, each.digest, schema)  # type: ignore[abstract] # only by its types
        marks = {"mlflow.data.context": each.use, "content_hash": each.content_hash, **tags}
        dataset = Dataset(**made.to_dict() | {"profile": json.dumps(each.counts)})
        inputs.append(DatasetInput(dataset, [InputTag(tag_key(key), value) for key, value in marks.items()]))
    if inputs:
        client().log_inputs(run_id, datasets=inputs)


def tag_run(run_id: str, key: str, value: str) -> None:
    """Tag a run."""
    client().set_tag(run_id, tag_key(key), value[:MAX_VALUE_CHARS])


def close_run(run_id: str, status: str) -> None:
    """End a run as FINISHED, FAILED or KILLED."""
    client().set_terminated(run_id, status)


@dataclass(frozen=True)
class KeptRun:
    """What a release has left."""

    run_id: str
    tags: dict[str, str]


def release_runs(most: int) -> list[KeptRun]:
    """The newest releases of every recipe, newest first; those that ended before they worked are among them."""
    places = [each.experiment_id for each in every(client().search_experiments)]
    wanted = "tags.`hiraku.kind` = 'release'"
    found = client().search_runs(places, wanted, max_results=most, order_by=["attributes.start_time DESC"])
    return [KeptRun(run.info.run_id, dict(run.data.tags)) for run in found]


def kept_text(run_id: str, path: str) -> str | None:
    """A text file among a run's artifacts; None if it has none of that name."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.suppress(*troubles()):
        return Path(client().download_artifacts(run_id, path, temporary)).read_text(encoding="utf-8")
    return None
