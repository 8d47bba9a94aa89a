"""Real text is written whole, in part, and many times over without a document twice."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.text_project import write_text
from components.outcomes import Refused

TEXTS = ["一つ目の文。二つ目の文。三つ目の文。", "一文だけ", *(f"{number}番の文。終わり。" for number in range(18))]


def rows_of(folder: Path, size: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"ja-{size}" / "part.jsonl").read_text("utf-8").splitlines()]


def test_copies_have_the_same_sentences_and_no_document_twice(tmp_path: Path) -> None:
    source, project = tmp_path / "source", tmp_path / "project"
    source.mkdir()
    with gzip.open(source / "part.jsonl.gz", "wt", encoding="utf-8") as stream:
        for number, text in enumerate(TEXTS):
            stream.write(json.dumps({"id": str(number), "text": text, "source": "s", "license": "CC0-1.0"}) + "\n")
    num_bytes = write_text(source, "ja", project, times=3)
    written = {size: rows_of(project / "data", size) for size in ("whole", "tenth", "few", "many")}
    assert {size: len(rows) for size, rows in written.items()} == {"whole": 20, "tenth": 2, "few": 20, "many": 60}
    assert num_bytes["ja-many"] == (project / "data" / "ja-many" / "part.jsonl").stat().st_size
    many = written["many"]
    assert len({row["text"] for row in many}) == len({row["id"] for row in many}) == 60
    assert [row["text"] for row in many[:2]] == [f"{TEXTS[0]}。0", "二つ目の文。三つ目の文。。一つ目の文。1"]


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"holds no \.jsonl\.gz"):
        write_text(tmp_path, "ja", tmp_path / "project")
