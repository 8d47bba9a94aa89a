"""The token of a Hub comes from the environment or from Prefect's Secret block, and stands in no log and no file."""

import logging
import os
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from components.outcomes import Refused
from flows import workspace
from flows.hub_token import BLOCK, hub_token
from flows.launch import StageFailed
from tests.flows.hub_server import READ_TOKEN, TOKEN
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import RECIPE, REPOSITORY, files_of


@pytest.fixture
def releases(hub: Hub, project: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch):
    """The flows in a project of git and DVC; the environment has no token, tries do not wait."""
    from flows import release, tasks

    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init(".").close()
    monkeypatch.setattr(workspace, "rendered_again", list)
    monkeypatch.setattr(tasks.run_publish, "retry_delay_seconds", [0.0, 0.0])
    monkeypatch.delenv("HF_TOKEN")
    yield release
    forget()


def keep(token: str) -> None:
    from prefect.blocks.system import Secret

    Secret(value=token).save(BLOCK, overwrite=True)


def forget() -> None:
    from prefect.blocks.system import Secret

    try:
        Secret.delete(BLOCK)
    except ValueError:
        return


def logged() -> str:
    """Every line that Prefect keeps."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return "\n".join(each.message for each in client.read_logs())


def on_disk(text: str) -> list[str]:
    """Files of the project that hold a text."""
    return [str(path) for path in Path().rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_token_of_the_secret_block_publishes_and_is_found_in_no_log_and_no_file(
    releases, hub: Hub, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with pytest.raises(Refused, match=r"There is no HF_TOKEN.*Secret block 'hf-token'"):
        releases.publish(RECIPE, "", None, said.append)
    keep(READ_TOKEN)
    with pytest.raises(Refused, match="may not write there"):
        releases.publish(RECIPE, "", None, said.append)
    keep(TOKEN)
    hub.cuts_after = 0
    with pytest.raises(StageFailed, match=f"publish {RECIPE}: The Hub at .* main of {REPOSITORY} is as it was"):
        releases.publish(RECIPE, "", None, said.append)
    assert len(hub.uploads) == 18, "three tries of the task, each with the six of the library"
    hub.cuts_after = None
    (row,) = releases.publish(RECIPE, "", None, said.append).rows
    assert (row.verb, row.state) == ("publish", "published")
    assert releases.publish(RECIPE, "1", None, said.append).rows[0].state == "published"
    assert releases.publish(RECIPE, "1", None, said.append).rows[0].state == "ready"
    assert hub.files(REPOSITORY) == files_of("1")
    assert "The token of the Hub is taken from Prefect's Secret block 'hf-token'." in said
    assert "HF_TOKEN" not in os.environ
    lines = "\n".join([*said, caplog.text, logged(), *capfd.readouterr()])
    assert "is as it was" in lines, "a log that holds nothing shows nothing"
    for token in (TOKEN, READ_TOKEN):
        assert token not in lines
        assert on_disk(token) == []


def test_the_token_of_the_environment_stands_before_the_block(releases, monkeypatch: pytest.MonkeyPatch) -> None:
    keep("hf_of_the_block")
    said: list[str] = []
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    with hub_token(said.append):
        assert os.environ["HF_TOKEN"] == "hf_of_the_environment"
    assert (os.environ["HF_TOKEN"], said) == ("hf_of_the_environment", [])
    monkeypatch.setenv("HF_TOKEN", "")
    with hub_token(said.append):
        assert os.environ["HF_TOKEN"] == "hf_of_the_block"
    assert os.environ["HF_TOKEN"] == ""
    forget()
    with hub_token(said.append):
        assert os.environ["HF_TOKEN"] == ""
    assert "hf_of" not in "".join(said)
