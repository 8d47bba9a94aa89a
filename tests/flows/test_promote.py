"""Promotion and rollback against a real registry and a real Prefect server; every end leaves what is true."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from components import claims, decisions, gates, processes, registry, tracking
from components.outcomes import Refused
from flows.launch import StageFailed
from flows.server import free_port
from tests.flows.conftest import RECIPE, Project
from tests.flows.versions import BETTER, SAME, WORSE, add_version, champion, set_recipe, version_of

REPOSITORY = f"hiraku/{RECIPE}"


@pytest.fixture
def promotion(flows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, in a project whose recipe publishes nothing; claims settle at once where nobody races."""
    from flows import promote

    set_recipe(publish=None)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", 0.0)
    for each in (promote.choose, promote.compare, promote.check_gates, promote.publish_approved, promote.move):
        monkeypatch.setattr(each, "retry_delay_seconds", [0.0, 0.0])
    return promote


def say_nothing(_line: str) -> None:
    pass


def yes(_question: str) -> Any:
    from flows.approval import Approval

    return Approval(approve=True, name="anna", note="listened to it")


def no(_question: str) -> Any:
    from flows.approval import Approval

    return Approval(approve=False, name="ben", note="too dull")


def never(question: str) -> Any:
    raise AssertionError(f"it asked: {question}")


def last(number: str) -> decisions.Decision:
    found = decisions.last(version_of(number))
    assert found is not None
    return found


def newest_flow_run(client):
    """The flow run that began last; one that a clock has planned has no beginning, and would come first."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    begun = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    (run,) = client.read_flow_runs(flow_run_filter=begun, limit=1, sort=FlowRunSort.START_TIME_DESC)
    return run


def everything_said() -> str:
    """What Prefect keeps of the newest flow run: the logs, and the words of its state and of its tasks'."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as client:
        run = newest_flow_run(client)
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
    lines = [each.message for each in logs] + [each.state.message or "" for each in (run, *tasks)]
    return "\n".join(lines)


def described(number: str) -> str:
    return str(tracking.client().get_model_version(RECIPE, number).description)


# ---- at the terminal -------------------------------------------------------------------------------------------------


def test_the_first_version_and_then_a_better_one_become_champion_and_their_tags_say_why(promotion, package) -> None:
    add_version(package, SAME, loads=False)
    said: list[str] = []
    assert promotion.promote(RECIPE, ask=yes, say=said.append) == "version 1 is the champion; before it was none"
    first = version_of("1")
    assert (champion(), last("1").outcome, last("1").verdict) == ("1", "promoted", "first")
    assert first.tags[decisions.PREVIOUS] == ""
    assert first.tags[decisions.PROMOTED_AT] == last("1").at
    assert any("loaded in a fresh process without a Hub" in line for line in said)
    assert promotion.promote(RECIPE, ask=never, say=say_nothing) == "version 1 is the champion already"

    add_version(package, BETTER)
    assert promotion.promote(RECIPE, ask=yes, say=said.append) == "version 2 is the champion; before it was 1"
    assert any("gain +0.1" in line and "n = 30" in line for line in said)
    assert champion() == "2"
    decision = last("2")
    assert (decision.outcome, decision.verdict, decision.champion) == ("promoted", "better", "1")
    assert (decision.by, decision.note) == ("anna", "listened to it")
    assert decision.reasons[0] == "beside version 1: better"
    assert version_of("2").tags[decisions.PREVIOUS] == "1"
    page = described("2")
    assert "**Promoted to champion**" in page
    assert "| smoke-held-out | bits/num_characters (lower is better) | 30 |" in page
    assert "10,000 resamples, seed 0" in page
    assert claims.read(RECIPE) is None


def test_a_worse_version_stays_challenger_without_anybody_being_asked_and_says_why(promotion, package) -> None:
    set_recipe(promote={"approval": False})
    add_version(package, SAME)
    promotion.promote(RECIPE, say=say_nothing)
    add_version(package, WORSE)
    with pytest.raises(Refused, match=r"not promoted: no task worse: smoke-held-out is worse by 0\.1"):
        promotion.promote(RECIPE, ask=never, say=say_nothing)
    assert (champion(), last("2").outcome, last("2").verdict) == ("1", "refused", "worse")
    assert "**Not promoted**" in described("2")
    set_recipe(promote={"approval": False, "tolerated_loss": {"smoke-held-out": 0.5}})
    promotion.promote(RECIPE, ask=never, say=say_nothing)
    assert champion() == "2"
    assert [each.outcome for each in decisions.earlier(version_of("2"))] == ["refused"]


