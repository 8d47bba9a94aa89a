"""Every kind of alignment, from raw questions to a package that is loaded back in a fresh process."""

import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from components import paths
from components.cost import cost_of
from components.fit import fit
from components.graph import plan
from components.manifest import MANIFEST_NAME, read_manifest
from components.outcomes import Refused
from components.recipes import Library
from components.settings import settings
from components.training_stage import _require_same_pieces
from components.trial import one_step
from flows import exhibits
from tests.components.small_pretraining import kill_at_save
from tests.smoke import write_smoke_project

KINDS = ("sft", "reward", "dpo", "ppo")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which whatever is asked for is made once."""
    root = tmp_path_factory.mktemp("align")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_smoke_project(root)
        yield root


def make(name: str) -> None:
    """All stages of a recipe, in this process."""
    for stage in plan(Library(), name):
        if not (paths.state(stage.verb, stage.name) / MANIFEST_NAME).is_file():
            getattr(import_module(f"components.{stage.verb}"), stage.verb)(stage.name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_aligned_model_is_made_from_its_parents_packaged_and_loaded(project: Path, kind: str) -> None:
    name = f"smoke-gpt2-{kind}"
    make(name)
    parents = read_manifest("align", name).parents
    start = "artifacts/pretrained/smoke-gpt2/weights" if kind == "sft" else "artifacts/aligned/smoke-gpt2-sft/weights"
    assert start in parents
    assert ("artifacts/aligned/smoke-gpt2-reward/weights" in parents) == (kind == "ppo")
    folder = paths.layout(name, "reward" if kind == "reward" else "transformers")
    loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    assert loader.from_pretrained(folder).config.vocab_size == 1200
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "apply_chat_template" in card
    tag = "text-classification" if kind == "reward" else "text-generation"
    assert f"\npipeline_tag: {tag}\n" in card
    assert "\nlibrary_name: transformers\n" in card


@pytest.mark.slow
def test_what_a_network_answers_before_and_after_stands_in_a_table(project: Path) -> None:
    make("smoke-gpt2-sft")
    found = exhibits.tables("align", "smoke-gpt2-sft")
    steps = found[exhibits.PREVIEWS]["step"]
    assert steps == [0, 5, 10]
    table = found[exhibits.RESPONSES]
    assert list(table) == ["before", "after"]
    assert len(table["before"]) == len(table["after"]) == 1
    assert table["before"][0].startswith("町の")
    assert table["before"] != table["after"]


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.components.test_align", "components.align", "components.training"])


def kill_in_forward(number: int) -> None:
    """Die at the forward pass of this number, validation's among them: within a step, or a round of PPO."""
    from models.gpt.objectives import NextTokenLoss
    from models.gpt.ppo import PpoRounds

    count = [0]
    for kind in (NextTokenLoss, PpoRounds):
        original = kind.forward

        def counted(self: object, batch: object, original: Callable[..., object] = original) -> object:
            count[0] += 1
            if count[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, batch)

        kind.forward = counted  # type: ignore[method-assign,assignment]


def run_align(root: str, name: str, arm: Callable[[int], None] | None, at: int) -> None:
    """The body of a process: one run of the verb, which may be killed on the way. Its lines go to `said.log`."""
    os.chdir(root)
    sys.stderr = Path("said.log").open("a", encoding="utf-8")  # noqa: SIM115 - until the process ends
    os.environ |= {
        "HIRAKU_CHECKPOINT_ROOT": "checkpoints",
        "HIRAKU_CHECKPOINT_EVERY_SECONDS": "0",
        "HIRAKU_NUM_THREADS": "1",
        "HIRAKU_PROGRESS": "lines",
    }
    from components.align import align

    settings.cache_clear()
    if arm is not None:
        arm(at)
    align(name)


