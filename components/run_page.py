"""What the pages of the tracking server show of a run besides its curves: a note, tables, pictures."""

import json
from typing import Any

from components.tracking import MAX_VALUE_CHARS, client

TABLES = "mlflow.loggedArtifacts"
"""Tag by which MLflow's page finds the tables of a run."""


def attach_text(run_id: str, text: str, path: str) -> None:
    """Keep a text with a run, under a path among its artifacts."""
    client().log_text(run_id, text, path)


def log_table(run_id: str, path: str, columns: dict[str, list[Any]]) -> None:
    """Keep a table that MLflow's page shows, and compares between runs.

    In the form of `MlflowClient.log_table`, which would append to one that is there already.
    """
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    attach_text(run_id, json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False), path)
    known = json.loads(client().get_run(run_id).data.tags.get(TABLES, "[]"))
    entry = {"path": path, "type": "table"}
    if entry not in known:
        client().set_tag(run_id, TABLES, json.dumps([*known, entry]))


def note_run(run_id: str, text: str) -> None:
    """What MLflow's page shows at the head of a run, as Markdown."""
    client().set_tag(run_id, "mlflow.note.content", text[:MAX_VALUE_CHARS])


def page_of(run_id: str) -> str:
    """The address of a run within MLflow's pages."""
    return f"#/experiments/{client().get_run(run_id).info.experiment_id}/runs/{run_id}"
