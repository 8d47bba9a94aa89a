"""`validate`: records become a report, a profile and the ids accepted, or the flow stops.

One row of facts a record (from its modality, and from here its digest) is held against a Great Expectations suite made
of the corpus YAML. A record that breaks an expectation within the share it tolerates (`mostly`) is not accepted either.

Memory does not grow with the corpus: the facts lie in a SQLite file of `components.facts` while the verb runs, which
Great Expectations asks by SQL. What grows are the ids of records that break an expectation within its tolerance.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from components import paths
from components.contact_sheet import sheets_of
from components.facts import TABLE, FactTable
from components.findings import findings_of
from components.journal import Journal
from components.manifest import Manifest, read_manifest, writing
from components.modalities import modality
from components.outcomes import Refused
from components.profiles import profile_of
from components.progress import Progress
from components.recipes import Corpus, Library
from components.records import ACCEPTED_NAME, FILE, SPLITS, TableWriter, content_digest, iterate_records, text_schema
from components.report_words import validation_words
from components.reports import validation_page

REVISION = 2

PAGE_NAME = "report.html"
WORDS_NAME = "report.md"
DOCS_NAME = "data_docs"
PROFILE_NAME = "profile.json"
INGEST_REPORT_NAME = "report.json"
FACTS_NAME = "facts.sqlite"
"""Lies in the unfinished state while the verb runs."""
FAILED_SHARE = "downloads_failed_share"
ROWS_BETWEEN_WORDS = 500
PROMPT_MOSTLY = 0.98
"""Records whose prompt stands in one split alone; the others are left out, and more of them refuse the corpus. Our
choice: a translator gives different prompts of different splits the same words."""

Expectation = tuple[str, dict[str, Any]]
"""Class name and arguments; `meta` carries the claim in plain words and the keys that decide it."""


def validate(name: str) -> None:
    """Hold a corpus's records against its suite; leave accepted ids, profile, report in `artifacts/validated/<name>/`.

    Raises:
        Refused: with one line per expectation that does not hold; the report is then in
            `artifacts/outcomes/validate/<name>/`.
    """
    corpus: Corpus = Library().read("corpus", name)
    kept = paths.outcome_folder("validate", name)
    shutil.rmtree(kept, ignore_errors=True)
    records = read_manifest("ingest", name)
    started = time.monotonic()
    modalities = [modality(each) for each in sorted({column.modality for column in corpus.columns.values()})]
    manifest = Manifest(
        verb="validate",
        name=name,
        revisions={__name__: REVISION, **{each.__name__: each.REVISION for each in modalities}},  # type: ignore[attr-defined]
        parents={paths.payload("ingest", name).as_posix(): records.payload_hash},
        licence=corpus.licence,
    )
    with writing(manifest) as folder, closing(FactTable(folder / FACTS_NAME)) as facts:
        surveys = _collect_facts(name, corpus, int(records.counts["num_records"]), facts)
        suite = [*_suite_of(corpus), *_prompt_expectations(corpus, facts)]
        if (downloads := records.details.get("downloads")) is not None:
            suite.append(_download_expectation(corpus, downloads, facts))
        result = _run_suite(name, suite, facts, folder / DOCS_NAME)
        ingest_report = _ingest_report(name)
        profile = profile_of(facts, without=(FAILED_SHARE, *map(_prompt_digest, _kept_together(corpus))))
        profile |= {"surveys": surveys, "duplicates": _duplicates(records.counts)}
        findings = findings_of(result)
        broken = _broken_ids(result)
        sheets = sheets_of(name, corpus, facts, _broken(result))
        page = validation_page(name, corpus.description, findings, profile, ingest_report, sheets)
        (folder / PAGE_NAME).write_text(page, encoding="utf-8")
        (folder / WORDS_NAME).write_text(validation_words(name, findings, profile), encoding="utf-8")
        (folder / PROFILE_NAME).write_text(json.dumps(profile, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        accepted = _write_accepted(facts, broken, folder / paths.PAYLOAD["validate"])
        (folder / FACTS_NAME).unlink()
        problems = [each.line() for each in findings if not each.passed] or list(_losses(corpus, accepted))
        if problems:
            shutil.rmtree(folder / paths.PAYLOAD["validate"])
            shutil.copytree(folder, kept)
            raise Refused(_refusal(name, problems, len(findings), kept))
        manifest.counts = {"num_records": facts.num_rows, "num_accepted": accepted.total()}
        manifest.counts |= {f"num_{split}": accepted[split] for split in SPLITS}
    journal = Journal("validate", name)
    journal.parameters(corpus.model_dump(mode="json"))
    journal.metrics(0, seconds=time.monotonic() - started, **manifest.counts)
    journal.note(PAGE_NAME, page)


# ---- facts -----------------------------------------------------------------------------------------------------------


def _collect_facts(name: str, corpus: Corpus, num_records: int, facts: FactTable) -> dict[str, Any]:
    """Fill the table: id, split, licence, source, file if there is one, digest, and each column's facts under its name.

    Returns:
        What the modality of each column tells of all its values together, by column; of those that do.
    """
    columns = list(corpus.columns)
    prompts = {
        column: partial(modality(section.modality).prompt_of, column=section)
        for column, section in _kept_together(corpus).items()
    }
    checks = {
        column: partial(modality(section.modality).check, column=section) for column, section in corpus.columns.items()
    }
    surveys = {
        column: modality(section.modality).survey(section)  # type: ignore[attr-defined]
        for column, section in corpus.columns.items()
        if hasattr(modality(section.modality), "survey")
    }
    with Progress(f"validate {name}", num_records, unit="record") as progress:
        wanted = [*columns, "licence", "source", FILE]
        for number, record in enumerate(iterate_records(name, wanted, accepted_only=False)):
            values = {column: record[column] for column in columns}
            row = {key: record[key] for key in ("id", "split", "licence", "source", FILE) if key in record}
            row["digest"] = content_digest(values).hex()
            for column in columns:
                row |= {f"{column}_{key}": fact for key, fact in checks[column](values[column]).items()}
            for column, prompt_of in prompts.items():
                prompt = prompt_of(values[column])
                row[_prompt_digest(column)] = None if prompt is None else content_digest({"prompt": prompt}).hex()
            for column, survey in surveys.items():
                survey.add(values[column])
            facts.add(row)
            if number % ROWS_BETWEEN_WORDS == 0:
                progress.update(number)
        progress.update(num_records)
    if not facts.num_rows:
        raise Refused(f"corpus '{name}' has no records to validate. Run: hiraku ingest {name}")
    facts.index("id")
    facts.count_splits("digest", "num_splits")
    for column in prompts:
        if not facts.is_empty(_prompt_digest(column)):  # else of this column no value answers anything
            facts.count_splits(_prompt_digest(column), _prompt_splits(column))
    return {column: survey.report() for column, survey in surveys.items()}


def _duplicates(counts: dict[str, int | float]) -> dict[str, int]:
    """How many rows of the raw data `ingest` left out since an earlier one has the same content, and of how many."""
    return {
        "num_rows": int(counts.get("num_rows", counts["num_records"])),
        "num_left_out": int(counts.get("num_duplicates", 0)),
    }


def _kept_together(corpus: Corpus) -> dict[str, Any]:
    """The columns whose values with one prompt belong into one split."""
    return {name: column for name, column in corpus.columns.items() if not getattr(column, "may_share_splits", False)}


def _prompt_splits(column: str) -> str:
    """The name of the fact in how many splits a record's prompt stands."""
    return f"num_splits_{column}"


