"""What the run of a release shows at its end: the figures, data and tables of all its stages, and a note."""

import json

from components import run_page, tracking
from components.corpora import UsedCorpus, used_by
from components.recipes import Library
from flows import exhibits
from flows.summary import Summary

COMPARED = frozenset({"pretrain", "align", "evaluate"})
"""Verbs whose last figures stand in the release's run too, so that releases can be compared in one table."""


def show(release: tracking.Release, done: Summary, status: str) -> None:
    """Bring the run of a release, if there is one, to where it can be compared with others.

    Args:
        release: the run.
        done: what became of its stages.
        status: how it ends.
    """
    if not release.run_id:
        return
    run = tracking.client().get_run(release.run_id)
    made = _runs(run.data.tags, done)
    known = dict(run.data.metrics)
    for (verb, _), run_id in made.items():
        if verb in COMPARED:  # a stage that was ready has its figures in the run that made it
            found = tracking.last_metrics(run_id)
            known = {key: value for key, value in found.items() if key.startswith(f"{verb}/")} | known
    for row in done.rows:  # of a state from the run cache there may be no run here
        if row.verb in COMPARED:
            known = exhibits.figures(row.verb, row.name) | known
    release.metrics({key: value for key, value in known.items() if key not in run.data.metrics})
    _show_state(release, done)
    pages = {stage: run_page.page_of(run_id) for stage, run_id in made.items()}
    note = exhibits.release_note(done, release.verb, status, known, pages, release.tags)
    run_page.note_run(release.run_id, note)


def _runs(tags: dict[str, str], done: Summary) -> dict[tuple[str, str], str]:
    """(verb, name) of each stage -> the run that made what there is of it, by the tags of a release.

    MLflow allows not all of a name in a key: that of shards has a plus sign.
    """
    found: dict[tuple[str, str], str] = {}
    stages = {tracking.tag_key(f"{row.verb}.{row.name}"): (row.verb, row.name) for row in done.rows}
    for key, value in tags.items():
        how, _, stage = key.partition(".")
        if how in ("ran", "ready", "restored"):
            verb, _, name = stage.partition(".")
            found[stages.get(stage, (verb, name))] = json.loads(value)["run_id"]
    return found


def _show_state(release: tracking.Release, done: Summary) -> None:
    """The data sets that its stages read, and the tables of its scores."""
    corpora: dict[str, UsedCorpus] = {}
    for row in done.rows:
        if row.verb in COMPARED:
            for each in used_by(Library(), row.verb, row.name):
                corpora.setdefault(each.name, each)
            for path, columns in exhibits.tables(row.verb, row.name).items():
                run_page.log_table(release.run_id, path, columns)
    versions = {key: value for key, value in release.tags.items() if key.startswith("data ")}
    tracking.log_corpora(release.run_id, list(corpora.values()), versions)
