from datetime import timedelta

import pytest
from millrace.errors import ApprovalNotFoundError, ConflictError, ServiceUnavailableError, UnfitVersionError
from millrace.registry.approvals import ModelBucket, decide_approval, expire_approval, request_approval
from millrace.registry.promotion import promote
from millrace.registry.queries import describe_approval
from millrace.registry.release_changes import find_active_release
from millrace.spec import ModelSpec

from tests.fakes.memory_people import MemoryCallback, MemoryNotifier
from tests.registered_versions import RegisteredVersions, acting
from tests.registry_builders import MODEL, later

HOUR = 3_600
BUCKET = ModelBucket("models-bucket", "eu-west-1")


class Waiting(RegisteredVersions):
    """Version 1 is the champion; version 2 passed the gate and waits for a person since minute 30, for an hour."""

    def __init__(self):
        super().__init__(1)
        self.point("champion", 1)
        self.callback, self.notifier = MemoryCallback(), MemoryNotifier()
        self.run_id = self.first_run_id
        self.register(2, outcome="awaiting_approval", run_id=self.run_id)
        self.point("challenger", 2, minutes=20)
        self.registry.update_run(
            MODEL, self.run_id, version=2, status="running", stage="awaiting_approval", reasons=("better",)
        )
        self.ask("t1")

    def ask(self, token, minutes=30):
        self.callback.waiting.add(token)
        return request_approval(
            MODEL,
            self.run_id,
            token,
            HOUR,
            registry=self.registry,
            callback=self.callback,
            notifier=self.notifier,
            bucket=BUCKET,
            now=later(minutes),
        )

    def answer(self, decision, minutes=40, actor="ann", **options):
        return decide_approval(
            MODEL,
            self.run_id,
            decision,
            acting(minutes, "the card says so", actor),
            registry=self.registry,
            model_store=self.models,
            callback=self.callback,
            **options,
        )

    @property
    def run(self):
        return self.registry.get_run(MODEL, self.run_id)


@pytest.fixture
def world():
    return Waiting()


def test_people_are_told_what_is_asked_and_how_to_answer(world):
    ((subject, message),) = world.notifier.messages
    assert subject == "Millrace: approve churn version 2?"
    for words in (
        "- better",
        "roc_auc 0.91",
        f"millrace approve churn {world.run_id}",
        f"millrace reject churn {world.run_id}",
        "2026-05-03 15:45 UTC",
        "s3://models-bucket/churn/versions/2/card.html",
        "console.aws.amazon.com/s3/object/models-bucket?prefix=churn%2Fversions%2F2%2Fcard.html&region=eu-west-1",
    ):
        assert words in message
    assert "t1" not in message


def test_the_token_is_never_shown(world):
    shown = describe_approval(MODEL, world.run_id, world.registry)
    assert (shown["status"], shown["version"]) == ("pending", 2)
    assert "task_token" not in shown
    assert "t1" not in str(world.registry.list_ledger(MODEL))
    assert "t1" not in str(world.registry.list_unpublished())


def test_approved_it_is_the_champion_and_the_pipeline_goes_on(world):
    answer = world.answer("approve")
    assert (answer.outcome, answer.version, answer.decided_by) == ("approved", 2, "ann")
    assert world.aliases == {"champion": 2}
    assert world.callback.answers == [("t1", "approved")]
    assert (world.run.status, world.run.stage, world.run.summary["promoted"]) == ("succeeded", "finished", True)
    assert world.run.summary["outcome"] == "promoted: approved by ann: the card says so"
    entry = world.registry.list_ledger(MODEL)[0]
    assert (entry.action, entry.actor, entry.reason) == ("model_promoted", "ann", "the card says so")
    assert (entry.details["from_version"], entry.details["to_version"]) == (1, 2)
    assert world.registry.get_version(MODEL, 2).outcome == "promoted"


def test_rejected_it_is_no_challenger_and_the_run_says_who_and_why(world):
    assert world.answer("reject").outcome == "rejected"
    assert world.aliases == {"champion": 1}
    assert world.callback.answers == [("t1", "rejected")]
    assert (world.run.status, world.run.reasons[0]) == ("rejected", "rejected by ann: the card says so")
    assert world.registry.get_version(MODEL, 2).outcome == "rejected"
    assert world.actions[0] == "approval_rejected"


def test_unanswered_it_stays_challenger_visibly(world):
    assert expire_approval(MODEL, world.run_id, registry=world.registry, now=later(90)).status == "expired"
    assert world.aliases == {"champion": 1, "challenger": 2}
    assert (world.run.status, world.run.summary["outcome"]) == ("succeeded", "kept as challenger: approval expired")
    assert world.actions[0] == "approval_expired"
    assert "approval_expired" in [entry.action for entry in world.registry.list_unpublished()]
    again = expire_approval(MODEL, world.run_id, registry=world.registry, now=later(91))
    assert again.decided_at == later(90)
    assert world.actions.count("approval_expired") == 1


def test_an_answer_after_the_time_is_refused_and_ends_the_wait(world):
    with pytest.raises(ConflictError, match="decided before: expired"):
        world.answer("approve", minutes=90)
    assert world.aliases == {"champion": 1, "challenger": 2}
    assert world.run.status == "succeeded"
    assert world.callback.answers == [("t1", "expired")]


def test_an_answer_in_the_last_moment_stands(world):
    world.answer("approve", minutes=89)
    assert expire_approval(MODEL, world.run_id, registry=world.registry, now=later(90)).status == "approved"
    assert world.aliases == {"champion": 2}


