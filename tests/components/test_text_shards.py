import hashlib
import json
from itertools import accumulate, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.modalities.text import shards
from components.modalities.text.windows import TokenStream, document_positions
from components.outcomes import Refused
from models.gpt.network import build
from models.gpt.objectives import NextTokenLoss
from models.gpt.schema import GPT2, GPTNeoX

EOS = 2


class Alphabet:
    """Stands for a tokenizer."""

    def __init__(self, vocab_size: int = 50_000) -> None:
        self.facts = {"vocab_size": vocab_size, "unk": 0, "bos": 1, "eos": EOS, "pad": 3}
        self.num_chars = 0


def spec(window_tokens: int, isolate_documents: bool = False) -> SimpleNamespace:
    return SimpleNamespace(window_tokens=window_tokens, isolate_documents=isolate_documents)


def write(folder, lengths, split="train", start=4, vocab_size=50_000):
    """Documents of these many tokens, numbered on through all of them; the stream of tokens that must come out."""
    numbers = iter(range(start, start + sum(lengths)))
    documents = [np.array([next(numbers) for _ in range(length)], dtype=np.int32) for length in lengths]
    counts = shards.write_shards(iter([(split, each) for each in documents]), Alphabet(vocab_size), folder)
    return np.concatenate([np.append(each, EOS) for each in documents]), counts


def epoch_of(samples, epoch):
    return samples.batch(np.arange(len(samples)), epoch)["input_ids"]


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_documents_stand_in_order_each_ended_by_the_end_of_text(tmp_path):
    stream, counts = write(tmp_path, [3, 0, 5])
    data = np.fromfile(tmp_path / "train-00000.bin", dtype="<u2")
    assert data.tolist() == stream.tolist() == [4, 5, 6, 2, 2, 7, 8, 9, 10, 11, 2]
    assert np.load(tmp_path / "train-documents.npy").tolist() == [0, 4, 5]
    assert counts == {"train/documents": 3, "train/tokens": 11, "characters": 0, "characters_per_token": 0}


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_535, "uint16"), (65_536, "uint32")])
def test_ids_take_two_bytes_while_they_fit(tmp_path, vocab_size, dtype):
    highest = np.array([vocab_size - 1], dtype=np.int32)
    shards.write_shards(iter([("train", highest)]), Alphabet(vocab_size), tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["dtype"] == dtype
    assert np.fromfile(tmp_path / "train-00000.bin", dtype=dtype).tolist() == [vocab_size - 1, EOS]


def test_the_index_has_the_count_and_hash_of_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "FILE_TOKENS", 10)
    stream, _ = write(tmp_path, [4, 7, 2, 9, 3])
    index = json.loads((tmp_path / "index.json").read_text())
    found = index["splits"]["train"]
    assert [file["name"] for file in found["files"]] == ["train-00000.bin", "train-00001.bin", "train-00002.bin"]
    assert [file["num_tokens"] for file in found["files"]] == [13, 13, 4]
    for file in [*found["files"], found["documents"]]:
        assert file["sha256"] == hashlib.sha256((tmp_path / file["name"]).read_bytes()).hexdigest()
    assert (found["num_tokens"], found["num_documents"]) == (len(stream), 5)
    assert np.load(tmp_path / "train-documents.npy").tolist() == [0, *accumulate([5, 8, 3, 10])]


def test_ids_beyond_the_vocabulary_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="outside of a vocabulary of 10"):
        shards.write_shards(iter([("train", np.array([10], dtype=np.int32))]), Alphabet(10), tmp_path)


def test_the_document_offsets_are_a_file_that_numpy_maps_however_many_there_are(tmp_path):
    write(tmp_path, [0] * 12_345)
    offsets = np.load(tmp_path / "train-documents.npy", mmap_mode="r")
    assert offsets.dtype == np.int64
    assert offsets.tolist() == list(range(12_345))


# ---- samples ---------------------------------------------------------------------------------------------------------


