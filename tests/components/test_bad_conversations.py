"""Broken conversations and preferences: rejects with their reason and place, or a refusal that says what to change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from components import paths
from components.ingest import ingest
from components.modalities.text import open_samples
from components.modalities.text.shards import write_shards
from components.outcomes import Refused
from models.conversation import CHOSEN, PROMPT
from models.gpt.schema import Conversations, Prompts

USER, ASSISTANT = {"role": "user", "content": "町の名前は？"}, {"role": "assistant", "content": "青葉町です。"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    return tmp_path


def rejected(form: str, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The line and reason of each reject of a corpus with these raw rows after a good one."""
    column: dict[str, Any] = {"modality": "text", "form": form}
    good: dict[str, Any] = {"messages": [USER, ASSISTANT]}
    if "messages" in rows[0]:
        column["fields"] = {"messages": "messages"}
    else:
        good = {"prompt": "駅はどこですか。", "response": "南の丘の上です。"}
    if form == "preference":
        good = {"prompt": "駅はどこですか。", "chosen": "南の丘の上です。", "rejected": "知りません。"}
    section = {
        "description": "For a test.",
        "language": "ja",
        "licence": "CC0-1.0",
        "source": {"kind": "files", "paths": ["bad"]},
        "columns": {form: column},
        "max_reject_share": 1.0,
    }
    Path("recipes/corpora/bad.yaml").write_text(yaml.safe_dump(section, allow_unicode=True), encoding="utf-8")
    (paths.DATA / "bad").mkdir(parents=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in [good, *rows]]
    (paths.DATA / "bad" / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ingest("bad")
    found = pq.read_table(paths.state("ingest", "bad") / "rejects.parquet").to_pylist()
    return [(each["where"].rsplit(":", 1)[1], each["reason"]) for each in found]


def test_an_empty_response_is_a_reject() -> None:
    asked = {"prompt": "町の名前は？"}
    rows = [{**asked, "response": ""}, {**asked, "response": " \n\u3000"}, {**asked, "response": None}]
    found = rejected("conversation", rows)
    assert [where for where, _ in found] == ["2", "3", "4"]
    assert {reason for _, reason in found} == {"conversation: response: empty"}


def test_turns_that_do_not_alternate_are_rejects() -> None:
    messages = [[USER, USER, ASSISTANT], [USER, ASSISTANT, ASSISTANT], [ASSISTANT, USER, ASSISTANT], [USER], []]
    found = rejected("conversation", [{"messages": each} for each in messages])
    assert found == [
        ("2", "conversation: two turns of user in a row"),
        ("3", "conversation: two turns of assistant in a row"),
        ("4", "conversation: the assistant has the first word"),
        ("5", "conversation: the last turn is of user, not of assistant"),
        ("6", "conversation: no turn"),
    ]


def test_a_better_answer_that_is_the_worse_one_is_a_reject() -> None:
    row = {"prompt": "町の名前は？", "chosen": "青葉町です。", "rejected": "青葉町です。"}
    found = rejected("preference", [row, {**row, "rejected": "青葉町です。\r\n"}, {**row, "chosen": ""}])
    assert found == [
        ("2", "preference: chosen is equal to rejected"),
        ("3", "preference: chosen is equal to rejected"),
        ("4", "preference: chosen: empty"),
    ]


class Facts:
    """What writing shards asks an encoder for."""

    facts = {"vocab_size": 100, "eos": 2}
    num_chars = 0


def shards_of(lengths: list[tuple[int, int]]) -> list[tuple[Path, float]]:
    """Shards of prompts and answers with so many tokens."""
    rows = []
    for asked, answered in lengths:
        parts = [PROMPT] * asked + [CHOSEN] * answered
        rows.append(("train", np.stack([np.full(len(parts), 5), np.array(parts)], axis=1)))
    write_shards(iter(rows), Facts(), Path("shards"))
    return [(Path("shards"), 1.0)]


def test_a_prompt_longer_than_the_context_is_left_out_whole_and_many_are_refused() -> None:
    folders = shards_of([(3, 2)] * 19 + [(30, 2)])
    prompts = Prompts(form="prompts", batch_samples=1, micro_batch_samples=1, max_tokens=8)
    assert len(open_samples(folders, "train", prompts)) == 19
    strict = prompts.model_copy(update={"max_left_out_share": 0.01})
    words = (
        r"1 of 20 prompts .* longer than the 8 tokens .*the longest has 30\); at most 1% .* 'align.samples.max_tokens'"
    )
    with pytest.raises(Refused, match=words):
        open_samples(folders, "train", strict)
    packs = Conversations(form="conversations", window_tokens=7, batch_tokens=7, micro_batch_tokens=7)
    kept = open_samples(folders, "train", packs)
    assert max(len(kept.batch(np.array([number]), 0)["input_ids"][0]) for number in range(len(kept))) == 8
    with pytest.raises(Refused, match=r"1 of 20 sequences \(prompt and answer\) .* 'align.samples.window_tokens'"):
        open_samples(folders, "train", packs.model_copy(update={"max_left_out_share": 0.0}))
