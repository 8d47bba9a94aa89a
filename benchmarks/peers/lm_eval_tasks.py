"""Plain lm-eval by its own command line, all tasks at once or one after the other; writes the CPU time of each run.

    python lm_eval_tasks.py SPECIFICATION OUTCOME

Modules are imported before. What a run of one item takes (it looks through all of lm-eval's task files and loads the
network) is told as `start`.
"""

import json
import sys
import time
from pathlib import Path


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
    began = time.process_time()
    cli_evaluate()
    return time.process_time() - began


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
    import lm_eval.models.huggingface  # noqa: F401
    import torch
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.gpt_neox.modeling_gpt_neox  # noqa: F401

    torch.set_num_threads(1)
    specification = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    outcome = Path(sys.argv[2])
    tasks = specification["tasks"]
    warm = {**specification, "output": f"{specification['output']}/warm"}
    start = run(warm, tasks[0], 1)
    named = [",".join(tasks)] if specification["is_together"] else tasks
    seconds = {task: run(specification, task, specification["limit"]) for task in named}
    found = {task: answers(Path(specification["output"]) / task) for task in named}
    outcome.write_text(json.dumps({"start": start, "seconds": seconds, "answers": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