def test_windows_overlap_by_one_token_and_cover_the_stream(tmp_path):
    stream, _ = write(tmp_path, [30, 40, 33])
    samples = shards.open_samples([(tmp_path, 1.0)], "train", spec(7))
    assert len(samples) == (len(stream) - 1) // 7
    rows = sorted(epoch_of(samples, 0).tolist(), key=lambda row: stream.tolist().index(row[0]) if row[0] != 2 else 1e9)
    expected = [stream[start : start + 8].tolist() for start in range(0, len(stream) - 7, 7)]
    assert sorted(rows) == sorted(expected)
    assert all(first[-1] == second[0] for first, second in pairwise(expected))


def test_a_batch_is_a_tensor_of_int64_with_one_token_more_than_the_window(tmp_path):
    write(tmp_path, [100])
    batch = shards.open_samples([(tmp_path, 1.0)], "train", spec(8)).batch(np.array([3, 0, 3]), 0)
    assert list(batch) == ["input_ids"]
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].shape == (3, 9)
    assert torch.equal(batch["input_ids"][0], batch["input_ids"][2])


def test_where_files_end_has_no_influence_on_samples(tmp_path, monkeypatch):
    lengths = [5, 17, 2, 40, 1, 1, 23, 8]
    write(tmp_path / "one", lengths)
    monkeypatch.setattr(shards, "FILE_TOKENS", 4)
    write(tmp_path / "many", lengths)
    assert len(list((tmp_path / "many").glob("*.bin"))) > 5
    one, many = (shards.open_samples([(tmp_path / name, 1.0)], "train", spec(6)) for name in ("one", "many"))
    for epoch in range(5):
        assert torch.equal(epoch_of(one, epoch), epoch_of(many, epoch))


def test_every_epoch_of_train_cuts_elsewhere_and_reads_each_token_once(tmp_path):
    stream, _ = write(tmp_path, [10] * 11)
    samples = shards.open_samples([(tmp_path, 1.0)], "train", spec(10))
    cuts = set()
    ring = [*stream, *stream]
    for epoch in range(10):
        rows = epoch_of(samples, epoch).tolist()
        starts = sorted(next(at for at in range(len(stream)) if ring[at : at + 11] == row) for row in rows)
        places = {(start + offset) % len(stream) for start in starts for offset in range(10)}
        assert len(places) == 10 * len(samples)
        cuts.add(starts[0] % 10)
    assert cuts == set(range(10))


def test_valid_is_cut_alike_in_every_epoch(tmp_path):
    write(tmp_path, [100], split="valid")
    samples = shards.open_samples([(tmp_path, 1.0)], "valid", spec(8))
    assert torch.equal(epoch_of(samples, 0), epoch_of(samples, 7))