def _prompt_digest(column: str) -> str:
    """The name of the fact by which equal prompts are known."""
    return f"prompt_{column}_digest"


def _ingest_report(name: str) -> dict[str, Any]:
    """What `ingest` says of rejects; only for the page."""
    path = paths.state("ingest", name) / INGEST_REPORT_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# ---- the suite -------------------------------------------------------------------------------------------------------


def _suite_of(corpus: Corpus) -> list[Expectation]:
    """What the corpus YAML expects, as Great Expectations class names and arguments."""
    expected = list(_corpus_expectations(corpus))
    for name, column in corpus.columns.items():
        expected += modality(column.modality).expectations(name, column, corpus.language)
    return expected


def _meant(claim: str, keys: list[str], **arguments: Any) -> dict[str, Any]:
    return {**arguments, "meta": {"claim": claim, "keys": keys}}


def _corpus_expectations(corpus: Corpus) -> Iterator[Expectation]:
    """What must hold of every corpus, whatever its modality."""
    claim = f"at least {corpus.min_records:,} records"
    yield "ExpectTableRowCountToBeBetween", _meant(claim, ["min_records"], min_value=corpus.min_records)
    for column in ("id", "split", "licence", "source", "digest"):
        yield "ExpectColumnValuesToNotBeNull", _meant("every record has one", ["source"], column=column)
    yield "ExpectColumnValuesToBeUnique", _meant("no id twice", ["source.id_field"], column="id")
    yield "ExpectColumnValuesToBeUnique", _meant("no content twice", ["source.paths"], column="digest")
    claim = "no content in two splits"
    yield "ExpectColumnValuesToBeBetween", _meant(claim, ["splits"], column="num_splits", max_value=1)
    claim = f"one of {', '.join(SPLITS)}"
    yield "ExpectColumnValuesToBeInSet", _meant(claim, ["splits"], column="split", value_set=list(SPLITS))
    wanted = corpus.splits.expected
    claim = f"none of {', '.join(wanted)} is empty"
    yield "ExpectColumnDistinctValuesToContainSet", _meant(claim, ["splits"], column="split", value_set=wanted)
    allowed = sorted({corpus.licence, *corpus.allowed_licences})
    claim = "a licence that the corpus allows"
    yield (
        "ExpectColumnValuesToBeInSet",
        _meant(claim, ["allowed_licences", "source.licence_field"], column="licence", value_set=allowed),
    )


