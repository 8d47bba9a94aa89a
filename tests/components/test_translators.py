"""Engines of translation: a loopback endpoint that misbehaves, a tiny encoder-decoder, memory, cutting, suspicion."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.outcomes import Refused
from components.translators import open_engine, suspects
from components.translators.memory import Memory
from components.translators.schema import Endpoint, Seq2Seq, Suspicion
from components.translators.units import cut, joined
from tests.components.small_endpoint import Server, capitals, said, serving
from tests.components.small_translator import write_translator

KEY = "sk-secret-of-the-test"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as running:
        yield running


def client(server: Server, **keys: Any) -> tuple[Any, list[float]]:
    section = Endpoint(kind="openai", url=server.url, model="m", licence="MIT", **{"num_parallel": 1} | keys)
    engine = open_engine(section, "en", "ja")
    waits: list[float] = []
    engine.sleep = waits.append
    return engine, waits


def all_of(engine: Any, texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in engine.translate(texts):
        found |= batch
    return found


TEXTS = [f"text number {number}" for number in range(10)]
DONE = {text: text.upper() for text in TEXTS}


def test_an_endpoint_gets_batches_with_the_key_and_gives_every_text_its_translation(server: Server) -> None:
    engine, _ = client(server, batch_texts=4, num_parallel=3)
    assert all_of(engine, TEXTS) == DONE
    assert len(server.requests) == 3
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert "from en to ja" in server.requests[0]["messages"][0]["content"]
    assert KEY not in repr(engine)
    assert KEY not in json.dumps(engine.facts)


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (lambda _body: (429, {"Retry-After": "7"}, b"slow down"), 7.0),
        (lambda _body: (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""), 0.0),
        (lambda _body: (429, {"Retry-After": "9999"}, b""), 60.0),
        (lambda _body: (500, {}, b"oops"), 1.0),
        (lambda _body: (200, {}, b"<html>no json</html>"), 1.0),
        (lambda _body: (200, {}, b"{}"), 1.0),
        (lambda _body: said("Sorry, I cannot do that."), 1.0),
        (lambda _body: said('{"99": "of another batch"}'), 1.0),
        (lambda _body: said('{"1": "cut', reason="length"), 1.0),
    ],
)
def test_a_request_that_fails_once_is_tried_again_after_the_wait_that_the_server_asks_for(
    server: Server, answer: Callable, wait: float
) -> None:
    server.answers = [answer]
    engine, waits = client(server, batch_texts=10)
    assert all_of(engine, TEXTS) == DONE
    assert waits == [wait]


def test_an_answer_with_half_of_a_batch_is_kept_and_the_rest_is_asked_for(server: Server) -> None:
    server.answers = [lambda body: capitals(body, lambda key: int(key) <= 5)]
    engine, waits = client(server, batch_texts=10)
    assert all_of(engine, TEXTS) == DONE
    asked = [json.loads(each["messages"][1]["content"]) for each in server.requests]
    assert [list(each.values()) for each in asked] == [TEXTS, TEXTS[5:]]
    assert waits == []


def test_an_endpoint_that_fails_again_and_again_ends_in_words_and_keeps_the_other_batches(server: Server) -> None:
    def only_first(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return capitals(body) if TEXTS[0] in body["messages"][1]["content"] else (502, {}, f"with {KEY}".encode())

    server.answers = [only_first] * 50
    engine, waits = client(server, batch_texts=5, max_tries=4)
    batches = engine.translate(TEXTS)
    assert next(batches) == {text: DONE[text] for text in TEXTS[:5]}
    with pytest.raises(Refused, match=r"left 5 of 10 texts untranslated: HTTP 502: with \*\*\*\. What was") as refusal:
        next(batches)
    assert waits == [1.0, 2.0, 4.0]
    assert KEY not in str(refusal.value)


def test_a_request_that_will_never_be_taken_is_not_tried_again_nor_followed_elsewhere(server: Server) -> None:
    for code, headers in ((401, {}), (307, {"Location": "http://127.0.0.1:9/v1"})):
        server.answers = [lambda _body, code=code, headers=headers: (code, headers, b"no")] * 9
        server.requests.clear()
        engine, waits = client(server, batch_texts=5)
        with pytest.raises(Refused, match=f"left 10 of 10 texts untranslated: HTTP {code}: no"):
            list(engine.translate(TEXTS))
        assert (len(server.requests), waits) == (1, [])


def test_a_server_that_is_not_there_is_named(server: Server) -> None:
    engine, waits = client(server, max_tries=2)
    engine.section = engine.section.model_copy(update={"url": "http://127.0.0.1:9/v1"})
    with pytest.raises(Refused, match=r"http://127\.0\.0\.1:9/v1 left 1 of 1 texts.*no answer"):
        list(engine.translate(["one"]))
    assert waits == [1.0]


def test_a_key_that_is_not_set_is_refused_before_anything_is_sent(server: Server, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(Refused, match=r"OPENAI_API_KEY is not set.*key_variable: null"):
        client(server)
    engine, _ = client(server, key_variable=None)
    assert all_of(engine, ["a"]) == {"a": "A"}
    assert server.keys == [None]


# ---- an encoder-decoder ----------------------------------------------------------------------------------------------


def seq2seq(folder: Path, **keys: Any) -> Seq2Seq:
    return Seq2Seq(kind="transformers", model=f"path:{folder}", licence="CC0-1.0", **keys)


def test_an_encoder_decoder_answers_each_text_the_same_in_any_order_and_names_its_content(tmp_path: Path) -> None:
    write_translator(tmp_path / "tiny")
    engine = open_engine(seq2seq(tmp_path / "tiny", batch_texts=3, max_new_tokens=8), "en", "ja")
    texts = ["abc", "a longer text", "xyz", "one more", "and the last"]
    batches = list(engine.translate(texts))
    assert [len(batch) for batch in batches] == [3, 2]
    found = {text: translation for batch in batches for text, translation in batch.items()}
    assert found == all_of(engine, texts[::-1])
    assert set(found) == set(texts)
    assert len(set(found.values())) > 1
    assert len(engine.facts["content_hash"]) == 64
    write_translator(tmp_path / "other", seed=1)
    assert open_engine(seq2seq(tmp_path / "other"), "en", "ja").facts != engine.facts


def test_a_text_longer_than_the_model_can_read_is_translated_part_by_part(tmp_path: Path) -> None:
    write_translator(tmp_path / "tiny")
    engine = open_engine(seq2seq(tmp_path / "tiny", max_new_tokens=8), "en", "ja")
    first, second = "abc, " * 8, "xyz " * 11
    assert engine._parts(first + second) == [first.strip(), second.strip()]
    assert "".join(engine._parts("a" * 200)) == "a" * 200
    alone = all_of(engine, [first.strip(), second.strip()])
    assert all_of(engine, [first + second]) == {first + second: "".join(alone.values())}


def test_a_model_that_is_a_pickle_or_nowhere_is_refused(tmp_path: Path) -> None:
    write_translator(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").rename(tmp_path / "tiny" / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"only pytorch_model\.bin, which may run code.*expected safetensors"):
        open_engine(seq2seq(tmp_path / "tiny"), "en", "ja")
    with pytest.raises(Refused, match=r"nowhere has no config\.json"):
        open_engine(seq2seq(tmp_path / "nowhere"), "en", "ja")


# ---- memory, units, suspicion ----------------------------------------------------------------------------------------


def test_a_memory_knows_what_it_was_told_for_the_same_engine_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", str(tmp_path))
    Memory({"model": "a"}).keep({"one": "一", "two": "二"})
    Memory({"model": "a"}).keep({"two": "弐"})
    assert Memory({"model": "a"}).recall(["one", "two", "three"]) == {"one": "一", "two": "弐"}
    assert Memory({"model": "b"}).recall(["one"]) == {}
    memory = Memory({"model": "a"})
    memory.path.write_bytes(b"not a database at all, but long enough to be looked at" * 50)
    with pytest.raises(Refused, match="holds the translations made so far and cannot be read"):
        Memory({"model": "a"})


@pytest.mark.parametrize(
    ("text", "unit", "lines"),
    [
        ("One. Two!  Three?\n\nFour", "sentence", [["One.", "Two!", "Three?"], [], ["Four"]]),
        ('He said "No." Then 3.5 left.', "sentence", [['He said "No."', "Then 3.5 left."]]),
        ("一つ。二つ！三つ", "sentence", [["一つ。", "二つ！", "三つ"]]),
        ("One. Two!\n Three ", "line", [["One. Two!"], ["Three"]]),
        ("One. Two!\n Three ", "text", [["One. Two!\n Three "]]),
    ],
)
def test_a_text_is_cut_into_units_and_put_together_line_by_line(text: str, unit: str, lines: list[list[str]]) -> None:
    assert cut(text, unit) == lines
    same = {each: each for line in lines for each in line}
    assert joined(lines, same, "en") == "\n".join(" ".join(line) for line in lines)
    assert joined(lines, same, "ja") == "\n".join("".join(line) for line in lines)


ENGLISH = "The committee will meet again on Thursday to talk about the new library."


@pytest.mark.parametrize(
    ("source", "translation", "reasons"),
    [
        (ENGLISH, "委員会は新しい図書館について話し合うため、木曜日に再び集まります。", []),
        ("OK", "はい、分かりました。そうしましょう。", []),
        (ENGLISH, "  ", [suspects.EMPTY]),
        (ENGLISH, "委員会。", [suspects.SHORT]),
        (ENGLISH, "委員会" + "".join(chr(0x4E00 + n) for n in range(400)), [suspects.LONG]),
        (ENGLISH, "委員会は on Thursday to talk about the new library. に集まります。", [suspects.COPIED]),
        (ENGLISH, "委員会は" + "集まります、" * 12, [suspects.REPEATED]),
        ("委員会は新しい図書館について話し合う。", "The 新しい図書館について話し合う committee.", [suspects.COPIED]),
        ("| 1 | 22 | 333 | 4444 | 55555 | 6 |", "| 1 | 22 | 333 | 4444 | 55555 | 6 |", []),
        ("ha " * 40, "は、" * 40, []),
    ],
)
def test_pairs_are_suspicious_for_what_can_be_seen(source: str, translation: str, reasons: list[str]) -> None:
    assert suspects.reasons(source, translation, Suspicion()) == reasons