@pytest.mark.parametrize(
    ("weight", "epochs", "times"), [(1.0, 1, 1), (2.0, 1, 2), (0.5, 2, 1), (0.25, 4, 1), (1.5, 2, 3)]
)
def test_a_weight_is_how_many_times_an_epoch_reads_each_window(tmp_path, weight, epochs, times):
    stream, _ = write(tmp_path, [80])
    samples = shards.open_samples([(tmp_path, weight)], "train", spec(10))
    assert len(samples) == 8 * weight
    # The cut moves by less than a window with each pass, so the window is known by where its first token stands.
    firsts = np.array([row[0].item() for epoch in range(epochs) for row in epoch_of(samples, epoch)])
    moves = np.arange(len(firsts)) // 8 * samples.sources[0].cut_stride % 10
    places = np.searchsorted(stream[:-1], firsts)
    assert sorted((places - moves) % len(stream) // 10) == sorted(list(range(8)) * times)


def test_held_out_windows_count_once_whatever_the_weight(tmp_path):
    for name, start in (("a", 1000), ("b", 5000)):
        write(tmp_path / name, [80], split="valid", start=start)
    samples = shards.open_samples([(tmp_path / "a", 0.5), (tmp_path / "b", 3.0)], "valid", spec(10))
    firsts = epoch_of(samples, 0)[:, 0]
    assert len(set(firsts.tolist())) == len(samples) == 16
    assert int((firsts < 5000).sum()) == 8


def test_half_a_weight_reads_the_same_cut_until_the_other_half_is_read(tmp_path):
    stream, _ = write(tmp_path, [80])
    samples = shards.open_samples([(tmp_path, 0.5)], "train", spec(10))
    halves = [{row[0].item() for row in epoch_of(samples, epoch)} for epoch in (0, 1)]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(stream[:80:10].tolist())


def test_a_mixture_counts_each_source_by_its_weight(tmp_path):
    write(tmp_path / "a", [100], start=1000)
    write(tmp_path / "b", [50], start=5000)
    samples = shards.open_samples([(tmp_path / "a", 1.0), (tmp_path / "b", 2.0)], "train", spec(10))
    largest = epoch_of(samples, 0).max(dim=1).values
    assert (len(samples), int((largest < 5000).sum()), int((largest >= 5000).sum())) == (20, 10, 10)


def test_a_stream_reads_the_slices_of_a_plain_array(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "FILE_TOKENS", 7)
    stream, _ = write(tmp_path, [3, 9, 1, 20, 6])
    starts = np.random.default_rng(0).integers(0, 3 * len(stream), 200)
    rows = TokenStream(tmp_path, "train", 6).windows(starts)
    ring = np.tile(stream, 5)
    assert rows.tolist() == [ring[start : start + 6].tolist() for start in starts]


def test_a_number_beyond_the_epoch_is_an_error(tmp_path):
    write(tmp_path, [100])
    samples = shards.open_samples([(tmp_path, 1.0)], "train", spec(10))
    with pytest.raises(IndexError):
        samples.batch(np.array([len(samples)]), 0)


# ---- isolated documents ----------------------------------------------------------------------------------------------


def test_positions_begin_anew_at_each_end_of_text():
    ids = [[9, 8, EOS, 7, 6, 5, EOS, EOS, 4], [EOS, 9, 9, 9, 9, 9, 9, 9, EOS], [9, 9, 9, 9, 9, 9, 9, 9, 9]]
    expected = [[0, 1, 0, 1, 2, 3, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8]]
    assert document_positions(np.array(ids), EOS).tolist() == expected


def test_isolated_documents_come_with_positions_and_the_same_tokens(tmp_path):
    write(tmp_path, [5, 0, 11, 3, 8, 20, 1, 1, 14])
    plain = shards.open_samples([(tmp_path, 1.0)], "train", spec(10))
    isolated = shards.open_samples([(tmp_path, 1.0)], "train", spec(10, isolate_documents=True))
    for epoch in range(3):
        batch = isolated.batch(np.arange(len(isolated)), epoch)
        assert list(batch) == ["input_ids", "position_ids"]
        assert torch.equal(batch["input_ids"], epoch_of(plain, epoch))
        assert batch["position_ids"].dtype == torch.int64
        assert batch["position_ids"].shape == batch["input_ids"].shape
        for ids, positions in zip(batch["input_ids"].tolist(), batch["position_ids"].tolist(), strict=True):
            begins = 0
            for place, token in enumerate(ids):
                begins = place if token == EOS else begins
                assert positions[place] == place - begins


def parts_of(ids: list[int]) -> list[list[int]]:
    """The documents of a window, each from the end of text before it to the one after it."""
    bounds = [0, *(place for place, token in enumerate(ids[:-1]) if token == EOS and place), len(ids) - 1]
    return [ids[begin : end + 1] for begin, end in pairwise(bounds)]


@pytest.mark.parametrize("make", [lambda **shape: GPT2(architecture="gpt2", **shape),
                                  lambda **shape: GPTNeoX(architecture="gpt_neox", **shape)])  # fmt: skip
def test_the_loss_of_isolated_documents_is_that_of_each_alone(tmp_path, make):
    write(tmp_path, [5, 0, 11, 3, 8, 20, 1, 1, 14, 9], vocab_size=200)
    torch.manual_seed(0)
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "max_positions": 24}
    network = build(make(**shape), Alphabet(200).facts)
    for parameter in network.parameters():  # differences of some size, as after training
        parameter.data.mul_(3)
    objective = NextTokenLoss(network)
    found, leaking, alone = [], [], []
    samples = shards.open_samples([(tmp_path, 1.0)], "train", spec(24, isolate_documents=True))
    for number in range(len(samples)):
        batch = samples.batch(np.array([number]), 0)
        with torch.no_grad():
            found.append(objective(batch).total.item())
            leaking.append(objective({"input_ids": batch["input_ids"]}).total.item())
            parts = [torch.tensor([part]) for part in parts_of(batch["input_ids"][0].tolist())]
            losses = [objective({"input_ids": part}).total.item() * (part.shape[1] - 1) for part in parts]
        assert sum(part.shape[1] - 1 for part in parts) == objective.num_items(batch) == 24
        alone.append(sum(losses) / 24)
    assert len(found) >= 3
    assert found == pytest.approx(alone, abs=1e-5)
    assert all(abs(first - second) > 1e-3 for first, second in zip(leaking, alone, strict=True))


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_corpus_shorter_than_a_sample_names_both_sizes_and_the_keys(tmp_path):
    write(tmp_path, [20])
    with pytest.raises(Refused, match=r"21 tokens .* takes 129 .*window_tokens.* 20 or less, or add text"):
        shards.open_samples([(tmp_path, 1.0)], "train", spec(128))
    shards.open_samples([(tmp_path, 1.0)], "train", spec(20))


