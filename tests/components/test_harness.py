"""Tasks of lm-eval over our networks: beside plain lm-eval, in both sets, resumed, and on bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.modalities.text import harness, harness_model
from components.modalities.text.harness_schema import Harness
from components.modalities.text.leaking import task_texts
from components.outcomes import Refused
from components.scoring import Model, open_foreign
from tests.components.small_harness import (
    NUM_ITEMS,
    fit_tokenizer,
    items,
    open_small,
    write_items,
    write_llama,
    write_mistral,
    write_model,
)
from tests.conftest import ROOT

CHOICES = ("jcommonsenseqa", "jnli", "xwinograd-ja")
TEXTS = ("jsquad", "xlsum-ja", "mgsm-ja")
VERSIONS = {"xwinograd-ja": "0.0", "xlsum-ja": "0.0", "mgsm-ja": "0.0"}
METRICS = {"jsquad": "exact_match", "xlsum-ja": "rouge2"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("harness")
    fit_tokenizer(place / "tokenizer")
    for architecture in ("gpt2", "gpt_neox"):
        write_model(place / architecture, architecture, place / "tokenizer")
    write_items(place, [*CHOICES, *TEXTS])
    return place


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the same models and items, and an empty memory."""
    for name in ("gpt2", "gpt_neox", "tokenizer"):
        (tmp_path / name).symlink_to(root / name)
    write_items(tmp_path, [*CHOICES, *TEXTS])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def section(*tasks: str, **keys: Any) -> Harness:
    rows = [
        {
            "task": task,
            "version": VERSIONS.get(task, "0.2"),
            "shots": 0 if task == "xwinograd-ja" else 2,
            "metric": METRICS.get(task, "acc"),
        }
        for task in tasks
    ]
    return Harness.model_validate({"kind": "harness", "tasks": rows, **keys})


def rows_of(asked: Harness, model: Model) -> list[dict[str, Any]]:
    told: list[tuple[int, int]] = []
    rows = list(harness.score(asked, model, lambda *_, **__: (), lambda *done: told.append(done)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    return rows


def totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows if row.get("item", "") is None}


def samples(asked: Harness, model: Model) -> dict[str, list[dict[str, Any]]]:
    """What our network answers, task by task."""
    loaded, notes = harness.load_all(asked, lambda *_, **__: ())
    assert not notes
    ours = harness_model.HarnessModel(model, harness_model.Answers(model))
    found = {}
    for each in loaded:
        ours.begin(each.task, is_published=each.set_name == "paper", told=lambda _: None)
        found[each.section.task] = sorted(harness.samples_of(each, ours), key=lambda sample: sample["doc_id"])
    return found


# ---- beside plain lm-eval --------------------------------------------------------------------------------------------


def plain(root: Path, asked: Harness, folder: Path, prefix: int = 2) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval's own model for transformers answers to the same task files."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    for each in asked.tasks:
        place = root / "data" / "eval_ja" / each.task.replace("-", "_")
        body = {
            "include": str(ROOT / "recipes" / "tasks" / "harness" / each.task / f"{each.version}.yaml"),
            "task": each.task,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {
                "data_files": {name: str(place / f"{name}.jsonl") for name in ("train", "validation", "test")},
                "cache_dir": str(root / "cache"),
            },
            "num_fewshot": each.shots,
        }
        (root / "plain").mkdir(exist_ok=True)
        (root / "plain" / f"{each.task}.yaml").write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(folder), "prefix_token_id": prefix, "dtype": "float32", "device": "cpu"},
        tasks=[each.task for each in asked.tasks],
        batch_size=4,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(root / "plain"), include_defaults=False),
    )
    return {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in found["samples"].items()}