def exit_code_of(*given: object) -> int | None:
    process = PROCESSES.Process(target=run_align, args=given)
    process.start()
    process.join(300)
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "in_pass"), [("sft", 9), ("ppo", 11)])
def test_killed_and_started_again_it_ends_with_the_bits_of_a_run_never_stopped(
    project: Path, tmp_path: Path, kind: str, in_pass: int
) -> None:
    name = f"smoke-gpt2-{kind}"
    make(name)
    for clone in ("whole", "killed"):
        shutil.copytree(project, tmp_path / clone, ignore=shutil.ignore_patterns("data", ".hiraku", "packaged"))
        shutil.rmtree(tmp_path / clone / "artifacts" / "aligned" / name)
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    assert exit_code_of(whole, name, None, 0) == 0
    assert exit_code_of(killed, name, kill_in_forward, in_pass) == -signal.SIGKILL
    assert exit_code_of(killed, name, kill_at_save, 2) == -signal.SIGKILL
    assert not (Path(killed) / "artifacts" / "aligned" / name).exists()
    assert exit_code_of(killed, name, None, 0) == 0
    said = (Path(killed) / "said.log").read_text(encoding="utf-8")
    assert said.count("going on after step") == 2
    for file in ("weights/model.safetensors", "curve.json", "previews.md", "manifest.json"):
        states = [Path(root) / "artifacts" / "aligned" / name / file for root in (whole, killed)]
        assert states[0].read_bytes() == states[1].read_bytes(), file


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_alignment_takes_is_known_beforehand(project: Path, kind: str) -> None:
    cost = cost_of(Library(), f"smoke-gpt2-{kind}", on_gpu=False, is_compiled=False)
    assert cost is not None
    assert cost.step_flops > 0
    if kind in ("reward", "dpo", "ppo"):
        with pytest.raises(Refused, match="no random ones can be made for a trial"):
            one_step(Library(), f"smoke-gpt2-{kind}", 64)


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        ("sft", "starts_from: smoke-gpt2", "starts_from: smoke-gpt-neox", "another shape"),
        ("sft", "encoder: smoke-chat-format", "encoder: smoke-spm", "encoder"),
        ("dpo", "starts_from: smoke-gpt2-sft", "starts_from: smoke-gpt2-reward", "a reward model without an output"),
        ("ppo", "reward: smoke-gpt2-reward", "reward: smoke-gpt2-sft", "'smoke-gpt2-sft', which is no reward model"),
        ("ppo", "reward: smoke-gpt2-reward", "reward: smoke-foreign", "'smoke-foreign', which is no reward model"),
        ("dpo", "smoke-chat-format", "smoke-other-format", "user_prefix is '客: ' here and 'ユーザー: ' there"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused(project: Path, kind: str, key: str, value: str, words: str) -> None:
    recipe = Path(f"recipes/smoke-gpt2-{kind}.yaml").read_text(encoding="utf-8")
    assert key in recipe
    files = {
        "smoke-other.yaml": recipe.replace(key, value),
        "smoke-foreign.yaml": foreign(),
        "encoders/smoke-other-format.yaml": "kind: chat\ntokenizer: smoke-spm\nuser_prefix: '客: '\n",
    }
    try:
        for name, text in files.items():
            (Path("recipes") / name).write_text(text, encoding="utf-8")
        with pytest.raises(Refused, match=words):
            make("smoke-other")
    finally:
        for name in files:
            (Path("recipes") / name).unlink()


def foreign() -> str:
    """A recipe of somebody else's language model."""
    return (
        "family: gpt\ndescription: Of somebody else.\nlanguage: ja\nlicence: CC0-1.0\nsource: path:elsewhere\n"
        "layout: transformers\n"
    )


def test_somebody_elses_model_must_have_the_encoders_pieces(project: Path) -> None:
    started = Path("recipes/smoke-gpt2-sft.yaml").read_text(encoding="utf-8")
    files = {
        Path("recipes/smoke-foreign.yaml"): foreign(),
        Path("recipes/smoke-theirs.yaml"): started.replace("starts_from: smoke-gpt2", "starts_from: smoke-foreign"),
        Path("recipes/encoders/smoke-small.yaml"): Path("recipes/encoders/smoke-spm.yaml")
        .read_text(encoding="utf-8")
        .replace("1200", "1199"),
    }
    folder = paths.layout("smoke-foreign", "transformers")
    folder.mkdir(parents=True)
    try:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        for verb, name in [("ingest", "smoke-text"), ("validate", "smoke-text"), ("fit", "smoke-spm")]:
            if not (paths.state(verb, name) / MANIFEST_NAME).is_file():
                getattr(import_module(f"components.{verb}"), verb)(name)
        for name in ("smoke-chat-format", "smoke-small"):
            fit(name)
        recipe = Library().read("recipe", "smoke-theirs")
        shutil.copyfile(paths.payload("fit", "smoke-spm") / "spiece.model", folder / "spiece.model")
        _require_same_pieces(Library(), recipe, "align")
        shutil.copyfile(paths.payload("fit", "smoke-small") / "spiece.model", folder / "spiece.model")
        with pytest.raises(Refused, match=r"1,200 pieces .* 'smoke-foreign' 1,199; the first that differs is id "):
            _require_same_pieces(Library(), recipe, "align")
    finally:
        for path in files:
            path.unlink()
        shutil.rmtree(folder.parent)


@pytest.mark.slow
def test_a_policy_that_collapses_is_refused_and_keeps_its_last_checkpoint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIRAKU_CHECKPOINT_EVERY_SECONDS", "0")
    monkeypatch.setenv("HIRAKU_CHECKPOINT_ROOT", "wild-checkpoints")
    make("smoke-gpt2-reward")
    text = Path("recipes/smoke-gpt2-ppo.yaml").read_text(encoding="utf-8")
    assert "learning_rate: 0.001" in text
    # Such steps leave a policy that says one id whatever it is asked, on which its reward model has no hold.
    wild = text.replace("learning_rate: 0.001", "learning_rate: 3").replace("num_steps: 6", "num_steps: 40")
    other = Path("recipes/smoke-wild.yaml")
    other.write_text(wild, encoding="utf-8")
    try:
        with pytest.raises(Refused, match=r"has collapsed: .*align\.objective\.kl_coefficient") as refused:
            make("smoke-wild")
        (found,) = re.findall(r"The checkpoint of step (\d+) is kept\.", str(refused.value))
        kept = [path.name for path in Path("wild-checkpoints").glob("align/smoke-wild-*/*.ckpt")]
        assert any(name.startswith(f"step-{int(found):010d}-") for name in kept)
        assert not paths.state("align", "smoke-wild").exists()
    finally:
        other.unlink()