@pytest.mark.parametrize(("first", "second"), [("approve", "reject"), ("reject", "approve")])
def test_another_answer_is_refused_clearly(world, first, second):
    world.answer(first)
    aliases = world.aliases
    with pytest.raises(ConflictError, match=r"was decided before: (approved|rejected) by ann"):
        world.answer(second, actor="bob")
    assert world.aliases == aliases


def test_the_same_answer_twice_is_one_entry_and_says_whose_it_was(world):
    world.answer("approve")
    again = world.answer("approve", minutes=41, actor="bob")
    assert (again.outcome, again.decided_by, again.decided_at) == ("already", "ann", later(40))
    assert world.actions.count("model_promoted") == 1


def test_what_an_answer_did_not_live_to_finish_the_same_answer_finishes(world, monkeypatch):
    def die(*_, **__):
        raise ServiceUnavailableError("DynamoDB is busy")

    with monkeypatch.context() as patched:
        patched.setattr(world.registry, "update_run", die)
        with pytest.raises(ServiceUnavailableError):
            world.answer("approve")
    assert world.aliases == {"champion": 2}
    assert world.callback.answers == []
    assert world.answer("approve", minutes=41).outcome == "already"
    assert world.run.status == "succeeded"
    assert world.callback.answers == [("t1", "approved")]


def test_a_step_that_the_pipeline_repeats_is_answered_with_its_new_token(world):
    world.ask("t2", minutes=31)
    assert len(world.notifier.messages) == 2
    assert world.actions.count("approval_requested") == 1
    assert describe_approval(MODEL, world.run_id, world.registry)["requested_at"] == later(30).isoformat()
    world.answer("approve")
    assert world.callback.answers == [("t2", "approved")]


def test_a_question_that_was_answered_is_not_asked_again(world):
    world.answer("reject")
    world.ask("t2", minutes=50)
    assert world.callback.answers == [("t1", "rejected"), ("t2", "rejected")]
    assert len(world.notifier.messages) == 1


@pytest.mark.parametrize("seen", [None, 3])
def test_a_champion_that_the_gate_did_not_compare_with_is_replaced_only_knowingly(world, seen):
    world.register(3)
    world.point("champion", 3, minutes=35)
    if seen is None:
        with pytest.raises(ConflictError, match="now version 3, not version 1"):
            world.answer("approve")
        assert world.aliases == {"champion": 3, "challenger": 2}
        assert world.run.stage == "awaiting_approval"
    else:
        assert world.answer("approve", expected_champion=seen).outcome == "approved"
        assert world.aliases == {"champion": 2}


def test_a_damaged_version_is_not_approved_and_can_be_rejected(world):
    world.damage(2)
    with pytest.raises(UnfitVersionError):
        world.answer("approve")
    assert world.run.stage == "awaiting_approval"
    assert world.answer("reject").outcome == "rejected"


def test_nobody_was_asked_about_another_run(world):
    with pytest.raises(ApprovalNotFoundError):
        expire_approval(MODEL, "20260503T141500-ffffffffffff", registry=world.registry, now=later(1))


def test_an_alias_that_moves_beside_an_answer_does_not_lose_it(world, monkeypatch):
    perform = world.registry.commit

    def others_first(act):
        monkeypatch.setattr(world.registry, "commit", perform)
        world.point("candidate", 1)
        perform(act)

    monkeypatch.setattr(world.registry, "commit", others_first)
    assert world.answer("approve").outcome == "approved"
    assert world.aliases == {"champion": 2, "candidate": 1}


def test_two_people_who_answer_at_once_get_one_answer(world, monkeypatch):
    perform = world.registry.commit

    def others_first(act):
        monkeypatch.setattr(world.registry, "commit", perform)
        world.answer("reject", actor="bob")
        perform(act)

    monkeypatch.setattr(world.registry, "commit", others_first)
    with pytest.raises(ConflictError):
        world.answer("approve")
    assert world.aliases == {"champion": 1}
    assert world.run.status == "rejected"


def test_a_first_version_may_wait_too():
    world = RegisteredVersions(0)
    run_id = world.first_run_id
    world.register(1, outcome="awaiting_approval", run_id=run_id)
    world.point("challenger", 1)
    world.registry.update_run(MODEL, run_id, version=1)
    people = MemoryNotifier()
    pieces = {"registry": world.registry, "callback": MemoryCallback()}
    asked = request_approval(MODEL, run_id, "t1", HOUR, notifier=people, bucket=BUCKET, now=later(1), **pieces)
    assert asked.expires_at - asked.requested_at == timedelta(hours=1)
    decide_approval(MODEL, run_id, "approve", acting(), model_store=world.models, **pieces)
    assert world.aliases == {"champion": 1}


def test_an_approved_version_begins_the_release_that_the_spec_says(world):
    world.registry.put_spec(MODEL, ModelSpec.parse({"approval": "manual", "release": "canary"}))
    assert world.answer("approve").outcome == "approved"
    state = world.registry.get_state(MODEL)
    release = find_active_release(state, world.registry)
    assert (release.candidate, release.started_by, release.run_id) == (2, "ann", world.run_id)
    assert state.aliases == {"champion": 1, "challenger": 2}
    assert world.registry.get_version(MODEL, 2).outcome == "kept"
    assert (world.run.status, world.run.summary["promoted"]) == ("succeeded", False)
    assert "kept as challenger for a release: approved by ann" in world.run.summary["outcome"]
    assert world.actions[0] == "release_started"
    assert world.answer("approve").outcome == "already"
    promote(MODEL, 2, acting(60), registry=world.registry, model_store=world.models)
    assert world.aliases == {"champion": 2}