def require_same(ours: dict[str, list[dict[str, Any]]], theirs: dict[str, list[dict[str, Any]]]) -> None:
    """Arguments, answers and metrics of every item."""
    assert ours.keys() == theirs.keys()
    for task, rows in ours.items():
        assert len(rows) == NUM_ITEMS
        for mine, other in zip(rows, theirs[task], strict=True):
            assert mine["arguments"] == other["arguments"]
            if task in TEXTS:
                assert mine["resps"] == other["resps"]
            else:
                for (value, is_greedy), (expected, also_greedy) in zip(
                    (each[0] for each in mine["resps"]), (each[0] for each in other["resps"]), strict=True
                ):
                    assert value == pytest.approx(expected, abs=1e-4)
                    assert is_greedy == also_greedy
            assert {key: mine[key] for key in mine["metrics"]} == {key: other[key] for key in other["metrics"]}


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_likelihoods_answers_and_metrics_are_those_of_plain_lm_eval(project: Path, architecture: str) -> None:
    asked = section(*CHOICES, *TEXTS, sets=["fixed"])
    theirs = plain(project, asked, project / architecture)
    ours = samples(asked, open_small(project / architecture))
    assert ours.keys() == {*CHOICES, *TEXTS}
    require_same(ours, theirs)


@pytest.mark.parametrize("write", [write_llama, write_mistral])
def test_somebody_elses_model_is_asked_as_plain_lm_eval_asks_it_with_its_own_token_before_the_text(
    project: Path, write: Callable[[Path, Path], None]
) -> None:
    write(project / "theirs", project / "tokenizer")
    asked = section(*CHOICES, "jsquad", sets=["fixed"])
    theirs = plain(project, asked, project / "theirs", prefix=1)
    model = open_foreign("gpt", project / "theirs")
    assert model.encoder.puts_start
    require_same(samples(asked, model), theirs)


# ---- totals ----------------------------------------------------------------------------------------------------------


def test_totals_are_means_over_items_and_the_average_is_over_tasks(project: Path) -> None:
    rows = rows_of(section("jnli", "jsquad", "mgsm-ja"), open_small(project / "gpt2"))
    found = totals(rows)
    for name in ("fixed", "paper"):
        means = []
        for task, metric in (("jnli", "acc"), ("jsquad", "exact_match"), ("mgsm-ja", "acc")):
            key = f"{name}/{task}/{metric}"
            values = {row["item"]: row["value"] for row in rows if row.get("metric") == key and row["item"]}
            assert values.keys() == {f"{task}/{number}" for number in range(1, NUM_ITEMS + 1)}
            assert found[key] == pytest.approx(sum(values.values()) / NUM_ITEMS)
            means.append(found[key])
        assert found[f"{name}/average"] == pytest.approx(sum(means) / 3)
    assert found["fixed/num_tasks"] == found["paper/num_tasks"] == 3


def test_a_task_without_data_is_missing_and_not_zero(project: Path) -> None:
    rows = rows_of(section("marc-ja", "jnli"), open_small(project / "gpt2"))
    found = totals(rows)
    [note] = [row["note"] for row in rows if "note" in row]
    assert note.startswith("marc-ja is missing: data/eval_ja/marc_ja/train.jsonl is not here.")
    assert not any("marc-ja" in metric for metric in found)
    assert found["fixed/average"] == found["fixed/jnli/acc"]
    assert found["fixed/num_tasks"] == 1