def test_a_version_that_cannot_be_told_apart_passes_unless_the_recipe_wants_a_better_one(promotion, package) -> None:
    set_recipe(promote={"approval": False, "min_verdict": "better"})
    add_version(package, SAME)
    promotion.promote(RECIPE, say=say_nothing)
    add_version(package, SAME)
    with pytest.raises(Refused, match=r"no task improved beyond noise \(smoke-held-out has 30 items\)"):
        promotion.promote(RECIPE, say=say_nothing)
    set_recipe(promote={"approval": False})
    assert promotion.promote(RECIPE, say=say_nothing) == "version 2 is the champion; before it was 1"
    assert last("2").verdict == "cannot-tell"


def test_a_no_at_the_terminal_is_written_down_with_who_said_it(promotion, package) -> None:
    add_version(package, SAME)
    with pytest.raises(Refused, match="approval was not given"):
        promotion.promote(RECIPE, ask=no, say=say_nothing)
    assert (champion(), last("1").outcome, last("1").by, last("1").note) == (None, "refused", "ben", "too dull")


def test_without_a_terminal_to_ask_at_it_says_what_to_do(promotion, package) -> None:
    add_version(package, SAME)
    with pytest.raises(Refused, match="add --yes if you approve, or start the deployment 'promote'"):
        promotion.promote(RECIPE, say=say_nothing)
    assert (champion(), claims.read(RECIPE)) == (None, None)


def test_an_unknown_version_and_another_content_are_refused(promotion, package) -> None:
    with pytest.raises(Refused, match=f"The registry has no version of '{RECIPE}'. Run: hiraku release {RECIPE}"):
        promotion.promote(RECIPE, ask=yes, say=say_nothing)
    add_version(package, SAME)
    with pytest.raises(Refused, match=r"no version '7' of 'smoke-gpt2'; there are: 1\."):
        promotion.promote(RECIPE, "7", ask=yes, say=say_nothing)
    with pytest.raises(Refused, match="expected 0123456789ab: it is not what was looked at"):
        promotion.promote_flow(RECIPE, "1", "0123456789abcdef")
    assert champion() is None


def test_what_was_changed_between_approval_and_move_does_not_move(promotion, package, project: Project) -> None:
    add_version(package, SAME)

    def tampers(question: str) -> Any:
        place = next((project.folder / tracking.HOME / "artifacts").rglob("model/transformers/config.json"))
        place.write_text(place.read_text() + " ")
        return yes(question)

    with pytest.raises(Refused, match=r"somebody has changed it\. The champion has not moved"):
        promotion.promote(RECIPE, ask=tampers, say=say_nothing)
    assert (champion(), last("1").outcome, claims.read(RECIPE)) == (None, "refused", None)

    version = version_of("1")
    registry.tag_version(version, "content_hash", "f" * 64)
    registry.tag_version(version, promotion.PROOF, gates.proof_of_loading(version_of("1")))
    with pytest.raises(Refused, match="files and size: the registry holds files with the content"):
        promotion.promote(RECIPE, ask=never, say=say_nothing)


def test_of_two_promotions_at_once_one_is_refused_with_who_holds_it(promotion, package, monkeypatch) -> None:
    """The second one is of another machine, as far as the first can see: its process cannot be looked for."""
    add_version(package, SAME)
    mark = "elsewhere-1234/boot/ns/7@1"
    claims.write(RECIPE, claims.Claim("11111111-1111-1111-1111-111111111111", mark))
    with pytest.raises(
        Refused, match=rf"Flow run 1{{8}}-.* moves the champion.*process {mark}.*delete the tag 'claim'"
    ):
        promotion.promote(RECIPE, ask=yes, say=say_nothing)
    gone = processes.mark().rpartition("/")[0] + "/1@0"
    claims.write(RECIPE, claims.Claim("11111111-1111-1111-1111-111111111111", gone))
    promotion.promote(RECIPE, ask=yes, say=say_nothing)
    assert (champion(), claims.read(RECIPE)) == ("1", None)


def test_a_promotion_whose_claim_is_gone_or_anothers_does_not_move(promotion, package) -> None:
    add_version(package, SAME)

    def loses(question: str) -> Any:
        claims.release(RECIPE)
        return yes(question)

    with pytest.raises(Refused, match=f"Somebody took our claim on the champion of '{RECIPE}' away"):
        promotion.promote(RECIPE, ask=loses, say=say_nothing)
    assert champion() is None

    def another(question: str) -> Any:
        claims.write(RECIPE, claims.Claim("11111111-1111-1111-1111-111111111111", "elsewhere-1234/boot/ns/7@1"))
        return yes(question)

    with pytest.raises(Refused, match=r"Flow run 1{8}-.* moves the champion"):
        promotion.promote(RECIPE, ask=another, say=say_nothing)
    assert champion() is None
    assert claims.read(RECIPE).process == "elsewhere-1234/boot/ns/7@1"


