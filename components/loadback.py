"""Load a package as its users will, in a fresh process without the network, and leave what it computes for comparison.

    python -m components.loadback FOLDER TEXTS ANSWER [EXAMPLE]

FOLDER is a package, TEXTS a JSON list of strings, ANSWER a folder that is made, EXAMPLE a Python file that is run as it
stands. Nothing of this project takes part in loading: transformers alone reads the folder, safetensors only.
"""

import io
import json
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.outcomes import Refused

if TYPE_CHECKING:
    import torch

LOGITS_NAME = "answer.safetensors"
EXAMPLE_NAME = "example.txt"

# Texts on which released and trained model must agree: scripts, white space, rare characters, the names of special
# tokens, nothing.
PROBES = (
    "日本語の文章を、つづけて書きます。",
    "The quick brown fox jumps over the lazy dog 12,345 times.",
    "  行頭の空白\n\n改行\t水平タブ\u3000全角空白  ",
    "ｶﾞｷﾞｸﾞ か\u3099 𠮷野家 👨‍👩‍👧 \u200b",
    "<s></s><unk><pad><0x0A>",
    "",
)


@dataclass(frozen=True)
class Answer:
    """What a model computes for texts: ids [tokens], and logits [tokens, vocabulary] where there is a token."""

    ids: list["torch.Tensor"]
    logits: list["torch.Tensor"]

    def save(self, folder: Path) -> None:
        """Write `answer.safetensors`."""
        from safetensors.torch import save_file

        tensors = {f"ids.{i}": value.contiguous() for i, value in enumerate(self.ids)}
        tensors |= {f"logits.{i}": value.contiguous() for i, value in enumerate(self.logits)}
        save_file(tensors, folder / LOGITS_NAME)


def read_answer(folder: Path) -> Answer:
    """What a fresh process left."""
    from safetensors.torch import load_file

    tensors = load_file(folder / LOGITS_NAME)
    count = len(tensors) // 2
    return Answer([tensors[f"ids.{i}"] for i in range(count)], [tensors[f"logits.{i}"] for i in range(count)])


def answer_of(network: Any, all_ids: list["torch.Tensor"], **others: Any) -> Answer:
    """Pass ids through a causal language model, one text at a time, as many as its context holds."""
    import torch

    network.eval()
    limit = int(network.config.max_position_embeddings)
    logits = []
    with torch.inference_mode():
        for ids in all_ids:
            if len(ids) == 0:
                logits.append(torch.zeros(0, int(network.config.vocab_size)))
            else:
                logits.append(network(input_ids=ids[None, :limit], **others).logits[0].clone())
    return Answer(all_ids, logits)


def answer_of_folder(folder: Path, texts: list[str]) -> Answer:
    """Load a package the way its card says, and give texts to it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    limit = int(network.config.max_position_embeddings)
    ids, logits = [], []
    with torch.inference_mode():
        for text in texts:
            # Everything the tokenizer returns goes in, as in a user's program: a stray token_type_ids would show.
            inputs = tokenizer(text, return_tensors="pt", split_special_tokens=True)
            ids.append(inputs["input_ids"][0].long())
            if len(ids[-1]) == 0:
                logits.append(torch.zeros(0, int(network.config.vocab_size)))
            else:
                clipped = {key: value[:, :limit] for key, value in inputs.items()}
                logits.append(network(**clipped).logits[0].clone())
    return Answer(ids, logits)


def difference(expected: Answer, found: Answer, texts: list[str]) -> str | None:
    """What differs between two answers, in words; None when ids and logits are equal bit for bit."""
    import torch

    for text, want_ids, got_ids in zip(texts, expected.ids, found.ids, strict=True):
        if want_ids.tolist() != got_ids.tolist():
            return f"the text {text[:40]!r} has the ids {got_ids.tolist()[:12]}, expected {want_ids.tolist()[:12]}"
    for text, want, got in zip(texts, expected.logits, found.logits, strict=True):
        if want.dtype != got.dtype or want.shape != got.shape:
            shapes = f"are {got.dtype} {list(got.shape)}, expected {want.dtype} {list(want.shape)}"
            return f"the logits of {text[:40]!r} {shapes}"
        if not torch.equal(want, got):
            gap = (want.double() - got.double()).abs().max().item()
            return f"the logits of {text[:40]!r} differ by up to {gap:.3g}, expected 0"
    return None


def load_back(folder: Path, texts: list[str], workspace: Path, example: str = "") -> tuple[Answer, str]:
    """Start the fresh process on a package.

    Args:
        folder: the package.
        texts: given to tokenizer and model.
        workspace: an empty folder for what goes back and forth. The example runs there and finds the package under
            the package's recipe name, so the card's program runs word for word.
        example: a Python program; empty for none.

    Returns:
        What the package computes, and what the example printed.

    Raises:
        Refused: the package does not load or its example fails; the message ends with the process's own words.
    """
    import torch

    (workspace / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    command = [sys.executable, "-m", "components.loadback", str(folder.resolve()), "texts.json", "answer"]
    if example:
        (workspace / "example.py").write_text(example, encoding="utf-8")
        command.append("example.py")
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONIOENCODING": "utf-8",
        # Sums are split among threads, so equal bits take an equal number.
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise RuntimeError(f"loading {folder.name} back was ended by signal {-done.returncode}: out of memory?")
    if done.returncode:
        words = " ".join(done.stderr.strip().splitlines()[-3:])
        raise Refused(
            f"The package does not load in a fresh process, expected it to load offline by transformers: {words}"
        )
    printed = (workspace / "answer" / EXAMPLE_NAME).read_text(encoding="utf-8") if example else ""
    return read_answer(workspace / "answer"), printed


def main(arguments: list[str]) -> int:
    """The fresh process."""
    from components.lifeline import die_with_parent

    die_with_parent()
    folder, texts, answer_folder = (Path(argument) for argument in arguments[:3])
    answer_folder.mkdir()
    answer_of_folder(folder, json.loads(texts.read_text(encoding="utf-8"))).save(answer_folder)
    if arguments[3:]:
        printed = io.StringIO()
        with redirect_stdout(printed):
            runpy.run_path(arguments[3], run_name="__main__")
        (answer_folder / EXAMPLE_NAME).write_text(printed.getvalue(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