def test_items_are_known_again_by_what_is_asked_in_them(project: Path) -> None:
    asked = section("jsquad", "jnli", "marc-ja")
    found = dict(task_texts(asked, lambda *_, **__: ()))
    first = json.loads((project / "data/eval_ja/jsquad/validation.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert found["jsquad/1"] == [first["question"]]
    assert all(len(texts) == 2 for item, texts in found.items() if item.startswith("jnli/"))
    assert not any(item.startswith("marc-ja/") for item in found)


def test_where_no_task_has_data_there_is_no_score(project: Path) -> None:
    with pytest.raises(Refused, match=r"No task can be scored. marc-ja is missing: .* is not here"):
        rows_of(section("marc-ja"), open_small(project / "gpt2"))


def test_what_was_asked_and_answered_stands_beside_the_scores(project: Path) -> None:
    asked = section("jnli", "jsquad", sets=["fixed", "paper"])
    model = open_small(project / "gpt2")
    said = {row["item"]: row for row in rows_of(asked, model) if "output" in row}
    assert len(said) == 4 * NUM_ITEMS
    for name in ("fixed", "paper"):
        for task, samples_of_task in samples(section("jnli", "jsquad", sets=[name]), model).items():
            for sample in samples_of_task:
                row = said[f"{name}/{task}/{sample['doc_id'] + 1}"]
                assert row["prompt"] == sample["arguments"][0][0]
                if task == "jsquad":
                    assert row["output"] == sample["filtered_resps"][0]
                else:
                    best = max(sample["filtered_resps"])
                    assert row["output"] == sample["arguments"][sample["filtered_resps"].index(best)][1]


# ---- the two sets ----------------------------------------------------------------------------------------------------


def test_the_published_set_gives_away_how_long_the_right_answer_is_and_the_mended_one_does_not(project: Path) -> None:
    model = open_small(project / "gpt2")
    published, mended = (samples(section("jsquad", sets=[name]), model)["jsquad"] for name in ("paper", "fixed"))
    for item, short, free in zip(items("jsquad", 1, NUM_ITEMS), published, mended, strict=True):
        limit = max(len(ids) for ids in model.encoder.encode_texts(item["answers"]["text"]))
        answer, whole = short["resps"][0][0], free["resps"][0][0]
        assert len(model.encoder.encode_texts([answer])[0]) <= limit
        assert len(answer) < len(whole)


def test_rouge_of_the_published_set_is_over_the_models_own_tokens(project: Path) -> None:
    from components.modalities.text.japanese_answers import rouge2, words

    model = open_small(project / "gpt2")
    asked = section("xlsum-ja", sets=["fixed", "paper"])
    rows = {(row["item"], row["metric"]): row["value"] for row in rows_of(asked, model) if "metric" in row}
    for name, cut in (("fixed", words), ("paper", lambda text: list(map(str, model.encoder.encode_texts([text])[0])))):
        for sample in samples(section("xlsum-ja", sets=[name]), model)["xlsum-ja"]:
            expected = rouge2(sample["filtered_resps"][0], sample["target"], cut)
            assert rows[f"xlsum-ja/{sample['doc_id'] + 1}", f"{name}/xlsum-ja/rouge2"] == expected


def test_a_card_shows_both_sets_why_they_differ_and_what_is_missing(project: Path) -> None:
    asked = section("jcommonsenseqa", "marc-ja")
    rows = rows_of(asked, open_small(project / "gpt2"))
    text = "\n\n".join(asked.told(totals(rows), {"fixed/average": 0.2}, [row["note"] for row in rows if "note" in row]))
    assert "| Task | Prompt | Examples | Items | Metric | fixed | paper |" in text
    assert "| `marc-ja` | 0.2 | 2 |  | acc | missing | missing |" in text
    assert "mean of 1 of 2 tasks" in text
    assert "±" in text
    assert "marc-ja is missing" in text
    assert "the texts of the choices were scored" in text


@pytest.mark.parametrize(
    ("task", "version", "shots", "expected"),
    [
        ("xwinograd-ja", "0.0", 0, {"tokens", "start"}),
        ("town", "1.0", 0, {"tokens", "start"}),
        ("jnli", "0.2", 3, {"tokens", "start", "examples"}),
        ("jcommonsenseqa", "0.2", 3, {"tokens", "start", "examples", "choices"}),
        ("jcommonsenseqa", "0.3", 3, {"tokens", "start", "examples"}),
        ("jsquad", "0.4", 2, {"ends", "start", "examples", "length"}),
        ("jaqket-v2", "0.2", 1, {"ends", "start", "examples", "length", "passages"}),
        ("xlsum-ja", "0.0", 1, {"ends", "start", "examples", "length", "ROUGE-2"}),
        ("mgsm-ja", "0.0", 5, {"start", "examples"}),
        ("mgsm-ja", "0.5", 5, {"start", "examples", "turns"}),
    ],
)
def test_a_card_says_why_the_sets_differ_on_the_tasks_that_ran_alone(
    project: Path, task: str, version: str, shots: int, expected: set[str]
) -> None:
    rows = [{"task": task, "version": version, "shots": shots}, {"task": "marc-ja", "version": "0.2", "shots": 3}]
    asked = Harness.model_validate({"kind": "harness", "tasks": rows})
    scores = {f"{name}/{rest}": 1.0 for name in asked.sets for rest in (f"{task}/acc", "average", "num_tasks")}
    text = "\n".join(asked.told(scores, {}, []))
    assert {name for name in Harness.QUIRKS if f"- {name}: " in text} == expected


def row_of(text: str, begin: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {begin}")]
    return [each.strip() for each in line.strip("|").split("|")]


def test_a_card_shows_which_share_stands_in_the_training_data_and_clean_scores(project: Path) -> None:
    asked = section("jnli", "jsquad", "marc-ja", sets=["fixed"])
    scores = {
        "fixed/jnli/acc": 0.5, "fixed/jsquad/exact_match": 0.25, "fixed/average": 0.375, "fixed/num_tasks": 2.0,
    }  # fmt: skip
    looked = {
        "contaminated_share": 0.2, "jnli/num_looked_for": 8.0, "jnli/num_not_looked_for": 2.0,
        "jnli/num_contaminated": 2.0, "jnli/contaminated_share": 0.25, "fixed/jnli/acc_clean": 0.375,
        "jsquad/num_looked_for": 0.0, "jsquad/num_not_looked_for": 5.0, "jsquad/num_contaminated": 0.0,
        "fixed/average_clean": 0.375, "fixed/num_tasks_clean": 1.0,
    }  # fmt: skip
    text = asked.told(scores | looked, {"fixed/jnli/acc_clean": 0.12}, [], {"unknown": []})[0]
    assert row_of(text, "Task")[-2:] == ["Contaminated", "fixed, clean"]
    assert row_of(text, "`jnli`")[-2:] == ["25.0% of 8, 2 not looked for", "0.38 ± 0.12"]
    assert row_of(text, "`jsquad`")[-2:] == ["not looked for", "not looked for"]
    assert row_of(text, "`marc-ja`")[-3:] == ["missing", "", ""]
    assert row_of(text, "mean of 2 of 3 tasks")[-2:] == ["", "0.375 (1 of 2 tasks)"]


def test_where_nothing_stands_in_the_training_data_the_clean_score_is_the_score(project: Path) -> None:
    asked = section("jnli", sets=["fixed"])
    scores = {"fixed/jnli/acc": 0.5, "fixed/average": 0.5, "fixed/num_tasks": 1.0}
    looked = {"contaminated_share": 0.0, "num_looked_for": 8.0, "num_not_looked_for": 0.0, "num_contaminated": 0.0}
    text = asked.told(scores | looked, {}, [], {})[0]
    assert row_of(text, "`jnli`")[-2:] == ["0.0% of 8", "0.5"]
    assert row_of(text, "mean of 1 of 1 tasks")[-2:] == ["", "0.5"]


def test_of_somebody_elses_model_contamination_is_unknown(project: Path) -> None:
    asked = section("jnli")
    scores = {f"{name}/{rest}": 0.5 for name in asked.sets for rest in ("jnli/acc", "average", "num_tasks")}
    text = asked.told(scores, {}, [], {"unknown": ["theirs"]})[0]
    assert row_of(text, "`jnli`")[-3:] == ["unknown"] * 3
    assert row_of(text, "mean of")[-3:] == ["", "unknown", "unknown"]
    assert "clean" not in asked.told(scores, {}, [])[0]


# ---- kept answers ----------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[harness_model.Answers]:
    """The memories that are opened from here on."""
    found: list[harness_model.Answers] = []
    before = harness_model.Answers.__init__

    def init(self, model: Any) -> None:
        before(self, model)
        found.append(self)

    monkeypatch.setattr(harness_model.Answers, "__init__", init)
    return found


def test_a_second_run_asks_nothing_and_says_the_same(project: Path, monkeypatch) -> None:
    made = counted(monkeypatch)
    asked = section("jnli", "jsquad")
    first, second = (rows_of(asked, open_small(project / "gpt2")) for _ in range(2))
    assert first == second
    assert made[0].num_made > 0
    assert made[1].num_made == 0


def test_a_run_that_was_killed_asks_only_what_is_missing(project: Path, monkeypatch) -> None:
    made = counted(monkeypatch)
    asked = section("jnli", "jsquad", sets=["fixed"])
    alone = open_small(project / "gpt2")
    expected = rows_of(asked, Model(alone.network, alone.encoder))  # keeps nothing
    monkeypatch.setattr("components.modalities.text.branches.MAX_TOKENS", {"cpu": 200, "cuda": 200})

    def killed(*done: int) -> None:
        if done[0] >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(harness.score(asked, open_small(project / "gpt2"), lambda *_, **__: (), killed))
    resumed = rows_of(asked, open_small(project / "gpt2"))
    assert 0 < made[1].num_made < made[0].num_made
    assert made[1].num_made + made[2].num_made == made[0].num_made
    assert totals(resumed) == totals(expected)


# ---- bad input -------------------------------------------------------------------------------------------------------


def change_line(project: Path, task: str, file: str, number: int, change) -> None:
    path = project / "data" / "eval_ja" / task / f"{file}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def without(field: str):
    return lambda line: json.dumps({key: value for key, value in json.loads(line).items() if key != field})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("sentence2"),
            r"item 3 of data/eval_ja/jnli/validation.jsonl has no field sentence2, expected sentence1",
        ),
        (lambda line: line[:20], r"line 3 of data/eval_ja/jnli/validation.jsonl is no JSON"),
        (lambda _: "[1]", r"line 3 of data/eval_ja/jnli/validation.jsonl is \[1\], expected keys and values"),
    ],
)
def test_a_task_whose_data_are_broken_is_named_and_the_others_go_on(project: Path, change, message: str) -> None:
    import re

    change_line(project, "jnli", "validation", 3, change)
    rows = rows_of(section("jnli", "xwinograd-ja"), open_small(project / "gpt2"))
    [note] = [row["note"] for row in rows if "note" in row]
    assert re.search(message, note)
    assert totals(rows)["fixed/num_tasks"] == 1
    assert "fixed/xwinograd-ja/acc" in totals(rows)