def test_two_claims_written_at_the_same_moment_leave_one_holder(promotion, package, monkeypatch) -> None:
    add_version(package, SAME)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", 0.5)
    results: list[str] = []
    start = threading.Barrier(2)

    def claim(name: str) -> None:
        start.wait()
        try:
            with claims.taken(RECIPE, name, lambda _run: False, may_wait=True):
                results.append("held")
                threading.Event().wait(1.0)
        except Refused:
            results.append("refused")

    threads = [threading.Thread(target=claim, args=(name,)) for name in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(results) == ["held", "refused"]


def test_a_registry_that_cannot_be_reached_is_told_and_the_next_run_completes_the_promotion(
    promotion, package, monkeypatch
) -> None:
    add_version(package, SAME)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def dies(_question: str) -> Any:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{free_port()}")
        return yes(_question)

    with pytest.raises(StageFailed, match="does not answer as a registry should") as failure:
        promotion.promote(RECIPE, ask=dies, say=say_nothing)
    assert "secret" not in str(failure.value)
    said = everything_said()
    assert "does not answer as a registry should" in said
    assert "secret" not in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert champion() is None
    held = claims.read(RECIPE)
    assert held is not None  # it could not be taken away; its flow run has ended, so it holds nobody up
    assert promotion.promote(RECIPE, ask=yes, say=say_nothing).startswith("version 1 is the champion")


def test_a_run_that_died_after_the_alias_moved_is_made_up_for_by_the_next(promotion, package, monkeypatch) -> None:
    add_version(package, SAME)

    def dies(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            promotion.promote(RECIPE, ask=yes, say=say_nothing)
    assert (champion(), last("1").outcome) == ("1", "moving")
    promotion.promote(RECIPE, ask=never, say=say_nothing)
    assert (last("1").outcome, last("1").by) == ("promoted", "anna")
    assert version_of("1").tags[decisions.PROMOTED_AT]


# ---- a deployment: suspended for a person ----------------------------------------------------------------------------


@pytest.fixture
def deployed(promotion) -> Callable[..., UUID]:
    """Ask for runs of a deployment, as Prefect's pages do."""
    from prefect.client.orchestration import get_client

    def ask(**parameters: Any) -> UUID:
        with get_client(sync_client=True) as client:
            deployment = client.create_deployment(
                client.create_flow_from_name("promote"), name=RECIPE, entrypoint="flows.promote.promote_flow"
            )
            return client.create_flow_run_from_deployment(deployment, parameters={"recipe": RECIPE, **parameters}).id

    return ask


def run_here(promotion, flow_run: UUID) -> Any:
    """What a worker's process does with a run; returns its state."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(flow_run)
        with contextlib.suppress(Pause):
            run_flow(promotion.promote_flow, flow_run=found, parameters=found.parameters, return_type="state")
        return client.read_flow_run(flow_run).state


def answer(flow_run: UUID, **given: Any) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        response = client.resume_flow_run(flow_run, run_input=given)
    assert response.status.value == "ACCEPT", response


def test_a_run_waits_for_an_approval_given_through_prefect_and_then_moves_what_was_approved(
    promotion, package, deployed
) -> None:
    add_version(package, SAME)
    flow_run = deployed()
    state = run_here(promotion, flow_run)
    assert (state.type.value, state.name) == ("PAUSED", "Suspended")
    assert (champion(), last("1").outcome) == (None, "waiting")
    question = claims.read(RECIPE)
    assert (question.flow_run, question.process, question.version) == (str(flow_run), "", "1")
    # A newer challenger does not take the place of what is looked at.
    add_version(package, BETTER)
    other = run_here(promotion, deployed())
    assert other.type.value == "FAILED"
    assert f"Flow run {flow_run} asks whether version 1" in other.message
    answer(flow_run, approve=True, name="anna", note="fine")
    assert run_here(promotion, flow_run).type.value == "COMPLETED"
    assert (champion(), last("1").by, last("1").note) == ("1", "anna", "fine")
    assert claims.read(RECIPE) is None
    assert closers() == []


def closers() -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    with get_client(sync_client=True) as client:
        named = FlowRunFilter(name=FlowRunFilterName(like_="close the question"))
        return [run for run in client.read_flow_runs(flow_run_filter=named) if run.state.type.value == "SCHEDULED"]


def test_an_approval_that_is_refused_leaves_the_champion_and_says_who(promotion, package, deployed) -> None:
    add_version(package, SAME)
    flow_run = deployed()
    run_here(promotion, flow_run)
    answer(flow_run, approve=False, name="ben", note="not yet")
    state = run_here(promotion, flow_run)
    assert (state.type.value, state.name) == ("COMPLETED", "Kept")
    assert (champion(), last("1").outcome, last("1").by) == (None, "refused", "ben")
    assert claims.read(RECIPE) is None


def test_a_question_that_nobody_answers_is_closed_by_a_run_on_the_clock(promotion, package, deployed) -> None:
    set_recipe(promote={"approval_timeout_hours": 1 / 3600})
    add_version(package, SAME)
    flow_run = deployed()
    run_here(promotion, flow_run)
    (closer,) = closers()
    assert closer.parameters == {"recipe": RECIPE, "only_close": True}
    threading.Event().wait(1.2)
    assert run_here(promotion, closer.id).message == "a question was closed"
    state = state_of(flow_run)
    assert (state.type.value, state.name) == ("FAILED", "NoAnswer")
    assert "no answer in 0.000277778 hours" in state.message
    assert (champion(), last("1").outcome, claims.read(RECIPE)) == (None, "unanswered", None)


def test_an_answer_in_time_stands_however_late_a_worker_takes_it_up_and_one_to_a_closed_question_does_not(
    promotion, package, deployed
) -> None:
    add_version(package, SAME)
    flow_run, other = deployed(), deployed()
    run_here(promotion, flow_run)
    answer(flow_run, approve=True, name="anna")
    question = replace(claims.read(RECIPE), until=time.time() - 1)
    claims.write(RECIPE, question)
    closer = deployed(only_close=True)
    assert run_here(promotion, closer).message == "no question to close"
    assert f"Flow run {flow_run} has its answer on version 1" in run_here(promotion, other).message
    assert (claims.read(RECIPE), last("1").outcome) == (question, "waiting")
    claims.release(RECIPE)
    state = run_here(promotion, flow_run)
    assert state.type.value == "FAILED"
    assert "The question of this flow run was closed before its answer was taken up" in state.message
    assert (champion(), last("1").outcome) == (None, "failed")


def test_a_question_whose_run_was_cancelled_holds_nobody_up(promotion, package, deployed) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    add_version(package, SAME)
    flow_run = deployed()
    run_here(promotion, flow_run)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Cancelled(), force=True)
    said: list[str] = []
    promotion.promote(RECIPE, ask=yes, say=said.append)
    assert any(f"its flow run {flow_run} was ended; the champion stays" in line for line in said)
    assert (champion(), last("1").outcome) == ("1", "promoted")
    assert [each.outcome for each in decisions.earlier(version_of("1"))] == ["unanswered"]


def state_of(flow_run: UUID) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run).state


def test_what_was_approved_does_not_move_if_the_version_or_the_champion_has_changed_meanwhile(
    promotion, package, deployed
) -> None:
    add_version(package, SAME)
    flow_run = deployed()
    run_here(promotion, flow_run)
    registry.tag_version(version_of("1"), "content_hash", "f" * 64)
    answer(flow_run, approve=True, name="anna")
    state = run_here(promotion, flow_run)
    assert state.type.value == "FAILED"
    assert "it is not what was looked at" in state.message
    assert (champion(), claims.read(RECIPE)) == (None, None)
    assert last("1").outcome == "failed"
    assert "**Not made the champion: the attempt failed**" in described("1")
    assert "it is not what was looked at" in last("1").reasons[0]

    registry.tag_version(version_of("1"), "content_hash", str(claims_hash()))
    flow_run = deployed()
    run_here(promotion, flow_run)
    registry.set_alias(RECIPE, registry.CHAMPION, add_version(package, SAME).version)
    answer(flow_run, approve=True, name="anna")
    state = run_here(promotion, flow_run)
    assert (state.name, champion()) == ("Kept", "2")
    assert "the champion is version 2 now, and was none when it was asked" in last("1").reasons[0]


def claims_hash() -> str:
    from components.manifest import MANIFEST_NAME, tree_hash

    with registry.fetched(version_of("1")) as folder:
        return tree_hash(folder, without=MANIFEST_NAME)
