"""What stops publishing: others' files, tokens, networks, the registry. Each leaves `main` as it was and says so."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from components import decisions, paths, registry
from components import hub as client
from components import package as package_module
from components.hub import Unfinished
from components.manifest import Manifest, read_manifest, writing
from components.outcomes import Refused
from components.publish import publish, restore
from tests.flows.hub_server import READ_TOKEN, TOKEN
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import (
    RECIPE,
    REPOSITORY,
    assert_nothing_there,
    files_of,
    loaded_here,
    quiet,
    register_here,
)

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


# ---- licences --------------------------------------------------------------------------------------------------------


def test_a_model_made_from_one_non_commercial_record_is_packaged_as_not_releasable_and_not_published(
    hub: Hub, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(package_module, "load_back", loaded_here)
    place = paths.state("ingest", "town") / "manifest.json"
    manifest = json.loads(place.read_text(encoding="utf-8"))
    manifest["details"]["licences"]["CC BY-NC-SA 4.0"] = 1
    place.write_text(json.dumps(manifest), encoding="utf-8")
    package_module.package(RECIPE)
    reason = "1 record of corpus 'town' under CC BY-NC-SA 4.0, which forbids commercial use"
    details = read_manifest("package", RECIPE).details
    assert (details["releasable"], details["obstacles"]) == (False, [reason])
    card = (paths.layout(RECIPE, "transformers") / "README.md").read_text(encoding="utf-8")
    assert "**Not for release** (releasable: false)" in card
    assert f"> - {reason}" in card
    assert "| CC BY-NC-SA 4.0 | 1 |" in card
    register_here()
    for to in (None, tmp_path / "folder"):
        with pytest.raises(Refused, match=r"may not be released(?s:.*)corpus 'town' under CC BY-NC-SA 4\.0"):
            publish(RECIPE, quiet, to=to)
    assert hub.calls == []
    assert not (tmp_path / "folder").exists()


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


def test_what_nobody_has_approved_is_published_only_if_the_command_says_so(hub: Hub) -> None:
    path = Path("recipes") / f"{RECIPE}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"promote": {"approval": True}}))
    for version in ("", "1"):
        with pytest.raises(Refused, match=r"was never promoted.*hiraku promote tiny --version [12].*--unapproved"):
            publish(RECIPE, quiet, version)
    assert hub.calls == []
    assert publish(RECIPE, quiet, "1", unapproved=True)["version"] == "1"
    registry.tag_version(registry.read_version(RECIPE, "2"), decisions.PROMOTED_AT, "2026-01-01T00:00:00Z")
    assert publish(RECIPE, quiet)["version"] == "2"


def scoped(name: str, *permissions: str) -> dict:
    return {"scoped": [{"entity": {"type": "org", "name": name}, "permissions": list(permissions)}]}


@pytest.mark.parametrize(
    ("role", "scopes", "orgs", "bar"),
    [
        ("write", {}, [{"name": "hiraku", "roleInOrg": "write"}], ""),
        ("write", {}, [{"name": "Hiraku"}], ""),
        ("read", {}, [{"name": "hiraku"}], "it may only read"),
        ("write", {}, [{"name": "others"}], "its owner 'anna' is no member of 'hiraku'"),
        ("write", {}, [{"name": "hiraku", "roleInOrg": "read"}], "its owner 'anna' may only read in 'hiraku'"),
        ("fineGrained", scoped("hiraku", "repo.content.read", "repo.write"), [{"name": "hiraku"}], ""),
        ("fineGrained", scoped(REPOSITORY, "repo.write"), [{"name": "hiraku"}], ""),
        ("fineGrained", scoped("hiraku", "repo.content.read"), [{"name": "hiraku"}], "it is fine-grained"),
        ("fineGrained", scoped("anna", "repo.write"), [{"name": "hiraku"}], "it is fine-grained"),
    ],
)
def test_what_a_hub_says_of_a_token_tells_whether_it_may_write(role: str, scopes: dict, orgs: list, bar: str) -> None:
    token = {"role": role} | ({"fineGrained": scopes} if scopes else {})
    owner = {"name": "anna", "orgs": orgs, "auth": {"type": "access_token", "accessToken": token}}
    assert client.bar_of(owner, REPOSITORY).startswith(bar)
    assert bool(client.bar_of(owner, REPOSITORY)) == bool(bar)


def test_a_hub_that_does_not_tell_of_tokens_bars_nobody() -> None:
    assert client.bar_of({"name": "anna"}, REPOSITORY) == ""


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


# ---- this machine ----------------------------------------------------------------------------------------------------


def test_a_disk_without_room_to_read_a_version_back_is_said_before_anything_is_sent(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=1000))
    with pytest.raises(Refused, match=r"has 1,000 bytes free.*Nothing was sent\..*set TMPDIR"):
        publish(RECIPE, quiet)
    assert hub.titles(REPOSITORY) == ["initial commit"]
    assert hub.uploads == []


def test_a_disk_that_is_full_is_not_taken_for_a_network_that_is_down(hub: Hub, monkeypatch) -> None:
    def full(_self: object, _commit: str, _folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(client.Repository, "download", full)
    with pytest.raises(OSError, match="No space left") as failure:
        publish(RECIPE, quiet)
    assert not isinstance(failure.value, Unfinished)
    assert_nothing_there(hub)
