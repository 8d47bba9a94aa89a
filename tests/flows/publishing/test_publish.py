"""Publishing to a Hub: nothing counts before it is read back and loaded, and what comes back otherwise never does."""

import hashlib
import json
import shutil

import pytest
import torch

from components import chosen, paths, registry
from components.lineage import Lineage, write_lineage
from components.manifest import Manifest, writing
from components.outcomes import Refused
from components.publish import publish, restore
from tests.flows.hub_server import TOKEN
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import (
    RECIPE,
    REPOSITORY,
    assert_nothing_there,
    change_publish,
    files_of,
    quiet,
    register_here,
)

# ---- as it should be -------------------------------------------------------------------------------------------------


def test_a_version_goes_to_a_private_repository_by_one_commit_on_a_branch_then_to_main_and_a_tag(
    hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
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
    assert "%|" not in "".join(capfd.readouterr()), "a log is no place for a bar"


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
    monkeypatch.setattr(chosen, "gap_between", lambda *_words: "logits differ by up to 0.5")
    with pytest.raises(Refused, match=r"computes something else.*by up to 0\.5\. main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(hub)


@pytest.mark.slow
def test_a_version_that_does_not_load_in_a_fresh_process_is_refused_before_main_gets_it(server: Hub) -> None:
    with writing(Manifest("package", RECIPE, {"components.package": 1})) as folder:
        (folder / "transformers").mkdir()
        (folder / "transformers" / "config.json").write_text('{"model_type": "gpt2"}')
        write_lineage(Lineage((Manifest("package", RECIPE, {}),), (), obstacles=()), folder / "transformers", ())
    register_here()
    with pytest.raises(Refused, match=r"does not load in a fresh process.*main of hiraku/tiny is as it was"):
        publish(RECIPE, quiet)
    assert_nothing_there(server)


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
