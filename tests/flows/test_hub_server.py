"""The stand-in Hub speaks the protocol of the real one to the unmodified client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.flows.hub_server import READ_TOKEN, TOKEN, serving
from tests.flows.hub_store import Hub

NAME = "hiraku/model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving() as running:
        yield running


def test_a_repository_lives_through_create_upload_branch_tag_and_delete(hub: Hub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.url, token=TOKEN)
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"
    api.create_repo(NAME, private=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(NAME)
    api.create_branch(NAME, branch="candidate/one")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "config.json").write_text("{}")
    (tmp_path / "up" / "model.safetensors").write_bytes(b"w" * 5000)
    before = api.repo_info(NAME, revision="candidate/one").sha
    done = api.upload_folder(repo_id=NAME, folder_path=tmp_path / "up", revision="candidate/one", parent_commit=before)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(
            path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME, revision="candidate/one", parent_commit=before
        )
    api.create_tag(NAME, tag="v1", revision=done.oid)
    refs = api.list_repo_refs(NAME)
    assert {each.name for each in refs.branches} == {"main", "candidate/one"}
    assert [(each.name, each.target_commit) for each in refs.tags] == [("v1", done.oid)]
    assert [each.title for each in api.list_repo_commits(NAME, revision="v1")][-1] == "initial commit"
    assert set(api.list_repo_files(NAME)) == {".gitattributes"}
    api.delete_file("config.json", NAME, revision="candidate/one")
    assert set(api.list_repo_files(NAME, revision="candidate/one")) == {".gitattributes", "model.safetensors"}
    api.delete_branch(NAME, branch="candidate/one")
    api.delete_tag(NAME, tag="v1")
    assert len(api.list_repo_refs(NAME).branches) == 1


def test_what_is_not_there_and_what_nobody_may_see_is_told_apart(hub: Hub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo(NAME, private=True)
    where = {"repo_id": NAME, "cache_dir": tmp_path}
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(filename="config.json", **where)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(filename="config.json", revision="v9", **where)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=False).repo_info(NAME)
    reader = HfApi(endpoint=hub.url, token=READ_TOKEN)
    assert reader.repo_info(NAME).private is True
    with pytest.raises(HfHubHTTPError, match="403"):
        reader.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME)


def test_a_download_that_was_cut_goes_on_from_where_it_ended(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub.file_download import http_get

    data = bytes(range(256)) * 40
    hub.add(NAME, "upload", {"model.safetensors": data})
    hub.repositories[NAME].is_private = False
    path = tmp_path / "part"
    path.write_bytes(data[:4000])
    with path.open("ab") as stream:
        http_get(f"{hub.url}/{NAME}/resolve/main/model.safetensors", stream, resume_size=4000, expected_size=len(data))
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("license: my-licence", "license"),
        ("license: other", "license_name"),
        ("license: mit\nlanguage: Japanese", "language"),
        ("license: mit\nbase_model: rinna", "base_model"),
        ("license: mit\nmodel-index:\n- results: []", "name"),
    ],
)
def test_a_card_that_the_real_hub_would_refuse_is_refused(hub: Hub, monkeypatch, metadata: str, problem: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo(NAME)
    with pytest.raises(ValueError, match=f'Invalid metadata in README.md.\n- "(model-index\\[\\].)?{problem}"'):
        api.upload_file(
            path_or_fileobj=f"---\n{metadata}\n---\n# Card\n".encode(), path_in_repo="README.md", repo_id=NAME
        )
    assert set(hub.files(NAME)) == set()
    assert ModelCard("---\nlicense: mit\n---\n").data.license == "mit"
