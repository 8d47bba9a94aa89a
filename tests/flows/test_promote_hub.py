"""Promotion to a Hub and back: registry and Hub hold the same version, or the next command makes that good."""

from collections.abc import Iterator
from typing import Any

import pytest

from components import chosen, claims, decisions, registry
from components import publish as publish_module
from components.outcomes import Refused
from flows.launch import StageFailed
from flows.server import free_port
from tests.flows.conftest import RECIPE
from tests.flows.hub_server import READ_TOKEN, TOKEN, serving
from tests.flows.hub_store import Hub
from tests.flows.publishing.releases import gap_here
from tests.flows.test_promote import last, never, no, promotion, say_nothing
from tests.flows.versions import BETTER, SAME, add_version, champion, set_recipe, version_of

__all__ = ["promotion"]  # fixtures
REPOSITORY = f"hiraku/{RECIPE}"

# ---- on the Hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(promotion, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Hub, and a recipe that is published there; packages are loaded back in this process."""
    from huggingface_hub import constants

    from flows import rollback

    for each in (rollback.choose, rollback.restore_published, rollback.go_back):
        monkeypatch.setattr(each, "retry_delay_seconds", [0.0, 0.0])
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(chosen, "gap_between", gap_here)
    set_recipe(publish={"repository": REPOSITORY}, promote={"approval": False})
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def first(promotion, package, published) -> bytes:
    """The card of a champion on the Hub, beside which a better version waits."""
    add_version(package, SAME)
    promotion.promote(RECIPE, say=say_nothing)
    card = card_on(published)
    add_version(package, BETTER)
    return card


def test_without_a_token_that_may_write_nobody_is_asked(promotion, package, published, monkeypatch) -> None:
    set_recipe(promote={"approval": True})
    add_version(package, SAME)
    for token, reason in (
        ("", f"there is no token to publish to {REPOSITORY}"),
        ("hf_wrong", "The Hub does not know the token"),
        (READ_TOKEN, f"it may only read. Set HF_TOKEN .* to one that may write to {REPOSITORY}"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(Refused, match=f"token of the Hub: .*{reason}") as refusal:
            promotion.promote(RECIPE, ask=never, say=say_nothing)
        assert not token or token not in str(refusal.value)
    assert (champion(), published.repositories) == (None, {})


def test_a_champion_is_published_first_and_taken_back_there_and_here_and_again_changes_nothing(
    promotion, published, first, monkeypatch
) -> None:
    from flows import rollback

    asked: list[str] = []
    fetching = registry.fetched
    with monkeypatch.context() as patch:
        patch.setattr(registry, "fetched", lambda version: asked.append(version.version) or fetching(version))
        promotion.promote(RECIPE, say=say_nothing)
    assert asked == ["2", "2"], "gigabytes come once for the gates and once to be published"
    assert card_on(published) != first
    assert (champion(), last("2").left_at) == ("2", "")
    # The Hub goes away in the middle: neither has moved, and the same again goes on.
    with monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(StageFailed, match="so the champion has not moved"):
            rollback.rollback(RECIPE, say=say_nothing)
    assert (champion(), last("1").outcome, last("2").outcome) == ("2", "failed", "promoted")
    done = rollback.rollback(RECIPE, say=say_nothing)
    assert done == "version 1 is the champion again; before it was 2"
    assert (champion(), card_on(published)) == ("1", first)
    assert (last("1").outcome, last("2").outcome) == ("restored", "replaced")
    calls = len(published.calls)
    assert rollback.rollback(RECIPE, say=say_nothing) == "version 1 is the champion already"
    assert not [call for call in published.calls[calls:] if "/commit/" in call]
    assert (champion(), last("1").outcome) == ("1", "restored")
    with pytest.raises(Refused, match="Version 2 of 'smoke-gpt2' was taken back by a rollback"):
        promotion.promote(RECIPE, say=say_nothing)


def test_a_version_that_a_silent_registry_leaves_on_the_hub_is_told_and_taken_back(
    promotion, published, first, monkeypatch
) -> None:
    from flows import rollback

    sending = promotion.publish

    def sends_last_words(*words: Any, **keys: Any) -> None:
        sending(*words, **keys)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{free_port()}")

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "publish", sends_last_words)
        told = f"does not answer.* while {REPOSITORY} has version 2 .* already.*rollback {RECIPE} to take it back there"
        with pytest.raises(StageFailed, match=told) as failure:
            promotion.promote(RECIPE, say=say_nothing)
    assert "secret" not in str(failure.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    second = card_on(published)
    assert (champion(), last("2").outcome, last("2").left_at) == ("1", "moving", REPOSITORY)
    assert second != first
    assert rollback.rollback(RECIPE, say=say_nothing) == "version 1 is the champion already"
    assert (card_on(published), last("2").left_at) == (first, "")

    # Left there again, and then refused by whoever is asked.
    set_recipe(promote={"approval": True})
    publish_module.publish(RECIPE, say_nothing, "2", unapproved=True)
    decisions.record(version_of("2"), decisions.Decision("moving", [], left_at=REPOSITORY))
    assert card_on(published) == second
    with pytest.raises(Refused, match="approval was not given"):
        promotion.promote(RECIPE, ask=no, say=say_nothing)
    assert (card_on(published), last("2").outcome, last("2").left_at) == (first, "refused", "")


def card_on(hub: Hub) -> bytes:
    return hub.files(REPOSITORY)["README.md"]


# ---- going back ------------------------------------------------------------------------------------------------------


def test_a_rollback_goes_only_to_what_was_champion_and_one_that_died_is_completed(
    promotion, package, monkeypatch
) -> None:
    from flows import rollback

    set_recipe(promote={"approval": False}, publish=None)
    add_version(package, SAME)
    with pytest.raises(Refused, match="has no champion"):
        rollback.rollback(RECIPE, say=say_nothing)
    promotion.promote(RECIPE, say=say_nothing)
    with pytest.raises(Refused, match="is its first champion"):
        rollback.rollback(RECIPE, say=say_nothing)
    add_version(package, BETTER)
    with pytest.raises(Refused, match=r"Version 2 of 'smoke-gpt2' was never the champion, expected one of 1"):
        rollback.rollback(RECIPE, "2", say=say_nothing)
    promotion.promote(RECIPE, say=say_nothing)

    def dies(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    setting = registry.set_alias
    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", dies)
        with pytest.raises(KeyboardInterrupt):
            rollback.rollback(RECIPE, say=say_nothing)
        assert (champion(), last("1").outcome, last("2").outcome) == ("2", "moving", "replaced")
        patch.setattr(registry, "set_alias", lambda *words: (setting(*words), dies()))
        with pytest.raises(KeyboardInterrupt):
            rollback.rollback(RECIPE, say=say_nothing)
    assert (champion(), last("1").outcome, last("2").outcome) == ("1", "moving", "replaced")
    # Until it is completed, no promotion takes it for its own or undoes it.
    with pytest.raises(Refused, match="Version 2 of 'smoke-gpt2' was taken back by a rollback"):
        promotion.promote(RECIPE, say=say_nothing)
    said: list[str] = []
    assert promotion.promote(RECIPE, "1", say=said.append) == "version 1 is the champion already"
    assert any(f"run: hiraku rollback {RECIPE}" in line for line in said)
    assert (last("1").outcome, last("1").verdict) == ("moving", "rollback")
    rollback.rollback(RECIPE, say=say_nothing)
    assert (champion(), last("1").outcome, last("2").outcome) == ("1", "restored", "replaced")
    assert claims.read(RECIPE) is None
