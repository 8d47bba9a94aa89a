"""Plain lm-eval by its own command line, one task after the other in one process; writes the CPU time of each.

    python lm_eval_tasks.py SPECIFICATION OUTCOME

Timed is what happens within lm-eval's `evaluate`: prompts, answers and metrics, not imports, the search through all of
its task files, or the loading of the network.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS: list[float] = []


def timed(evaluate: Any) -> Any:
    """The same function, whose CPU time is noted."""

    def evaluating(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        found = evaluate(*arguments, **options)
        SECONDS.append(time.process_time() - began)
        return found

    return evaluating


def run(specification: dict, task: str, limit: int) -> float:
    """Run one task; return its CPU seconds."""
    from lm_eval.__main__ import cli_evaluate

    sys.argv = [
        *["lm_eval", "run", "--model", "hf", "--device", "cpu", "--log_samples"],
        *["--model_args", f"pretrained={specification['model']},dtype=float32,prefix_token_id={specification['eos']}"],
        *[
            "--include_path",
            specification["prompts"],
            "--tasks",
            task,
            "--batch_size",
            str(specification["batch_size"]),
        ],
        *["--limit", str(limit), "--output_path", str(Path(specification["output"]) / task)],
    ]
    cli_evaluate()
    return SECONDS.pop()


def answers(folder: Path) -> list[dict]:
    """What was asked and answered, by item."""
    rows = []
    for file in sorted(folder.rglob("samples_*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            metrics = {metric: sample[metric] for metric in sample["metrics"]}
            rows.append({"item": sample["doc_id"], "answers": sample["resps"], "metrics": metrics})
    return sorted(rows, key=lambda row: row["item"])


def main() -> None:
    """The process."""
    import lm_eval.evaluator
    import torch

    torch.set_num_threads(1)
    lm_eval.evaluator.evaluate = timed(lm_eval.evaluator.evaluate)
    specification = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import_module(
        specification["functions"]
    ).warm()  # which the task files name, and load what they need when first used
    outcome = Path(sys.argv[2])  # the command line of lm-eval takes its own words from there
    limits = specification["limits"]
    seconds = {task: run(specification, task, limit) for task, limit in limits.items()}
    found = {task: answers(Path(specification["output"]) / task) for task in limits}
    outcome.write_text(json.dumps({"seconds": seconds, "answers": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
