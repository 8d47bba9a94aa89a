"""The prompts of the paper's tasks, to the byte what the harness of the published scores made of the same items."""

import json
from pathlib import Path

import pytest

from components.modalities.text.harness import load_all
from components.modalities.text.harness_schema import Harness, roots
from tests.conftest import ROOT

TRUTH = json.loads((ROOT / "tests" / "components" / "truths" / "harness_prompts.json").read_text(encoding="utf-8"))
# The metric that counts, where it is not 'acc'.
METRICS = {"jsquad": "exact_match", "jaqket-v2": "exact_match", "xlsum-ja": "rouge2"}
# What the published set read that has a file of its own; its truth stands under the plain name.
ONLY_PUBLISHED = {"mgsm-ja/0.5", "jcommonsenseqa/0.2"}


def write_items(root: Path) -> None:
    for task, rows in TRUTH["documents"].items():
        place = root / "data" / "eval_ja" / task.replace("-", "_")
        place.mkdir(parents=True)
        for split in ("validation", "test", "train"):
            row = rows["doc"] if split != "train" else rows["train"]
            if row is not None:
                (place / f"{split}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """`<task>/<version>` or `<task>/<version>-paper` -> lm-eval's task over one item and one example."""
    root = tmp_path_factory.mktemp("prompts")
    (root / "recipes").symlink_to(ROOT / "recipes")
    write_items(root)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for version in ("0.0", "0.2", "0.3", "0.4", "0.5"):
            names = [task for task in TRUTH["documents"] if (roots()[0] / task / f"{version}.yaml").is_file()]
            tasks = [
                {
                    "task": task,
                    "version": version,
                    "shots": int(task != "xwinograd-ja"),
                    "metric": METRICS.get(task, "acc"),
                }
                for task in names
            ]
            rows, notes = load_all(Harness(kind="harness", tasks=tasks), lambda *_, **__: ())
            assert not notes, notes
            for row in rows:
                key = f"{row.section.task}/{version}"
                found[f"{key}-paper" if row.set_name == "paper" else key] = row.task
    return found


def rendered(task) -> dict:
    document = task.eval_docs[0]
    row = {"context": task.fewshot_context(document, task.config.num_fewshot)}
    return row | ({"choices": task.doc_to_choice(document)} if task.config.doc_to_choice else {})


@pytest.mark.parametrize("name", sorted(TRUTH["prompts"]))
def test_a_prompt_is_that_of_the_published_scores_to_the_byte(loaded, name: str) -> None:
    expected = TRUTH["prompts"][name]
    assert rendered(loaded[f"{name}-paper" if name in ONLY_PUBLISHED else name]) == expected


def test_every_task_and_version_has_a_truth(loaded) -> None:
    shipped = {f"{file.parent.name}/{file.stem}" for file in (ROOT / "recipes/tasks/harness").glob("*/[0-9]*.yaml")}
    special = {"mgsm-ja/0.5-paper", "jcommonsenseqa/0.2-paper", "mgsm-ja/0.4-paper"}
    ours = {name for name in shipped if name.partition("/")[0] in TRUTH["documents"]}
    assert ours - special == set(TRUTH["prompts"])


def test_the_mended_prompt_of_jcommonsenseqa_scores_the_numbers_that_it_asks_for(loaded) -> None:
    mended, published = rendered(loaded["jcommonsenseqa/0.2"]), rendered(loaded["jcommonsenseqa/0.2-paper"])
    assert mended["context"] == published["context"]
    assert mended["choices"] == ["0", "1", "2", "3", "4"]


def test_the_mended_prompt_of_4b_models_has_line_feeds_alone(loaded) -> None:
    mended, published = rendered(loaded["mgsm-ja/0.5"]), rendered(loaded["mgsm-ja/0.5-paper"])
    assert mended["context"] == published["context"].replace("<NL>", "\n")
