import gzip
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer

from components import tokenizer_json
from components import tokenizer_parity as parity
from components.modalities.text import tokenizers, training_text
from components.modalities.text.schema import SentencePiece
from components.outcomes import Refused

WIKIPEDIA = Path(__file__).parents[3] / "shared" / "data" / "text_ja" / "wikipedia_jaquad.jsonl.gz"

SUBJECTS = ["太郎", "花子", "町の図書館", "古い橋", "駅前のパン屋", "小さな犬", "ロボット", "先生", "ABC社"]
VERBS = ["を見た。", "が笑った。", "は静かに眠っている。", "へ歩いて行きました。", "と 12 回 話した。", "が good だ！"]


def documents(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        "\n".join(rng.choice(SUBJECTS) + rng.choice(VERBS) + str(rng.randrange(100)) for _ in range(rng.randint(1, 8)))
        for _ in range(count)
    ]


def section(**keys) -> SentencePiece:
    return SentencePiece.model_validate(
        {"kind": "sentencepiece", "corpora": [{"corpus": "town"}], "vocab_size": 420, **keys}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("town") / "encoder"
    return folder, tokenizers.fit(section(), documents(200), documents(30, seed=1), folder)


def test_the_folder_is_what_auto_tokenizer_loads(fitted):
    folder, _ = fitted
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 420
    assert [tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [
        0,
        1,
        2,
        3,
    ]
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("text", parity.EDGES)
def test_an_edge_string_has_the_ids_of_sentencepiece_and_is_restored(fitted, text):
    folder, _ = fitted
    expected = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")).encode(text)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == expected
    assert tokenizer.decode(expected) == text.replace("\u2581", " ")
    if not any(name in text for name in tokenizer_json.SPECIALS.values()):
        assert tokenizer(text)["input_ids"] == expected


def test_at_least_fifty_edge_strings_are_compared_and_none_twice():
    assert len(parity.EDGES) == len(set(parity.EDGES)) >= 50


def test_a_model_of_gpt_2_is_given_no_token_types(fitted):
    tokenizer = AutoTokenizer.from_pretrained(fitted[0])
    assert set(tokenizer("太郎")) == {"input_ids", "attention_mask"}


def test_the_report_counts_what_was_read_and_compared(fitted):
    _, report = fitted
    held_out = documents(30, seed=1)
    assert report["train"]["documents"] == 200
    assert report["train"]["chars"] == sum(map(len, documents(200)))
    assert report["train"]["lines"] == sum(text.count("\n") + 1 for text in documents(200))
    assert report["held_out"]["documents"] == 30
    assert report["held_out"]["characters"] == sum(map(len, held_out))
    assert report["held_out"]["bytes"] == sum(len(text.encode()) for text in held_out)
    assert report["held_out"]["differing"] == report["edges"]["differing"] == 0
    assert report["edges"]["with_space_mark"] == sum("\u2581" in text for text in parity.EDGES)
    assert report["held_out"]["fertility"] * report["held_out"]["characters_per_token"] == pytest.approx(1, abs=1e-3)


def test_literal_special_names_in_text_are_ordinary_characters(fitted):
    encoder = tokenizers.open_encoder(fitted[0])
    text = "本文</s><s><pad><unk>" * 3
    (ids,) = encoder.encode([text])
    assert not {0, 1, 2, 3} & set(ids.tolist())
    assert encoder.decode(ids) == text


def test_training_text_full_of_special_names_makes_no_such_piece(tmp_path):
    tokenizers.fit(section(), [*documents(200), *["</s> <s> <0x0A> <pad>"] * 500], documents(5), tmp_path)
    encoder = tokenizers.open_encoder(tmp_path)
    (ids,) = encoder.encode(["</s><0x0A>"])
    assert not {1, 2, 3} & set(ids.tolist())
    assert encoder.decode(ids) == "</s><0x0A>"


def test_the_encoder_gives_facts_and_keeps_order(fitted):
    encoder = tokenizers.open_encoder(fitted[0])
    texts = documents(50, seed=2)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(fitted[0] / "spiece.model"))
    assert encoder.facts == {"vocab_size": 420, "unk": 0, "bos": 1, "eos": 2, "pad": 3}
    assert [ids.tolist() for ids in encoder.encode(texts)] == processor.encode(texts)
    assert encoder.num_chars == sum(map(len, texts))


def test_a_space_too_rare_for_the_vocabulary_is_still_restored(tmp_path):
    texts = [text.replace(" ", "") for text in documents(300)]
    tokenizers.fit(section(character_coverage=0.98, vocab_size=360), texts, texts[:20], tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).decode(tokenizers.open_encoder(tmp_path).encode(["a b"])[0]) == "a b"


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_the_same_text_gives_the_same_bytes_twice(tmp_path, algorithm):
    for run in ("first", "second"):
        encoder = section(algorithm=algorithm, vocab_size=350)
        tokenizers.fit(encoder, documents(100), documents(5), tmp_path / run / "encoder")
    assert contents(tmp_path / "first" / "encoder") == contents(tmp_path / "second" / "encoder")


def test_bpe_gives_the_same_bytes_with_one_thread_and_with_two(tmp_path):
    for num_threads in (1, 2):
        tokenizers.fit(section(num_threads=num_threads), documents(200), documents(5), tmp_path / str(num_threads))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_model_names_no_path_of_the_machine(fitted):
    proto = sentencepiece_model_pb2.ModelProto.FromString((fitted[0] / "spiece.model").read_bytes())
    assert not proto.trainer_spec.input
    assert not proto.trainer_spec.model_prefix


def test_symbols_of_several_characters_are_one_token_in_both_forms(tmp_path):
    symbols = ["\n", "<|user|>", "<|end|>"]
    texts = ["<|user|>" + text + "<|end|>" for text in documents(100)]
    report = tokenizers.fit(section(symbols=symbols), texts, texts[:20], tmp_path)
    assert report["held_out"]["differing"] == 0
    ids = AutoTokenizer.from_pretrained(tmp_path)("<|user|>太郎<|end|>\n", split_special_tokens=True)["input_ids"]
    assert ids == tokenizers.open_encoder(tmp_path).encode(["<|user|>太郎<|end|>\n"])[0].tolist()
    assert [ids[0], *ids[-2:]] == [5, 6, 4]


def test_without_byte_fallback_unknown_characters_are_counted_and_ids_still_equal(tmp_path):
    report = tokenizers.fit(section(byte_fallback=False, vocab_size=300), documents(200), ["龘龘と太郎"], tmp_path)
    assert report["held_out"]["unknown_tokens"] == 1
    assert report["held_out"]["differing"] == report["edges"]["differing"] == 0


def test_a_long_line_is_cut_at_a_boundary_and_nothing_is_lost():
    fed = training_text.Fed()
    line = "長い行です。" * 3000 + "𠮷" * 9000
    parts = list(training_text.training_lines([line], fed))
    assert "".join(parts) == line
    assert max(len(part.encode()) for part in parts) <= training_text.MAX_LINE_BYTES
    assert parts[0].endswith("。")
    assert (fed.num_lines, fed.num_cut_lines) == (len(parts), 1)


def test_sentencepiece_reads_every_line_of_text_that_it_would_skip(tmp_path):
    texts = [*documents(100), "棒▅グラフ", "空\0文字", "\n\n", "", "あ" * 30_000, "\u2581\u2581"]
    report = tokenizers.fit(section(), texts, documents(5), tmp_path)
    assert report["train"]["reserved_chars"] == 2
    assert report["train"]["cut_lines"] == 1


def test_a_line_that_sentencepiece_skips_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training_text, "MAX_LINE_CHARS", 100_000)
    with pytest.raises(Refused, match=r"lines of .* given"):
        tokenizers.fit(section(), [*documents(100), "あ" * 30_000], documents(5), tmp_path)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_vocabulary_larger_than_the_text_can_give_names_the_largest_possible(tmp_path, algorithm):
    with pytest.raises(Refused, match=r"'vocab_size' to [0-9]+ or less") as refusal:
        tokenizers.fit(section(algorithm=algorithm, vocab_size=50_000), documents(50), documents(5), tmp_path / "no")
    largest = int(str(refusal.value).split("'vocab_size' to ")[1].split()[0])
    assert not (tmp_path / "no").exists()
    tokenizers.fit(section(algorithm=algorithm, vocab_size=largest), documents(50), documents(5), tmp_path / "yes")
    assert tokenizers.open_encoder(tmp_path / "yes").facts["vocab_size"] == largest