def test_an_item_without_a_right_answer_is_left_out_and_named(project: Path) -> None:
    def hidden(line: str) -> str:
        return json.dumps(json.loads(line) | {"label": None})

    change_line(project, "jnli", "validation", 2, hidden)
    rows = rows_of(section("jnli", "xwinograd-ja"), open_small(project / "gpt2"))
    [note] = [row["note"] for row in rows if "note" in row]
    assert "1 of 7 items have no right answer and are left out, the first is 2 of data/eval_ja/jnli" in note
    assert totals(rows)["jnli/num_items"] == NUM_ITEMS - 1
    assert "jnli/2" not in {row.get("item") for row in rows}


def test_a_misspelt_task_or_version_is_answered_with_the_nearest(project: Path) -> None:
    with pytest.raises(Refused, match=r"'jnly'.*Did you mean 'jnli'"):
        _ = section("jnly").files
    with pytest.raises(Refused, match=r"no prompt version 0.9, known are 0.2, 0.3, 0.4, 0.5"):
        _ = Harness.model_validate({"kind": "harness", "tasks": [{"task": "jnli", "version": "0.9", "shots": 0}]}).files


def test_a_metric_that_a_task_has_not_is_refused(project: Path) -> None:
    keys = {"task": "jsquad", "version": "0.2", "shots": 0, "metric": "acc"}
    with pytest.raises(Refused, match="'jsquad' has the metrics exact_match, f1"):
        rows_of(Harness.model_validate({"kind": "harness", "tasks": [keys]}), open_small(project / "gpt2"))


