"""Publishing to a Hub: nothing counts before it is read back and loaded, and whatever fails leaves `main` as it was."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from components import hub as client
from components import package as package_module
from components import paths, registry, tracking
from components import publish as publish_module
from components.evaluate import evaluate
from components.hub import Unfinished
from components.loadback import difference
from components.manifest import Manifest, writing
from components.modalities import modality
from components.outcomes import Refused
from components.package import package
from components.publish import publish, restore
from components.register import register
from models.gpt import release as gpt_release
from tests.components.small_release import make_project, make_weights
from tests.flows.hub_server import READ_TOKEN, TOKEN, serving
from tests.flows.hub_store import Hub

RECIPE = "tiny"
REPOSITORY = f"hiraku/{RECIPE}"


def quiet(_line: str) -> None:
    """Nobody listens."""


def loaded_here(family: str, folder: Path, probes: list[str], workspace: Path, example: str = "") -> tuple[dict, str]:
    return gpt_release.answer_of_folder(folder, probes), "printed"


def gap_here(family: str, probes: list[str], one: Path, other: Path) -> str | None:
    return difference(*(gpt_release.answer_of_folder(folder, probes) for folder in (one, other)))


def register_here() -> str:
    run = tracking.Release(RECIPE, "tests")
    receipt = register(RECIPE, run)
    run.close("FINISHED")
    return receipt["version"]


def change_publish(**keys: object) -> None:
    path = Path("recipes") / f"{RECIPE}.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) | {"publish": keys}
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A project whose model has two versions in the registry; the package there is the second."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(package_module, "load_back", loaded_here)
        make_project(root)
        change_publish(repository=REPOSITORY)
        tracking.HOME.mkdir(parents=True)
        shutil.copy(empty_database, tracking.HOME / "mlflow.db")
        for seed in (0, 1):
            make_weights(RECIPE, modality("text").open_encoder(paths.payload("fit", "town-spm")).facts, seed)
            evaluate(RECIPE)
            package(RECIPE)
            assert register_here() == str(seed + 1)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break; the files of its versions stay where they were registered."""
    root = tmp_path / "project"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    for name in ("MLFLOW_TRACKING_URI", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load back in this process: what fresh ones add is tested once, by the slow test."""
    monkeypatch.setattr(publish_module, "gap_between", gap_here)


@pytest.fixture
def server(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this environment names, and a client that does not wait between its tries."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    # Other tests may have imported the library, which reads its settings then.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_DISABLE_XET", raising=False)
    clock = SimpleNamespace(sleep=lambda _seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(_http, "time", clock)
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def hub(server: Hub, _in_process: None) -> Hub:
    return server


def files_of(version: str) -> dict[str, bytes]:
    """What a version holds, as the registry keeps it."""
    found = registry.read_version(RECIPE, version)
    assert found is not None
    with registry.fetched(found) as folder:
        return {path.name: path.read_bytes() for path in (folder / "transformers").iterdir()}


def assert_nothing_there(hub: Hub) -> None:
    """As a Hub makes a repository, without tags, and without a receipt here."""
    assert hub.titles(REPOSITORY) == ["initial commit"]
    assert hub.repositories[REPOSITORY].tags == {}
    assert not paths.receipt("publish", RECIPE).exists()


# ---- as it should be -------------------------------------------------------------------------------------------------


def test_a_version_goes_to_a_private_repository_by_one_commit_on_a_branch_then_to_main_and_a_tag(hub: Hub) -> None:
    said: list[str] = []
    receipt = publish(RECIPE, said.append)
    repository = hub.repositories[REPOSITORY]
    assert repository.is_private
    assert hub.titles(REPOSITORY, "candidate") == [f"hiraku publish {RECIPE} v2", "initial commit"]
    assert hub.titles(REPOSITORY) == [f"hiraku publish {RECIPE} v2", "initial commit"]
    assert hub.files(REPOSITORY) == hub.files(REPOSITORY, "candidate") == files_of("2")
    assert repository.tags == {"v2": hub.sha(REPOSITORY)}
    assert len(hub.uploads) == 1, "the weights are sent once, not for each branch"
    kept = json.loads(paths.receipt("publish", RECIPE).read_text())
    assert kept["files"]["model.safetensors"] == hashlib.sha256(files_of("2")["model.safetensors"]).hexdigest()
    assert (kept["commit"], kept["version"], kept["tag"]) == (hub.sha(REPOSITORY), "2", "v2")
    assert receipt == {**kept, "is_new": True}
    assert TOKEN not in "".join(said) + json.dumps(kept)


def test_publishing_the_same_again_changes_nothing_and_needs_no_receipt(hub: Hub) -> None:
    first = publish(RECIPE, quiet)
    shutil.rmtree(paths.receipt("publish", RECIPE).parent)
    hub.calls.clear()
    again = publish(RECIPE, quiet)
    assert again == {**first, "is_new": False}
    assert hub.writes() == []
    assert paths.receipt("publish", RECIPE).is_file()


def test_a_tag_that_a_killed_run_has_not_made_is_made_by_the_next(hub: Hub) -> None:
    publish(RECIPE, quiet)
    hub.repositories[REPOSITORY].tags.clear()
    hub.calls.clear()
    assert publish(RECIPE, quiet)["is_new"] is True
    assert hub.repositories[REPOSITORY].tags == {"v2": hub.sha(REPOSITORY)}
    assert [call.split("/")[-2] for call in hub.writes()] == ["tag"]


def test_a_version_is_taken_from_the_registry_and_what_it_has_not_is_gone(hub: Hub) -> None:
    publish(RECIPE, quiet)
    hub.add(REPOSITORY, f"hiraku publish {RECIPE} v0", {**hub.files(REPOSITORY), "old.json": b"{}"})
    assert publish(RECIPE, quiet, version="1")["version"] == "1"
    assert hub.files(REPOSITORY) == files_of("1") != files_of("2")
    registry.set_alias(RECIPE, registry.CHAMPION, "2")
    assert publish(RECIPE, quiet, version=registry.CHAMPION)["version"] == "2"
    assert set(hub.repositories[REPOSITORY].tags) == {"v1", "v2"}


def test_what_was_published_before_is_restored_by_a_new_commit_and_no_history_is_lost(hub: Hub) -> None:
    publish(RECIPE, quiet, version="1")
    publish(RECIPE, quiet)
    uploads, tags = list(hub.uploads), dict(hub.repositories[REPOSITORY].tags)
    receipt = restore(RECIPE, "1", quiet)
    assert hub.files(REPOSITORY) == files_of("1")
    titles = [f"hiraku {what} {RECIPE} v{n}" for what, n in (("restore", 1), ("publish", 2), ("publish", 1))]
    assert hub.titles(REPOSITORY) == [*titles, "initial commit"]
    assert hub.repositories[REPOSITORY].tags == tags
    assert hub.uploads == uploads, "large files stay on the Hub"
    assert json.loads(paths.receipt("publish", RECIPE).read_text())["version"] == "1"
    hub.calls.clear()
    assert restore(RECIPE, "1", quiet) == {**receipt, "is_new": False}
    assert hub.writes() == []
    assert publish(RECIPE, quiet)["version"] == "2", "a restored repository takes versions again"


def test_a_version_that_was_never_published_cannot_be_restored(hub: Hub) -> None:
    publish(RECIPE, quiet)
    with pytest.raises(Refused, match=r"has no tag v1.*Tags: v2.*hiraku publish tiny --version 1"):
        restore(RECIPE, "1", quiet)
    assert hub.files(REPOSITORY) == files_of("2")


def test_a_repository_is_public_only_if_the_recipe_says_so_and_never_made_public_by_us(hub: Hub) -> None:
    change_publish(repository=REPOSITORY, private=False)
    publish(RECIPE, quiet)
    assert not hub.repositories[REPOSITORY].is_private
    change_publish(repository=REPOSITORY)
    hub.calls.clear()
    with pytest.raises(Refused, match=r"is public, expected private"):
        publish(RECIPE, quiet, version="1")
    assert hub.writes() == []


# ---- what must not be touched ----------------------------------------------------------------------------------------


def test_what_others_have_put_into_a_repository_is_not_touched(hub: Hub) -> None:
    theirs = {"config.json": b"theirs", "tokenizer.json": b"theirs"}
    hub.add(REPOSITORY, "Upload model", theirs)
    with pytest.raises(Refused, match="has 2 files, and its newest commit is 'Upload model'"):
        publish(RECIPE, quiet)
    repository = hub.repositories[REPOSITORY]
    assert (hub.files(REPOSITORY), set(repository.branches), len(repository.commits)) == (theirs, {"main"}, 1)
    assert hub.writes() == []


def test_an_edit_on_top_of_what_was_published_is_not_lost(hub: Hub) -> None:
    publish(RECIPE, quiet, version="1")
    hub.add(REPOSITORY, "Mend the card", {"README.md": b"better"})
    for change in (lambda: publish(RECIPE, quiet), lambda: restore(RECIPE, "1", quiet)):
        with pytest.raises(Refused, match="'Mend the card'"):
            change()
    assert hub.files(REPOSITORY) == {"README.md": b"better"}


def test_a_branch_of_the_same_name_that_others_work_on_is_not_touched(hub: Hub) -> None:
    publish(RECIPE, quiet, version="1")
    hub.add(REPOSITORY, "Try something", {"README.md": b"theirs"}, "candidate")
    with pytest.raises(Refused, match=r"candidate of hiraku/tiny has 1 files.*'Try something'"):
        publish(RECIPE, quiet)
    assert hub.files(REPOSITORY, "candidate") == {"README.md": b"theirs"}
    assert hub.files(REPOSITORY) == files_of("1")


def test_a_tag_of_the_same_name_at_another_content_is_refused_before_anything_is_sent(hub: Hub) -> None:
    publish(RECIPE, quiet, version="1")
    hub.repositories[REPOSITORY].tags["v2"] = hub.sha(REPOSITORY)
    hub.calls.clear()
    with pytest.raises(Refused, match=r"Tag v2 of hiraku/tiny names commit .*another content.*Nothing was sent"):
        publish(RECIPE, quiet)
    assert hub.writes() == []
    assert hub.files(REPOSITORY) == files_of("1")


def test_whoever_commits_while_we_look_is_not_written_over(hub: Hub) -> None:
    def commit(line: str) -> None:
        if line.startswith("Reading back"):
            hub.add(REPOSITORY, "I was here", {"README.md": b"theirs"})

    with pytest.raises(Refused, match="Somebody else has committed meanwhile"):
        publish(RECIPE, commit)
    assert hub.files(REPOSITORY) == {"README.md": b"theirs"}
    assert hub.repositories[REPOSITORY].tags == {}


# ---- what comes back otherwise ---------------------------------------------------------------------------------------


def test_a_file_that_the_hub_keeps_otherwise_is_seen_before_main_gets_it(hub: Hub) -> None:
    hub.damages = "config.json"
    with pytest.raises(Refused, match=r"config\.json has other bytes\. main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(hub)
    hub.damages = ""
    assert publish(RECIPE, quiet)["is_new"] is True
    assert len(hub.uploads) == 1


def test_a_file_that_the_hub_serves_otherwise_than_it_says_is_seen_before_main_gets_it(hub: Hub) -> None:
    hub.serves_damaged = "model.safetensors"
    with pytest.raises(Refused, match=r"other bytes in model\.safetensors\. main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(hub)


def test_a_copy_that_computes_something_else_is_refused_before_main_gets_it(hub: Hub, monkeypatch) -> None:
    # No bytes that pass the comparison can bring this about, only a machine that computes otherwise each time.
    monkeypatch.setattr(publish_module, "gap_between", lambda *_words: "logits differ by up to 0.5")
    with pytest.raises(Refused, match=r"computes something else.*by up to 0\.5\. main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(hub)


def test_a_version_that_does_not_load_in_a_fresh_process_is_refused_before_main_gets_it(server: Hub) -> None:
    with writing(Manifest("package", RECIPE, {"components.package": 1})) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text('{"model_type": "gpt2"}')
    register_here()
    with pytest.raises(Refused, match=r"does not load in a fresh process.*main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(server)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_without_a_token_it_says_what_would_go_and_sends_nothing(hub: Hub, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said: list[str] = []
    with pytest.raises(Refused, match=r"There is no HF_TOKEN, so nothing was sent.*hf-token.*--to DIR"):
        publish(RECIPE, said.append)
    assert all(name in "\n".join(said) for name in files_of("2"))
    assert hub.calls == []
    assert not paths.receipt("publish", RECIPE).exists()


def test_a_token_that_may_not_write_is_said_with_what_to_do(hub: Hub, monkeypatch, caplog) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(Refused, match=r"403.*Nothing was sent\. The token of HF_TOKEN may not write there"):
        publish(RECIPE, quiet)
    assert hub.repositories == {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    publish(RECIPE, quiet, version="1")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(Refused, match="may not write there") as refusal:
        publish(RECIPE, quiet)
    assert hub.files(REPOSITORY) == files_of("1")
    assert set(hub.repositories[REPOSITORY].tags) == {"v1"}
    assert READ_TOKEN not in f"{refusal.value} {caplog.text}"
    assert publish(RECIPE, quiet, version="1")["is_new"] is False, "looking needs no right to write"


def test_a_wrong_token_is_answered_with_what_to_do_and_not_with_the_token(hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(Refused, match="does not know the token of HF_TOKEN") as refusal:
        publish(RECIPE, quiet)
    assert "hf_wrong" not in str(refusal.value)


# ---- networks and servers --------------------------------------------------------------------------------------------


def test_an_upload_that_is_cut_in_the_middle_leaves_main_and_the_next_one_ends_it(hub: Hub) -> None:
    hub.cuts_after = 0
    with pytest.raises(Unfinished, match=r"main of hiraku/tiny is as it was; what has arrived waits on the branch"):
        publish(RECIPE, quiet)
    assert_nothing_there(hub)
    hub.cuts_after = None
    assert publish(RECIPE, quiet)["is_new"] is True
    assert hub.files(REPOSITORY) == files_of("2")


def test_large_files_that_have_arrived_before_a_cut_are_not_sent_again(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(4):
        (folder / f"model-{number}.safetensors").write_bytes(bytes([number]) * 300_000)
    files = client.local_files(folder)
    hub.add(REPOSITORY, "initial commit", {})
    hub.cuts_after = 2
    with pytest.raises(Unfinished), client.opened(REPOSITORY) as there:
        there.send(folder, files, "main", hub.sha(REPOSITORY), "title", "text")
    arrived = set(hub.stored)
    assert len(arrived) == 2
    assert hub.titles(REPOSITORY) == ["initial commit"]
    hub.cuts_after = None
    hub.uploads.clear()
    with client.opened(REPOSITORY) as there:
        commit = there.send(folder, files, "main", hub.sha(REPOSITORY), "title", "text")
        assert there.differences(commit, files) == []
    assert sorted(hub.uploads) == sorted({file.sha256 for file in files} - arrived)


@pytest.mark.parametrize("status", [400, 404])
def test_an_answer_that_stays_the_same_is_refused(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(Refused, match=r"did not take .* Nothing was sent"):
        publish(RECIPE, quiet)


@pytest.mark.parametrize("status", [408, 503])
def test_a_hub_that_fails_is_worth_another_try_and_the_error_says_what_holds(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(Unfinished, match=f"{status}.*Nothing was sent.*HF_ENDPOINT"):
        publish(RECIPE, quiet)
    assert not paths.receipt("publish", RECIPE).exists()
    hub.status = 0
    assert publish(RECIPE, quiet)["is_new"] is True


def test_a_hub_that_does_not_answer_is_worth_another_try(hub: Hub, monkeypatch) -> None:
    from flows.server import free_port

    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unfinished, match="HF_ENDPOINT"):
        publish(RECIPE, quiet)


def test_an_address_that_is_none_is_refused(hub: Hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "our-hub")
    with pytest.raises(Refused, match="HF_ENDPOINT"):
        publish(RECIPE, quiet)


# ---- the registry ----------------------------------------------------------------------------------------------------


def test_only_a_version_of_the_registry_is_published(hub: Hub) -> None:
    with writing(Manifest("package", RECIPE, {"components.package": 1})) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text("{}")
    with pytest.raises(Refused, match=f"Run: hiraku register {RECIPE}"):
        publish(RECIPE, quiet)
    assert hub.calls == []


def test_a_version_that_is_not_there_is_answered_with_those_that_are(hub: Hub) -> None:
    with pytest.raises(Refused, match=r"no version '7' of 'tiny'\. There are: 2, 1\."):
        publish(RECIPE, quiet, version="7")
    assert hub.calls == []


def test_a_registry_that_does_not_answer_stops_publishing_before_anything_is_sent(hub: Hub, monkeypatch) -> None:
    from flows.server import free_port

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{free_port()}")
    with pytest.raises(Refused, match=r"Only versions .* it does not answer .*Nothing was sent") as refusal:
        publish(RECIPE, quiet)
    assert "secret" not in str(refusal.value)
    assert hub.calls == []


def test_a_package_changed_behind_its_manifest_is_not_sent(hub: Hub) -> None:
    (paths.layout(RECIPE, "transformers") / "config.json").write_text("{ }")
    with pytest.raises(Refused, match="was changed after it was made"):
        publish(RECIPE, quiet)
    assert hub.calls == []


def test_a_recipe_that_names_no_place_is_refused(project: Path) -> None:
    path = Path("recipes") / f"{RECIPE}.yaml"
    recipe = yaml.safe_load(path.read_text())
    del recipe["publish"]
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(Refused, match=r"publish: \{repository"):
        publish(RECIPE)
    recipe["publish"] = {"private": True}
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(Refused, match="'repository' and 'folder'"):
        publish(RECIPE)


def test_somebody_elses_model_is_not_published(project: Path) -> None:
    recipe = {"family": "gpt", "description": "A neighbour's.", "language": "ja", "licence": "MIT", "source": "path:x"}
    (Path("recipes") / "other.yaml").write_text(json.dumps(recipe))
    with pytest.raises(Refused, match="'other' is somebody else's model, taken from path:x"):
        publish("other")


# ---- folders ---------------------------------------------------------------------------------------------------------


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".hiraku.json"}


@pytest.mark.usefixtures("_in_process")
def test_a_folder_gets_the_same_files_without_a_token_and_a_newer_version_takes_their_place(project: Path) -> None:
    place = project.parent / "shelf" / "tiny"
    first = publish(RECIPE, quiet, version="1", to=place)
    assert (content_of(place), first["is_new"]) == (files_of("1"), True)
    assert publish(RECIPE, quiet, version="1", to=place)["is_new"] is False
    assert publish(RECIPE, quiet, to=place)["version"] == "2"
    assert content_of(place) == files_of("2")
    assert [path.name for path in place.parent.iterdir()] == ["tiny"]
    assert not paths.receipt("publish", RECIPE).exists()


@pytest.mark.usefixtures("_in_process")
def test_a_folder_that_others_use_or_have_changed_stays_as_it_is(project: Path, monkeypatch) -> None:
    place = project.parent / "shelf"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="holds what no 'hiraku publish tiny' has put there"):
        publish(RECIPE, quiet, to=place)
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    (place / "notes.txt").unlink()
    publish(RECIPE, quiet, version="1", to=place)
    monkeypatch.setattr(publish_module, "gap_between", lambda *_words: "logits differ by up to 0.5")
    with pytest.raises(Refused, match="computes something else"):
        publish(RECIPE, quiet, to=place)
    assert content_of(place) == files_of("1")
    assert [path.name for path in place.parent.iterdir() if path.name.startswith(".shelf")] == []
    (place / "README.md").write_text("better")
    with pytest.raises(Refused, match="was changed after"):
        publish(RECIPE, quiet, to=place)
    with pytest.raises(Refused, match="which stages own"):
        publish(RECIPE, quiet, to=paths.state("package", RECIPE) / "shelf")


def test_a_recipe_may_name_a_folder_beside_its_repository_and_both_are_restored(hub: Hub) -> None:
    change_publish(repository=REPOSITORY, folder="../shelf")
    assert publish(RECIPE, quiet, version="1")["folder"] == "../shelf"
    publish(RECIPE, quiet)
    assert content_of(Path("../shelf")) == hub.files(REPOSITORY) == files_of("2")
    assert restore(RECIPE, "1", quiet)["is_new"] is True
    assert content_of(Path("../shelf")) == hub.files(REPOSITORY) == files_of("1")


# ---- whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_pretrained_computes_from_the_hub_what_it_computes_from_the_package(server: Hub, monkeypatch) -> None:
    from huggingface_hub import constants
    from transformers import AutoModelForCausalLM, AutoTokenizer

    publish(RECIPE, quiet)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    with pytest.raises(OSError, match="not a valid model identifier"):
        AutoTokenizer.from_pretrained(REPOSITORY, token=False, cache_dir="cache")
    where = {"token": TOKEN, "cache_dir": "cache"}
    ids = AutoTokenizer.from_pretrained(REPOSITORY, **where)("太郎は公園で3回本を読んだ。", return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        there = AutoModelForCausalLM.from_pretrained(REPOSITORY, revision="v2", **where)(input_ids=ids).logits
        here = AutoModelForCausalLM.from_pretrained(paths.layout(RECIPE, "transformers"))(input_ids=ids).logits
    assert torch.equal(there, here)
    assert here.std() > 0.1
