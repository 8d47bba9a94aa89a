"""Our side of the harness benchmark, in a process of its own: tasks of lm-eval over a network of ours.

python -m benchmarks.our_harness SPECIFICATION OUTCOME
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from components.modalities.text import japanese_answers
from components.modalities.text.harness import load_all, samples_of
from components.modalities.text.harness_schema import Harness
from components.scoring import open_model


def _run(section: Harness, model: Any) -> tuple[float, list[dict[str, Any]]]:
    """CPU seconds of one task, and what was answered by item."""
    import lm_eval.evaluator  # noqa: F401 (so that no task pays for it)

    from components.modalities.text.harness_model import Answers, HarnessModel

    [loaded], _ = load_all(section, lambda *_, **__: ())
    asked = HarnessModel(model, Answers(model))
    asked.begin(loaded.task, is_published=False, told=lambda _: None)
    began = time.process_time()
    samples = samples_of(loaded, asked)
    seconds = time.process_time() - began
    rows = [
        {
            "item": sample["doc_id"],
            "answers": sample["resps"],
            "metrics": {metric: sample[metric] for metric in sample["metrics"]},
            "is_cut": sample["doc_id"] in asked.cut,
        }
        for sample in samples
    ]
    return seconds, sorted(rows, key=lambda row: int(row["item"]))


def main(specification_path: str, outcome: str) -> None:
    """The process; answers are not kept, so each run does all its work."""
    japanese_answers.warm()
    specification = json.loads(Path(specification_path).read_text(encoding="utf-8"))
    folder = Path(specification["model"])
    opened = open_model("gpt", folder, folder)
    model = type(opened)(opened.network, opened.encoder)
    keys = {"kind": "harness", "sets": ["fixed"]}
    sections = [
        Harness.model_validate({**keys, "tasks": [task], "max_items": specification["limits"][task["task"]]})
        for task in specification["sections"]
    ]
    found = {section.tasks[0].task: _run(section, model) for section in sections}
    told = {
        "seconds": {task: seconds for task, (seconds, _) in found.items()},
        "answers": {task: rows for task, (_, rows) in found.items()},
    }
    Path(outcome).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
