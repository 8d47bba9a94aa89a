"""Somebody else's models: fetched at a pinned commit from a Hub on loopback, taken in, and scored like our own."""

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from components import fetching, foreign, paths
from components import package as package_module
from components.evaluate import evaluate
from components.graph import Node, plan
from components.hub import Unfinished
from components.manifest import read_manifest
from components.outcomes import Refused
from components.package import package
from components.recipes import Library
from components.records import iterate_records
from components.scoring import scores_behind
from models.foreign import join_weights
from models.objective import Mismatch
from tests.components.small_llama import untrained_llama
from tests.components.small_release import make_project
from tests.flows.hub_server import TOKEN, serving
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import loaded_here

REPOSITORY = "neighbour/llama-tiny"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with records, a tokenizer and our own weights; beside it a folder as the makers of Llama have it."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project(root)
        evaluate("tiny")
        write_llama(root / "theirs")
    return root


def write_llama(folder: Path) -> None:
    """A Llama of random weights in several files."""
    built = untrained_llama(paths.payload("fit", "town-spm"), folder, hidden_size=16, max_positions=64, seed=5)
    built.save_pretrained(folder, max_shard_size="12KB")
    assert (folder / "model.safetensors.index.json").is_file()


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(package_module, "load_back", loaded_here)
    return root