def test_too_short_a_valid_split_names_its_share(tmp_path):
    write(tmp_path, [20], split="valid")
    with pytest.raises(Refused, match=r"splits\.valid"):
        shards.open_samples([(tmp_path, 1.0)], "valid", spec(128))


@pytest.mark.parametrize("change", [lambda data: data[:-2], lambda data: data + b"\0\0", lambda data: None])
def test_a_file_of_another_size_is_refused_when_it_is_opened(tmp_path, change):
    folder = tmp_path / "town+spm" / "shards"
    write(folder, [100])
    path = folder / "train-00000.bin"
    data = change(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(Refused, match=r"expected 202 .*hiraku shard town\+spm"):
        shards.open_samples([(folder, 1.0)], "train", spec(10))


def test_missing_shards_and_missing_splits_are_answered_with_the_command(tmp_path):
    folder = tmp_path / "town+spm" / "shards"
    with pytest.raises(Refused, match=r"hiraku shard town\+spm"):
        shards.open_samples([(folder, 1.0)], "train", spec(10))
    write(folder, [100])
    with pytest.raises(Refused, match=r"\['train'\], expected 'valid'"):
        shards.open_samples([(folder, 1.0)], "valid", spec(10))


def test_a_mixture_of_two_vocabularies_is_refused(tmp_path):
    write(tmp_path / "a", [100])
    write(tmp_path / "b", [100], vocab_size=8000)
    with pytest.raises(Refused, match="different vocabularies"):
        shards.open_samples([(tmp_path / "a", 1.0), (tmp_path / "b", 1.0)], "train", spec(10))


def test_a_mixture_of_two_ends_of_text_is_refused(tmp_path):
    write(tmp_path / "a", [100])
    write(tmp_path / "b", [100])
    index = json.loads((tmp_path / "b" / "index.json").read_text())
    (tmp_path / "b" / "index.json").write_text(json.dumps(index | {"eos": 3}))
    with pytest.raises(Refused, match=r"'eos': 2.*'eos': 3"):
        shards.open_samples([(tmp_path / "a", 1.0), (tmp_path / "b", 1.0)], "train", spec(10))