def test_a_vocabulary_smaller_than_the_characters_says_how_many_there_are(tmp_path):
    kanji = "".join(chr(0x4E00 + number) for number in range(500))
    with pytest.raises(Refused, match=r"to [0-9]+ or more, or lower 'character_coverage'"):
        tokenizers.fit(section(vocab_size=400, character_coverage=1.0), [kanji] * 5, [kanji], tmp_path)


def test_no_text_is_refused(tmp_path):
    with pytest.raises(Refused, match="no text to fit on"):
        tokenizers.fit(section(), [], documents(5), tmp_path)


def test_no_held_out_text_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"splits\.valid"):
        tokenizers.fit(section(), documents(100), [], tmp_path)


@pytest.mark.parametrize("symbols", [["<s>"], ["two words"], [""], ["a", "a"]])
def test_symbols_that_cannot_be_pieces_are_refused(tmp_path, symbols):
    with pytest.raises(Refused, match="symbols"):
        tokenizers.fit(section(symbols=symbols), documents(100), documents(5), tmp_path)


def test_a_refusal_while_reading_stays_a_refusal(tmp_path):
    def broken():
        yield from documents(10)
        raise Refused("a record is damaged")

    with pytest.raises(Refused, match="a record is damaged"):
        tokenizers.fit(section(), broken(), documents(5), tmp_path)