@pytest.fixture
def hub(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that has the model, and a client that does not wait between its tries."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    clock = SimpleNamespace(sleep=lambda _seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(_http, "time", clock)
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        files = {path.name: path.read_bytes() for path in (project / "theirs").iterdir()}
        running.add(REPOSITORY, "weights", {**files, "pytorch_model.bin": b"pickle"})
        yield running


def write_recipe(source: str, **keys: object) -> None:
    """The three lines of a person's own."""
    lines = {"family": "gpt", "source": source, "evaluate": {"tasks": ["town-held-out"]}, **keys}
    Path("recipes/theirs.yaml").write_text(yaml.safe_dump(lines))


def source_of(hub: Hub) -> str:
    return f"hub:{REPOSITORY}@{hub.sha(REPOSITORY)}"


def fetch(hub: Hub) -> Path:
    return fetching.fetch("theirs", source_of(hub), lambda _line: None)


def bits_by_transformers(folder: Path) -> float:
    """Bits per character of the test split, a document at a time, with transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    bits = chars = 0.0
    for row in iterate_records("town", ["text"], splits={"test"}):
        ids = torch.tensor([[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]])
        assert ids.shape[1] <= 64
        with torch.no_grad():
            bits += network(ids, labels=ids).loss.item() * (ids.shape[1] - 1) / math.log(2)
        chars += len(row["text"])
    return bits / chars


def test_three_lines_fetch_take_in_and_score_a_llama(hub: Hub) -> None:
    write_recipe(source_of(hub))
    stages = [(each.verb, each.name) for each in plan(Library(), "theirs")]
    assert stages[-1] == ("evaluate", "theirs")
    assert ("package", "theirs") in stages
    place = fetch(hub)
    assert place == Path("data/hub") / REPOSITORY / hub.sha(REPOSITORY)
    assert not list(place.glob("*.bin")), "a pickle can run code when it is read"
    package("theirs")
    evaluate("theirs")
    scores = json.loads((paths.payload("evaluate", "theirs") / "scores.json").read_text())["tasks"]["town-held-out"]
    assert scores["bits_per_character"] == pytest.approx(bits_by_transformers(place), rel=1e-5)
    manifest = read_manifest("evaluate", "theirs")
    assert manifest.details["contamination"]["unknown"] == ["theirs"]
    assert "contaminated_share" not in scores
    assert scores_behind(read_manifest("package", "theirs")) is not None


def test_a_stage_depends_on_what_was_fetched_and_scores_on_the_package(hub: Hub) -> None:
    write_recipe(source_of(hub))
    stages: dict[Node, set[str]] = {(each.verb, each.name): set(each.deps) for each in plan(Library(), "theirs")}
    assert stages["package", "theirs"] == {f"data/hub/{REPOSITORY}/{hub.sha(REPOSITORY)}"}
    assert "artifacts/packaged/theirs/causal-lm/model.safetensors" in stages["evaluate", "theirs"]


def test_weights_in_parts_become_one_file_of_the_same_tensors(project: Path) -> None:
    folder = project / "theirs"
    join_weights(folder, project / "whole.safetensors")
    expected: dict[str, torch.Tensor] = {}
    for part in folder.glob("model-*.safetensors"):
        expected |= load_file(part)
    found = load_file(project / "whole.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    next(folder.glob("model-00002*.safetensors")).unlink()
    with pytest.raises(Mismatch, match="but no model-00002"):
        join_weights(folder, project / "whole.safetensors")


def test_a_fetch_that_was_cut_goes_on_and_asks_for_no_weights_twice(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipe(source_of(hub))
    found = foreign.pinned(source_of(hub))
    assert found is not None

    def killed(*_words: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("components.hub.Repository.differences", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(hub)
    assert found.partial.is_dir()
    assert not found.place.exists()
    hub.calls.clear()
    fetch(hub)
    assert found.place.is_dir()
    assert not [call for call in hub.calls if call.startswith("GET") and call.endswith(".safetensors")]


def test_bytes_that_are_not_what_the_hub_says_are_thrown_away(hub: Hub) -> None:
    write_recipe(source_of(hub))
    hub.serves_damaged = next(path for path in hub.files(REPOSITORY) if path.startswith("model-00001"))
    with pytest.raises(Refused, match="other bytes"):
        fetch(hub)
    assert not list(Path("data/hub").rglob("*.safetensors"))


def test_a_commit_without_safetensors_is_refused_before_anything_is_sent(hub: Hub) -> None:
    commit = hub.add("neighbour/old", "weights", {"config.json": b"{}", "pytorch_model.bin": b"pickle"}).sha
    with pytest.raises(Refused, match=r"no safetensors but pytorch_model\.bin"):
        fetching.fetch("theirs", f"hub:neighbour/old@{commit}", lambda _line: None)
    assert not [call for call in hub.calls if "/resolve/" in call]


def test_a_commit_that_is_not_there_is_refused_with_the_key_to_change(hub: Hub) -> None:
    with pytest.raises(Refused, match=r"did not give neighbour/llama-tiny.*key 'source'"):
        fetching.fetch("theirs", f"hub:{REPOSITORY}@{'0' * 40}", lambda _line: None)


def test_a_hub_that_is_silent_is_another_matter_than_one_that_refuses(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unfinished, match="goes on from what has arrived"):
        fetch(hub)


def test_without_a_hub_a_missing_model_is_refused_in_plain_words(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.collect import require_obtainable

    write_recipe(source_of(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Refused, match=r"HF_HUB_OFFLINE says that no Hub may be asked.*hiraku collect theirs"):
        require_obtainable(Library(), plan(Library(), "theirs"))
    with pytest.raises(Refused, match="hiraku collect theirs"):
        package("theirs")


@pytest.mark.parametrize("source", ["hub:rinna/japanese-gpt2-small", "hub:a/b@main", "https://huggingface.co/a/b"])
def test_a_source_without_a_whole_commit_is_refused(project: Path, source: str) -> None:
    write_recipe(source)
    with pytest.raises(Refused, match="'source'"):
        Library().read("recipe", "theirs")


def test_a_sentencepiece_model_alone_is_read_as_it_is(project: Path) -> None:
    """Our own weights in the form in which the paper's models are released score what they score as our own."""
    folder = project / "released"
    shutil.copytree(paths.payload("pretrain", "tiny"), folder)
    shutil.copy(paths.payload("fit", "town-spm") / "spiece.model", folder)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"tokenizer_class": "T5Tokenizer"}))
    write_recipe("path:released")
    with pytest.raises(Refused, match="layout: causal-lm-spiece"):
        package("theirs")
    write_recipe("path:released", layout="causal-lm-spiece")
    package("theirs")
    evaluate("theirs")
    found, ours = (
        json.loads((paths.payload("evaluate", name) / "scores.json").read_text())["tasks"]["town-held-out"]
        for name in ("theirs", "tiny")
    )
    assert found["bits_per_character"] == pytest.approx(ours["bits_per_character"], rel=1e-6)
    assert found["tokens_per_character"] == ours["tokens_per_character"]


def test_a_tokenizer_without_an_end_of_text_is_refused(project: Path) -> None:
    folder = project / "theirs"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    write_recipe("path:theirs")
    package("theirs")
    with pytest.raises(Refused, match="no token for the end of a text"):
        evaluate("theirs")


def test_a_network_that_is_no_language_model_is_refused(project: Path) -> None:
    from transformers import HubertConfig

    folder = project / "theirs"
    HubertConfig(hidden_size=16).save_pretrained(folder)
    for part in folder.glob("model*"):
        part.unlink()
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    write_recipe("path:theirs")
    with pytest.raises(Refused, match="of type 'hubert', expected a causal language model"):
        package("theirs")
