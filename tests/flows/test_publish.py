"""Publishing to a Hub: what is sent is read back, a second time sends nothing, and the token is never shown."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from components import paths, tracking
from components.manifest import Manifest, writing
from components.outcomes import Refused
from components.publish import publish
from components.register import register
from tests.flows.conftest import RECIPE, Project
from tests.flows.hub_server import TOKEN, Hub, serving

REPOSITORY = f"hiraku/{RECIPE}"
FILES = {"config.json": b"{}\n", "model.safetensors": b"weights" * 1000, "README.md": b"# card\n"}


def write_package(files: dict[str, bytes]) -> None:
    with writing(Manifest("package", RECIPE, {"components.package": 1})) as folder:
        (folder / "transformers").mkdir()
        for name, data in files.items():
            (folder / "transformers" / name).write_bytes(data)


def release(files: dict[str, bytes]) -> None:
    """A package that is a version of the registry."""
    write_package(files)
    run = tracking.Release(RECIPE, "tests")
    register(RECIPE, run)
    run.close("FINISHED")


@pytest.fixture
def hub(project: Project, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this environment names, and a registered package to publish."""
    from huggingface_hub import constants

    tracking.HOME.mkdir(parents=True)
    shutil.copy(empty_database, tracking.HOME / "mlflow.db")
    release(FILES)
    # Other tests may have imported the library, which reads its settings then.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_without_a_token_it_says_what_would_go_and_sends_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said: list[str] = []
    assert publish(RECIPE, said.append)["is_published"] is False
    text = "\n".join(said)
    assert all(name in text for name in FILES)
    assert "7,000" in text
    assert paths.layout(RECIPE, "transformers").as_posix() in text
    assert hub.calls == []
    assert not paths.receipt("publish", RECIPE).exists()


def test_what_is_published_is_exactly_the_folder_and_the_receipt_names_its_commit(hub: Hub) -> None:
    said: list[str] = []
    receipt = publish(RECIPE, said.append)
    there = hub.repositories[REPOSITORY][-1]
    assert {name: data for name, data in there.items() if name != ".gitattributes"} == FILES
    assert receipt["commit"] == hub.sha(REPOSITORY)
    kept = json.loads(paths.receipt("publish", RECIPE).read_text())
    assert kept["files"]["model.safetensors"] == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert TOKEN not in "".join(said) + paths.receipt("publish", RECIPE).read_text()


def test_publishing_again_sends_nothing_and_a_new_package_replaces_what_is_gone(hub: Hub) -> None:
    first = publish(RECIPE, lambda _line: None)
    hub.calls.clear()
    again = publish(RECIPE, lambda _line: None)
    assert (again["is_new"], again["commit"]) == (False, first["commit"])
    assert not any("/commit/" in call for call in hub.calls)
    release({"config.json": b"{}\n", "generation_config.json": b"{}\n"})
    assert publish(RECIPE, lambda _line: None)["is_new"] is True
    assert set(hub.repositories[REPOSITORY][-1]) == {".gitattributes", "config.json", "generation_config.json"}


def test_bytes_that_come_back_otherwise_are_refused_without_a_receipt(hub: Hub) -> None:
    hub.damages = "config.json"
    with pytest.raises(Refused, match=r"config\.json has other bytes"):
        publish(RECIPE, lambda _line: None)
    assert not paths.receipt("publish", RECIPE).exists()
    hub.damages = ""
    assert publish(RECIPE, lambda _line: None)["is_new"] is True


def test_only_a_version_of_the_registry_is_published(hub: Hub) -> None:
    write_package({"config.json": b"{} \n"})
    with pytest.raises(Refused, match=f"Run: hiraku register {RECIPE}"):
        publish(RECIPE, lambda _line: None)
    assert hub.calls == []
    release({"config.json": b"{} \n"})
    assert publish(RECIPE, lambda _line: None)["version"] == "2"


def test_a_registry_that_does_not_answer_is_said_and_does_not_stop_publishing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.server import free_port

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{free_port()}")
    said: list[str] = []
    assert publish(RECIPE, said.append)["version"] == ""
    assert "registry does not answer" in said[0]
    assert "secret" not in "".join(said)


def test_what_others_have_put_into_a_repository_is_not_deleted(hub: Hub) -> None:
    theirs = {"config.json": b"theirs", "tokenizer.json": b"theirs"}
    hub.add(REPOSITORY, "Upload model", theirs)
    with pytest.raises(Refused, match="has 2 files, and its newest commit is 'Upload model'"):
        publish(RECIPE, lambda _line: None)
    assert hub.repositories[REPOSITORY] == [theirs]


def test_an_edit_on_top_of_what_was_published_is_not_lost_and_the_receipt_need_not_be_there(hub: Hub) -> None:
    publish(RECIPE, lambda _line: None)
    shutil.rmtree(paths.receipt("publish", RECIPE).parent)
    release({"config.json": b"{}\n"})
    assert publish(RECIPE, lambda _line: None)["is_new"] is True
    hub.add(REPOSITORY, "Mend the card", {"config.json": b"{}\n", "README.md": b"better"})
    with pytest.raises(Refused, match="'Mend the card'"):
        publish(RECIPE, lambda _line: None)


def test_the_part_of_a_large_upload_is_known_as_ours(hub: Hub) -> None:
    hub.add(REPOSITORY, f"hiraku publish {RECIPE} (part 2)", {"config.json": b"{}\n"})
    assert publish(RECIPE, lambda _line: None)["is_new"] is True


def test_a_wrong_token_is_answered_with_what_to_check_and_not_with_the_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(Refused, match="Check HF_TOKEN") as refusal:
        publish(RECIPE, lambda _line: None)
    assert "hf_wrong" not in str(refusal.value)


def test_a_recipe_that_names_no_repository_is_refused(project: Project) -> None:
    path = Path("recipes") / f"{RECIPE}.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("publish")]
    path.write_text("\n".join(lines))
    with pytest.raises(Refused, match=r"publish: \{repository"):
        publish(RECIPE)


def test_somebody_elses_model_is_not_published(project: Project) -> None:
    recipe = {"family": "gpt", "description": "A neighbour's.", "language": "ja", "licence": "MIT", "source": "path:x"}
    (Path("recipes") / "other.yaml").write_text(json.dumps(recipe))
    with pytest.raises(Refused, match="'other' is somebody else's model, taken from path:x"):
        publish("other")


def test_a_package_changed_behind_its_manifest_is_not_sent(hub: Hub) -> None:
    (paths.layout(RECIPE, "transformers") / "config.json").write_text("{ }")
    with pytest.raises(Refused, match="was changed after it was made"):
        publish(RECIPE, lambda _line: None)
    assert hub.calls == []


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_answer_that_stays_the_same_is_refused(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(Refused, match="did not take"):
        publish(RECIPE, lambda _line: None)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_hub_that_fails_is_worth_another_try_and_the_error_says_what_to_check(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(HfHubHTTPError, match=str(status)) as failure:
        publish(RECIPE, lambda _line: None)
    assert "HF_ENDPOINT" in failure.value.__notes__[0]
    assert not paths.receipt("publish", RECIPE).exists()
    hub.status = 0
    assert publish(RECIPE, lambda _line: None)["is_new"] is True


def test_a_hub_that_does_not_answer_is_worth_another_try(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.server import free_port

    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(httpx2.ConnectError) as failure:
        publish(RECIPE, lambda _line: None)
    assert "HF_ENDPOINT" in failure.value.__notes__[0]


def test_an_address_that_is_none_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "our-hub")
    with pytest.raises(Refused, match="HF_ENDPOINT"):
        publish(RECIPE, lambda _line: None)