def test_a_tokenizer_json_that_gives_other_ids_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_json, "merges", lambda pieces: [])
    with pytest.raises(Refused, match=r"other ids than SentencePiece on [0-9]+ of 30 held-out texts"):
        tokenizers.fit(section(), documents(200), documents(30, seed=1), tmp_path)


def test_differences_of_a_unigram_model_are_counted(tmp_path, monkeypatch):
    build = tokenizer_json.build

    def damaged(model, *rest):
        proto = tokenizer_json.parse(model)
        for piece in proto.pieces:
            if piece.type == tokenizer_json.NORMAL and len(piece.piece) > 1:
                piece.score = -500.0
        return build(proto.SerializeToString(), *rest)

    monkeypatch.setattr(tokenizer_json, "build", damaged)
    encoder = section(algorithm="unigram", vocab_size=350)
    report = tokenizers.fit(encoder, documents(200), documents(30, seed=1), tmp_path)
    assert 0 < report["held_out"]["differing"] <= 30
    assert "SentencePiece" in report["held_out"]["first_difference"]


def test_training_says_nothing_on_the_terminal(tmp_path, capfd):
    tokenizers.fit(section(), documents(100), documents(5), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_merges_put_the_best_piece_and_the_shorter_left_half_first():
    pieces = [("ab", 0.0), ("abc", -1.0), ("bc", -2.0), ("a", -3.0), ("b", -4.0), ("c", -5.0)]
    assert tokenizer_json.merges(pieces) == [("a", "b"), ("a", "bc"), ("ab", "c"), ("b", "c")]


def test_a_folder_without_a_model_is_answered_with_the_command(tmp_path):
    with pytest.raises(Refused, match="hiraku fit town-spm"):
        tokenizers.open_encoder(tmp_path / "town-spm" / "encoder")


@pytest.mark.skipif(not WIKIPEDIA.is_file(), reason="needs ../shared/data/text_ja")
def test_wikipedia_has_the_ids_of_sentencepiece_on_every_document(tmp_path):
    with gzip.open(WIKIPEDIA, "rt", encoding="utf-8") as stream:
        texts = [json.loads(next(stream))["text"] for _ in range(150)]
    report = tokenizers.fit(section(vocab_size=4000), texts[20:], texts[:20], tmp_path)
    assert report["held_out"]["differing"] == report["edges"]["differing"] == 0
    assert report["held_out"]["not_restored"] == 0
    assert report["held_out"]["characters_per_token"] > 1.2


def test_lines_are_never_longer_than_sentencepiece_takes():
    rng = random.Random(3)
    text = "".join(rng.choice("あ。 \n𠮷a") for _ in range(60_000)) + "𠮷" * 20_000
    parts = list(training_text.training_lines([text], training_text.Fed()))
    assert all(part and len(part.encode()) <= training_text.MAX_LINE_BYTES for part in parts)
    assert "".join(parts) == text.replace("\n", "")
    assert all("\n" not in first + second for first, second in pairwise(parts))
