"""Tasks of lm-eval on data that cannot be right, on contexts that do not fit, and on networks that cannot answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.modalities.text import harness, harness_model
from components.modalities.text.harness_gold import KINDS
from components.modalities.text.harness_schema import Harness
from components.modalities.text.shortening import cut_sentences
from components.outcomes import Refused
from components.scoring import Model
from tests.components.small_harness import (
    NUM_ITEMS,
    fit_tokenizer,
    open_small,
    write_items,
    write_jaqket,
    write_model,
)
from tests.conftest import ROOT

TASKS = ("jcommonsenseqa", "jnli", "xwinograd-ja", "jsquad", "xlsum-ja", "mgsm-ja")
VERSIONS = {"xwinograd-ja": "0.0", "xlsum-ja": "0.0", "mgsm-ja": "0.0"}
METRICS = {"jsquad": "exact_match", "xlsum-ja": "rouge2", "jaqket-v2": "exact_match"}
FILES = {"xwinograd-ja": "test", "xlsum-ja": "test", "mgsm-ja": "test"}
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trust")
    fit_tokenizer(place / "tokenizer")
    for name, longest in (("gpt2", 512), ("short", 150)):
        write_model(place / name, "gpt2", place / "tokenizer", max_positions=longest)
    return place


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the same models, fresh items and an empty memory."""
    for name in ("gpt2", "short", "tokenizer"):
        (tmp_path / name).symlink_to(root / name)
    write_items(tmp_path, list(TASKS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def section(*tasks: str, shots: int = 2, **keys: Any) -> Harness:
    rows = [
        {
            "task": task,
            "version": VERSIONS.get(task, "0.2"),
            "shots": 0 if task == "xwinograd-ja" else shots,
            "metric": METRICS.get(task, "acc"),
        }
        for task in tasks
    ]
    return Harness.model_validate({"kind": "harness", "tasks": rows, **({"sets": ["fixed"]} | keys)})


def rows_of(asked: Harness, model: Model) -> list[dict[str, Any]]:
    return list(harness.score(asked, model, lambda *_, **__: (), lambda *_: None))


def totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows if row.get("item", "") is None}


def notes(rows: list[dict[str, Any]]) -> list[str]:
    return [row["note"] for row in rows if "note" in row]


def place_of(task: str, split: str) -> Path:
    return Path("data/eval_ja") / task.replace("-", "_") / f"{split}.jsonl"


def change_item(task: str, split: str, number: int, change: Change) -> None:
    path = place_of(task, split)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = json.dumps(change(json.loads(lines[number - 1])), ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- answers that cannot be right ------------------------------------------------------------------------------------


def of(**fields: Any) -> Change:
    return lambda row: row | fields


@pytest.mark.parametrize(
    ("task", "split", "change", "words"),
    [
        ("jnli", "validation", of(label="1"), 'has "1" in label, expected one of 0, 1, 2'),
        ("jnli", "validation", of(label=7), "has 7 in label, expected one of 0, 1, 2"),
        ("jnli", "train", of(label=3), "has 3 in label, expected one of 0, 1, 2"),
        ("jcommonsenseqa", "train", of(label=True), "has true in label, expected one of 0, 1, 2, 3, 4"),
        ("xwinograd-ja", "test", of(answer="3"), 'has "3" in answer, expected one of "1", "2", 1, 2'),
        ("xwinograd-ja", "test", of(answer="x"), 'has "x" in answer, expected one of'),
        ("mgsm-ja", "test", of(answer_number="18"), 'has "18" in answer_number, expected a whole number'),
        ("mgsm-ja", "test", of(answer_number=1.5), "has 1.5 in answer_number, expected a whole number"),
        (
            "jsquad",
            "validation",
            of(answers={"text": [1999], "answer_start": [0]}),
            "has [1999] in answers.text, expected a list of texts",
        ),
        ("xlsum-ja", "test", of(summary=12), "has 12 in summary, expected a text"),
    ],
)
def test_an_answer_that_cannot_be_right_makes_its_task_missing_by_name(
    project: Path, task: str, split: str, change: Change, words: str
) -> None:
    change_item(task, split, 3, change)
    loaded, said = harness.load_all(section(task, "jnli" if task != "jnli" else "xwinograd-ja"), lambda *_, **__: ())
    [note] = said
    assert note.startswith(f"{task} is missing: item 3 of {place_of(task, split)} {words}")
    assert note.endswith("Mend the data.")
    assert [each.section.task for each in loaded] == ["jnli" if task != "jnli" else "xwinograd-ja"]


def test_other_tasks_are_scored_beside_one_with_a_wrong_answer(project: Path) -> None:
    change_item("jnli", "train", 2, of(label=9))
    rows = rows_of(section("jnli", "xwinograd-ja"), open_small(project / "gpt2"))
    assert totals(rows)["fixed/num_tasks"] == 1
    assert len(notes(rows)) == 1
    assert not any("jnli" in metric for metric in totals(rows))


def test_answers_kept_secret_are_left_out_and_nothing_else_is(project: Path) -> None:
    change_item("jnli", "validation", 2, of(label=-1))
    change_item("xlsum-ja", "test", 4, of(summary=" "))
    rows = rows_of(section("jnli", "xlsum-ja"), open_small(project / "gpt2"))
    assert totals(rows)["jnli/num_items"] == totals(rows)["xlsum-ja/num_items"] == NUM_ITEMS - 1
    assert len(notes(rows)) == 2
    assert all("1 of 7 items have no right answer and are left out" in note for note in notes(rows))


def own_task(project: Path, **keys: Any) -> None:
    """A person's task file, with items of JNLI."""
    body = {
        "task": "own-1.0", "test_split": "test", "training_split": "train", "fewshot_split": "train",
        "output_type": "multiple_choice", "doc_to_text": "{{sentence1}}", "doc_to_choice": ["はい", "いいえ", "不明"],
        "doc_to_target": "label", "metric_list": [{"metric": "acc"}], "metadata": {"version": 1.0},
    }  # fmt: skip
    place = project / "recipes" / "mine" / "tasks" / "harness" / "own"
    place.mkdir(parents=True)
    (place / "1.0.yaml").write_text(yaml.safe_dump(body | keys, allow_unicode=True), encoding="utf-8")
    (project / "data" / "eval_ja" / "own").symlink_to(project / "data" / "eval_ja" / "jnli")
    VERSIONS["own"] = "1.0"


@pytest.mark.parametrize(("split", "value"), [("test", 7), ("test", "yes"), ("train", -2)])
def test_a_task_file_that_does_not_say_what_is_right_is_held_against_its_choices(
    project: Path, split: str, value: Any
) -> None:
    own_task(project)
    loaded, said = harness.load_all(section("own"), lambda *_, **__: ())
    assert [len(each.items.names) for each in loaded] == [NUM_ITEMS]
    assert not said
    for number in range(1, 7):  # all of one type, or lm-eval's table of them would be refused first
        change_item("own", split, number, of(label=str(value) if isinstance(value, str) else number % 3))
    change_item("own", split, 3, of(label=value))
    if isinstance(value, str):
        change_item("own", split, 7, of(label="はい"))
    loaded, [note] = harness.load_all(section("own"), lambda *_, **__: ())
    assert not loaded
    number = 1 if isinstance(value, str) else 3
    assert f"item {number} of {place_of('own', split)} has the right answer {json.dumps(value)}" in note
    assert "expected a number from 0 to 2 or the text of a choice" in note


def test_a_kind_of_answer_that_does_not_exist_is_refused_with_the_nearest(project: Path) -> None:
    own_task(project, metadata={"gold": "label", "gold_is": "txet"})
    with pytest.raises(Refused, match=r"No kind of right answer named 'txet'. Did you mean 'text'"):
        harness.load_all(section("own"), lambda *_, **__: ())


def test_every_shipped_task_file_says_what_its_right_answers_are() -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    files = sorted((ROOT / "recipes/tasks/harness").glob("*/[0-9]*.yaml"))
    assert len(files) > 30
    for file in files:
        metadata = load_yaml(file)["metadata"]
        assert isinstance(metadata["gold_is"], list) or metadata["gold_is"] in KINDS, file
        assert metadata["gold"].split(".")[0] in metadata["fields"], file


def test_an_error_while_a_task_is_scored_makes_that_task_missing_by_name(project: Path) -> None:
    # An example that the template cannot take is drawn only when the question is asked.
    for number in range(1, 7):
        change_item("jsquad", "train", number, of(context=None))
    rows = rows_of(section("jsquad", "jnli"), open_small(project / "gpt2"))
    [note] = notes(rows)
    assert note.startswith("jsquad is missing in 'fixed': ")
    assert "jsquad/0.2.yaml fails on answers to data/eval_ja/jsquad: UndefinedError: 'None' has no attribute" in note
    assert totals(rows)["fixed/average"] == totals(rows)["fixed/jnli/acc"]
    assert not any("jsquad/" in str(row.get("item")) for row in rows)


def test_a_network_that_cannot_answer_is_no_fault_of_a_task(project: Path) -> None:
    model = open_small(project / "gpt2")
    model.network.resize_token_embeddings(100)
    with pytest.raises(harness_model.NetworkFailed, match=r"weights \(100 tokens\) and its tokenizer \(4[0-9]+\)"):
        rows_of(section("jnli", "xwinograd-ja"), Model(model.network, model.encoder))


# ---- contexts that are too long --------------------------------------------------------------------------------------


def prompts_of(asked: Harness, model: Model) -> tuple[dict[int, tuple[int, ...]], dict[int, str], Any]:
    """What a network is really given, and what lm-eval made, by number of item; and lm-eval's task."""
    [loaded], said = harness.load_all(asked, lambda *_, **__: ())
    assert not said
    ours = harness_model.HarnessModel(model, harness_model.Answers(model))
    ours.begin(loaded.task, is_published=loaded.set_name == "paper", told=lambda _: None)
    given: dict[int, tuple[int, ...]] = {}
    fitted = ours._fitted

    def spied(request: Any, context: str, room: int) -> tuple[int, ...]:
        given[request.doc_id] = fitted(request, context, room)
        assert len(given[request.doc_id]) <= room
        return given[request.doc_id]

    ours._fitted = spied  # type: ignore[method-assign]
    whole = {sample["doc_id"]: sample["arguments"][0][0] for sample in harness.samples_of(loaded, ours)}
    assert ours.cut == set(whole)
    return given, whole, loaded.task


def shorter(project: Path, task: str, most: int) -> None:
    """Another version of a task whose answers leave room in a small context."""
    source = ROOT / "recipes" / "tasks" / "harness" / task
    place = project / "recipes" / "mine" / "tasks" / "harness" / f"{task}-short"
    place.mkdir(parents=True)
    body = {
        "include": str(source / f"{VERSIONS.get(task, '0.2')}.yaml"), "task": f"{task}-short",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": most},
    }  # fmt: skip
    (place / "1.0.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    folder = project / "data" / "eval_ja"
    (folder / f"{task.replace('-', '_')}_short").symlink_to(folder / task.replace("-", "_"))
    VERSIONS[f"{task}-short"] = "1.0"
    METRICS[f"{task}-short"] = METRICS.get(task, "acc")


def encoded(model: Model, text: str) -> tuple[int, ...]:
    return tuple(model.encoder.encode_texts([text])[0].tolist())


def test_examples_are_left_out_until_a_context_fits(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.task import ConfigurableTask

    shorter(project, "mgsm-ja", 8)
    model = open_small(project / "short")
    drawn: dict[str, list[str]] = {}
    before = ConfigurableTask.fewshot_context

    def spied(self: Any, doc: dict[str, Any], *words: Any, **keys: Any) -> Any:
        drawn.setdefault(doc["question"], []).append(before(self, doc, *words, **keys))
        return drawn[doc["question"]][-1]

    monkeypatch.setattr(ConfigurableTask, "fewshot_context", spied)
    given, _, task = prompts_of(section("mgsm-ja-short", shots=5), model)
    for number, ids in given.items():
        texts = drawn[task.eval_docs[number]["question"]]
        assert [text.count("ステップごとの答え：") - 1 for text in texts] == [5, 4, 3, 2, 1, 0][: len(texts)]
        assert [len(encoded(model, text)) <= 150 - 8 for text in texts] == [False] * (len(texts) - 1) + [True]
        assert ids == encoded(model, texts[-1])
        assert task.eval_docs[number]["question"] in texts[-1]


def test_the_beginning_of_a_context_is_cut_off(project: Path) -> None:
    write_jaqket(project / "data" / "eval_ja" / "jaqket_v2")
    model = open_small(project / "short")
    given, whole, _ = prompts_of(section("jaqket-v2", shots=1, sets=["paper"]), model)
    for number, ids in given.items():
        answer = encoded(model, "町")
        assert ids == encoded(model, whole[number])[len(answer) - 150 :]


def test_articles_are_cut_by_sentences_and_their_summaries_are_not(project: Path) -> None:
    shorter(project, "xlsum-ja", 16)
    for split in ("train", "test"):
        for number in range(1, 7 if split == "train" else NUM_ITEMS + 1):
            sentences = "".join(f"{number}人が{each}時に来た。" for each in range(20))
            change_item("xlsum-ja", split, number, of(text=sentences))
    model = open_small(project / "short")
    given, whole, _ = prompts_of(section("xlsum-ja-short", shots=1), model)
    for number, ids in given.items():
        room = 150 - 16
        cut = cut_sentences(whole[number], room, "ニュース記事:", "要約:", "\n", lambda text: len(encoded(model, text)))
        assert cut.count("要約:") == 2
        assert whole[number].startswith(cut.partition("。\n要約:")[0])
        assert len(cut) < len(whole[number])
        assert ids == encoded(model, cut)[-room:]


def test_the_first_items_that_did_not_fit_are_named_in_a_note(project: Path) -> None:
    model = open_small(project / "short")
    rows = rows_of(section("jnli", "xwinograd-ja", shots=5), model)
    assert notes(rows) == ["jnli in 'fixed': 7 of 7 items did not fit into 150 tokens whole; the first: 1, 2, 3, …"]
    assert totals(rows)["fixed/jnli/num_cut"] == NUM_ITEMS
    assert totals(rows)["fixed/xwinograd-ja/num_cut"] == 0


# ---- where answers end -----------------------------------------------------------------------------------------------


def model_of(task: Any, model: Model, *, is_published: bool) -> harness_model.HarnessModel:
    asked = harness_model.HarnessModel(model, harness_model.Answers(model))
    asked.begin(task, is_published=is_published, told=lambda _: None)
    return asked


def test_published_answers_end_at_the_last_token_of_the_separator_and_the_mended_ones_at_the_end_of_text_too(
    project: Path,
) -> None:
    model = open_small(project / "gpt2")
    loaded, _ = harness.load_all(section("jsquad", "mgsm-ja", sets=["paper"]), lambda *_, **__: ())
    jsquad, mgsm = (model_of(each.task, model, is_published=True) for each in loaded)
    eos, [*_, newline], word = jsquad.eos, encoded(model, "\n"), encoded(model, "駅")[-1]
    assert "\n" not in model.encoder.decode([word])
    published, mended = (
        jsquad._published_stop(["\n"]),
        model_of(loaded[0].task, model, is_published=False)._stop(["\n"]),
    )
    for tokens, of_published, of_mended in (
        ([word], False, False),
        ([word, eos], False, True),
        ([word, newline], True, True),
        ([word, eos, newline], True, True),
    ):
        assert (published(tokens), mended(tokens)) == (of_published, of_mended)
    # mgsm's file says `stop_at_end`: its separator was never looked for as a token.
    assert mgsm._published_stop(["\n"])([word, eos])


def test_the_length_of_the_right_answer_is_given_away_in_published_scores_alone(project: Path) -> None:
    model = open_small(project / "gpt2")
    loaded, _ = harness.load_all(section("jsquad", "xlsum-ja", sets=["paper"]), lambda *_, **__: ())
    for each, more, settings_of, text in (
        (
            loaded[0],
            0,
            {"max_gen_toks": 64},
            lambda row: max(row["answers"]["text"], key=lambda t: len(encoded(model, t))),
        ),
        (loaded[1], 10, {"max_gen_toks": 128}, lambda row: row["summary"]),
    ):
        for document in list(each.task.eval_docs)[:3]:
            leaked = model_of(each.task, model, is_published=True)._most(document, settings_of)
            assert leaked == len(encoded(model, text(document))) + more
            assert model_of(each.task, model, is_published=False)._most(document, settings_of) == next(
                iter(settings_of.values())
            )


# ---- resumed ---------------------------------------------------------------------------------------------------------


def test_a_run_killed_while_it_generates_asks_only_what_is_missing(project: Path, monkeypatch) -> None:
    made: list[harness_model.Answers] = []
    before = harness_model.Answers.__init__

    def init(self, model: Any) -> None:
        before(self, model)
        made.append(self)

    monkeypatch.setattr(harness_model.Answers, "__init__", init)
    monkeypatch.setattr("components.modalities.text.continuing.MAX_ROWS", 2)
    asked = section("jsquad")
    alone = open_small(project / "gpt2")
    expected = rows_of(asked, Model(alone.network, alone.encoder))  # keeps nothing

    def killed(*done: int) -> None:
        if done[0] >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(harness.score(asked, open_small(project / "gpt2"), lambda *_, **__: (), killed))
    model = open_small(project / "gpt2")
    passed: list[int] = []
    model.network.register_forward_hook(lambda *_: passed.append(1))
    assert rows_of(asked, model) == expected
    assert 0 < made[1].num_made < made[0].num_made == NUM_ITEMS
    assert made[1].num_made + made[2].num_made == NUM_ITEMS
    num_passes = len(passed)
    assert rows_of(asked, model) == expected
    assert made[3].num_made == 0
    assert len(passed) == num_passes > 0