def _prompt_expectations(corpus: Corpus, facts: FactTable) -> Iterator[Expectation]:
    """No prompt is trained on and held out, nor a speaker, nor whatever else keeps values together."""
    for name, section in _kept_together(corpus).items():
        if (column := _prompt_splits(name)) in facts.kinds:
            what = getattr(section, "KEPT_TOGETHER", f"{name} prompt")
            claim, keys = f"no {what} in two splits", ["splits", "source.split_field"]
            keys.append(f"columns.{name}.may_share_splits")
            yield (
                "ExpectColumnValuesToBeBetween",
                _meant(claim, keys, column=column, max_value=1, mostly=PROMPT_MOSTLY),
            )


def _download_expectation(corpus: Corpus, downloads: dict[str, Any], facts: FactTable) -> Expectation:
    """Enough of the addresses of a list gave a picture; the share stands in the facts, the same in every row."""
    facts.add_constant(FAILED_SHARE, downloads["failed_share"])
    most = corpus.source.download.max_failed_share
    claim = f"at most {most:.0%} of {downloads['addresses']:,} addresses without a picture"
    arguments = _meant(claim, ["source.download.max_failed_share"], column=FAILED_SHARE, max_value=most)
    return "ExpectColumnMaxToBeBetween", arguments


def _run_suite(name: str, expected: list[Expectation], facts: FactTable, docs: Path) -> dict[str, Any]:
    """Run a suite over the facts, render Data Docs into a folder, return the result as plain values."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # All in memory; only the Data Docs are files.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "site_index_builder": index, "store_backend": store}
    context.variables.data_docs_sites = {"local_site": site}
    database = context.data_sources.add_sqlite("facts", connection_string=f"sqlite:///{facts.path.resolve()}")
    batch = database.add_table_asset(name, table_name=TABLE).add_batch_definition_whole_table("all")
    suite = gx.ExpectationSuite(name=name)
    for kind, arguments in expected:
        suite.add_expectation(getattr(gx.expectations, kind)(**arguments))
    definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
    definition = context.validation_definitions.add(definition)
    result = definition.run(
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": [key for key in ("id", FILE) if key in facts.kinds],
            "include_unexpected_rows": False,
        },
    )
    context.build_data_docs()
    return result.to_json_dict()


# ---- the verdict -----------------------------------------------------------------------------------------------------


def _broken(result: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Claim of each expectation on single records that some break, tolerated or not -> their ids, and what they have.

    Ids and digests break what holds of the table, so their values say nothing.
    """
    found = []
    for each in result["results"]:
        if places := each["result"].get("unexpected_index_list"):
            config = each["expectation_config"]
            column = config["kwargs"].get("column", "")
            claim = (config.get("meta") or {}).get("claim", config["type"])
            found.append((f"{column}: {claim}", [(place["id"], str(place.get(column, ""))) for place in places]))
    return found


def _broken_ids(result: dict[str, Any]) -> set[str]:
    """Ids of the records that break an expectation on single records, tolerated or not."""
    return {record for _, places in _broken(result) for record, _ in places}


def _losses(corpus: Corpus, accepted: Counter[str]) -> Iterator[str]:
    """What no longer holds once the tolerated breaches are taken out."""
    if accepted.total() < corpus.min_records:
        yield f"records accepted: found {accepted.total():,}, expected at least {corpus.min_records:,} (min_records)"
    for split in corpus.splits.expected:
        if not accepted[split]:
            yield f"records accepted: found none of split '{split}', expected some (splits.{split})"


def _refusal(name: str, problems: list[str], num_expectations: int, kept: Path) -> str:
    recipe = Library().path("corpus", name)
    count = f"{len(problems)} of {num_expectations} expectations"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return (
        f"corpus '{name}' breaks {count}:{lines}\n"
        f"Mend the raw data, filter it (columns.*.filters), or change the keys named in {recipe}. "
        f"Report: {kept / PAGE_NAME}"
    )


def _write_accepted(facts: FactTable, broken: set[str], folder: Path) -> Counter[str]:
    """Write the ids of the records that break nothing, in order; how many there are of each split."""
    folder.mkdir()
    found: Counter[str] = Counter()
    with TableWriter(folder / ACCEPTED_NAME, text_schema("id")) as table:
        for record, split in facts.rows("id", "split"):
            if record not in broken:
                table.add({"id": record})
                found[split] += 1
    return found