def test_contexts_before_choices_that_are_too_long_are_counted(project: Path) -> None:
    write_model(project / "short", "gpt2", project / "tokenizer", max_positions=130)
    model = open_small(project / "short")
    asked = Harness.model_validate(
        {"kind": "harness", "sets": ["fixed"], "tasks": [{"task": "jnli", "version": "0.2", "shots": 5}]}
    )
    assert totals(rows_of(asked, model))["fixed/jnli/num_cut"] == NUM_ITEMS


def test_a_choice_longer_than_the_network_is_named_and_the_other_tasks_go_on(project: Path) -> None:
    write_model(project / "tiny", "gpt2", project / "tokenizer", max_positions=4)
    rows = rows_of(section("xwinograd-ja", "jcommonsenseqa", sets=["fixed"]), open_small(project / "tiny"))
    note, cut = [row["note"] for row in rows if "note" in row]
    assert cut.startswith("jcommonsenseqa in 'fixed': 7 of 7 items did not fit into 4 tokens whole; the first: 1, 2, 3")
    assert note.startswith("xwinograd-ja is missing in 'fixed': item 0 (counted from 0) has a choice of")
    assert totals(rows)["fixed/average"] == totals(rows)["fixed/jcommonsenseqa/acc"]
    assert totals(rows)["fixed/num_tasks"] == 1


def test_a_model_without_its_tokenizer_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare" / name).write_bytes((project / "gpt2" / name).read_bytes())
    with pytest.raises(Refused, match="no text can be encoded"):
        open_small(tmp_path / "bare")
