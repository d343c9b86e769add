"""One behaviour, two registries: the one in memory that unit tests use, and the one on DynamoDB."""

from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from millrace.entities import Cause, KeyScope, ModelState, Run, SpecRecord
from millrace.errors import (
    AliasConflictError,
    ApprovalNotFoundError,
    CauseNotFoundError,
    ConflictError,
    DatasetNotFoundError,
    ModelDeletedError,
    ModelNotFoundError,
    RunNotFoundError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.registry.claims import MAX_FOLLOW_UP_CAUSES, Claim
from millrace.registry.store import Registry
from millrace.registry.transactions import (
    AssignOutcome,
    DecideApproval,
    DeleteModel,
    MoveAlias,
    RegistryTransaction,
    RetireVersion,
)
from millrace.spec import ModelSpec
from millrace.spec.training import GateSpec

from tests.registry_builders import (
    MODEL,
    NOW,
    later,
    make_approval,
    make_cause,
    make_dataset,
    make_entry,
    make_run,
    make_transaction,
    make_trial,
    make_version,
    point_alias,
)


def claim(registry: Registry, cause: Cause, minutes: float = 0) -> Claim:
    entry = make_entry(cause.cause_id, cause.model, later(minutes), cause_id=cause.cause_id)
    return registry.claim_cause(cause, make_run(cause), entry)


def start(registry: Registry, model: str = MODEL) -> Run:
    """Make ``model`` exist, with an active run."""
    cause = make_cause("first.csv", model)
    assert claim(registry, cause).outcome == "started"
    return registry.get_run(model, make_run(cause).run_id)


class TestModels:
    def test_an_unknown_model_is_not_found(self, registry):
        with pytest.raises(ModelNotFoundError, match="churn"):
            registry.get_state(MODEL)

    def test_a_new_model_stands_at_zero(self, registry):
        run = start(registry)
        state = registry.get_state(MODEL)
        assert (state.revision, state.latest_version, state.schema_version, state.pending_causes) == (0, 0, 0, 0)
        assert state.aliases == {}
        assert state.active_run_id == run.run_id
        assert state.created_at == NOW

    def test_models_are_listed_by_name(self, registry):
        assert registry.list_models() == []
        for model in ("zebra", "ant", "Bee"):
            start(registry, model)
        assert [state.model for state in registry.list_models()] == ["Bee", "ant", "zebra"]

    def test_without_a_spec_there_is_the_default_one(self, registry):
        assert registry.get_spec(MODEL) == ModelSpec()

    def test_a_spec_comes_back_as_it_was_put_and_creates_its_model(self, registry):
        spec = ModelSpec(target="churned", candidates=("logistic_regression",), gate=GateSpec(floors={"roc_auc": 0.7}))
        assert registry.put_spec(MODEL, spec, make_entry("spec-1")) == 1
        assert registry.get_spec(MODEL) == spec
        assert registry.get_spec_record(MODEL) == SpecRecord(MODEL, spec, 1, NOW, "tester")
        assert registry.list_models() == [ModelState(MODEL, created_at=NOW)]
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["spec-1"]

    def test_a_model_made_by_its_spec_trains_like_any_other(self, registry):
        registry.put_spec(MODEL, ModelSpec(target="churned"), make_entry("spec-1", at=later(-5)))
        run = start(registry)
        state = registry.get_state(MODEL)
        assert (state.active_run_id, state.created_at) == (run.run_id, later(-5))
        assert [state.model for state in registry.list_models()] == [MODEL]
        registry.set_schema_version(MODEL, 1)
        assert registry.next_version(MODEL) == 1

    def test_a_spec_of_a_model_that_trains_leaves_its_state_alone(self, registry):
        run = start(registry)
        before = registry.get_state(MODEL)
        assert registry.put_spec(MODEL, ModelSpec(seed=1), make_entry("spec-1")) == 1
        assert registry.get_state(MODEL) == before
        assert before.active_run_id == run.run_id

    def test_whoever_changes_a_spec_says_which_one_he_read(self, registry):
        assert registry.get_spec_record(MODEL).revision == 0
        assert registry.put_spec(MODEL, ModelSpec(seed=1), make_entry("spec-1"), expected_revision=0) == 1
        for stale in (0, 2):
            with pytest.raises(ConflictError, match="revision 1"):
                registry.put_spec(MODEL, ModelSpec(seed=2), make_entry("spec-2"), expected_revision=stale)
        assert registry.get_spec(MODEL).seed == 1
        assert registry.put_spec(MODEL, ModelSpec(seed=3), make_entry("spec-3"), expected_revision=1) == 2
        assert registry.put_spec(MODEL, ModelSpec(seed=4)) == 3
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["spec-3", "spec-1"]
        record = registry.get_spec_record(MODEL)
        assert (record.spec.seed, record.revision, record.changed_by) == (4, 3, "tester")

    def test_schema_versions_follow_each_other(self, registry):
        start(registry)
        registry.set_schema_version(MODEL, 1)
        registry.set_schema_version(MODEL, 2)
        assert registry.get_state(MODEL).schema_version == 2
        for wrong in (2, 4):
            with pytest.raises(ConflictError):
                registry.set_schema_version(MODEL, wrong)
        assert registry.get_state(MODEL).schema_version == 2

    def test_an_unknown_model_has_no_schema_version(self, registry):
        with pytest.raises(ModelNotFoundError):
            registry.set_schema_version(MODEL, 1)


class TestClaiming:
    def test_of_many_claims_of_one_cause_one_starts_its_run(self, registry):
        cause = make_cause()
        run_id = make_run(cause).run_id
        claims = [claim(registry, cause) for _ in range(5)]
        assert claims == [Claim("started", run_id)] + [Claim("duplicate", run_id)] * 4
        assert registry.list_runs(MODEL) == [make_run(cause)]
        assert [entry.action for entry in registry.list_ledger(MODEL)] == ["run_requested"]

    def test_a_claimed_cause_is_remembered_whole(self, registry):
        cause = make_cause()
        claim(registry, cause)
        record = registry.get_cause(MODEL, cause.cause_id)
        assert record.cause == cause
        assert (record.status, record.run_id) == ("started", make_run(cause).run_id)

    def test_the_ledger_says_which_run_started(self, registry):
        cause = make_cause()
        claim(registry, cause)
        (entry,) = registry.list_ledger(MODEL)
        assert entry.details == {"cause_id": cause.cause_id, "run_id": make_run(cause).run_id}
        assert entry.reason == f"because of {cause.cause_id}"

    def test_while_a_run_is_active_a_cause_waits(self, registry):
        run = start(registry)
        cause = make_cause("second.csv")
        assert claim(registry, cause) == Claim("deferred", None)
        assert claim(registry, cause) == Claim("duplicate", None)
        assert registry.get_cause(MODEL, cause.cause_id).status == "pending"
        state = registry.get_state(MODEL)
        assert (state.active_run_id, state.pending_causes) == (run.run_id, 1)
        assert registry.list_runs(MODEL) == [run]
        deferred = next(entry for entry in registry.list_ledger(MODEL) if entry.action == "trigger_deferred")
        assert deferred.details == {"cause_id": cause.cause_id, "waits_for": run.run_id}

    def test_models_do_not_wait_for_each_other(self, registry):
        start(registry, "churn")
        assert claim(registry, make_cause("b.csv", "iris")).outcome == "started"

    def test_a_skipped_cause_is_recorded_once_with_the_reason(self, registry):
        cause = make_cause("weekly", kind="schedule")
        assert registry.skip_cause(cause, make_entry("s"))
        assert not registry.skip_cause(cause, make_entry("again"))
        assert claim(registry, cause) == Claim("duplicate", None)
        record = registry.get_cause(MODEL, cause.cause_id)
        assert (record.status, record.reason) == ("skipped", "because of s")
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["s"]

    def test_skipping_does_not_make_a_model(self, registry):
        registry.skip_cause(make_cause("weekly", kind="schedule"), make_entry("s"))
        assert registry.list_models() == []

    def test_a_claimed_cause_cannot_be_skipped_any_more(self, registry):
        cause = make_cause()
        claim(registry, cause)
        assert not registry.skip_cause(cause, make_entry("s"))
        assert registry.get_cause(MODEL, cause.cause_id).status == "started"

    def test_an_unknown_cause_is_not_found(self, registry):
        with pytest.raises(CauseNotFoundError):
            registry.get_cause(MODEL, "0" * 32)

    def test_any_number_may_wait_and_the_oldest_come_first(self, registry):
        start(registry)
        causes = [make_cause(f"{number}.csv") for number in range(MAX_FOLLOW_UP_CAUSES + 5)]
        for minute, cause in enumerate(reversed(causes), start=1):
            assert claim(registry, cause, minute).outcome == "deferred"
        assert registry.get_state(MODEL).pending_causes == len(causes)
        waiting = [record.cause for record in registry.list_pending_causes(MODEL)]
        assert waiting == list(reversed(causes))[:MAX_FOLLOW_UP_CAUSES]
        assert [record.cause for record in registry.list_pending_causes(MODEL, limit=2)] == [causes[-1], causes[-2]]
        assert registry.list_pending_causes(MODEL, limit=0) == []

    def test_a_finding_that_a_young_run_answers_is_recorded_and_does_not_wait(self, registry):
        run = start(registry)
        finding = make_cause("incident-1", kind="drift")
        entry = make_entry(finding.cause_id, at=later(3), cause_id=finding.cause_id)
        answered = registry.claim_cause(finding, make_run(finding), entry, covered_since=later(-10))
        assert answered == Claim("answered", run.run_id)
        record = registry.get_cause(MODEL, finding.cause_id)
        assert (record.status, record.run_id) == ("skipped", run.run_id)
        (newest, _) = registry.list_ledger(MODEL)
        assert (newest.action, newest.details["answered_by"]) == ("trigger_skipped", run.run_id)
        assert registry.get_state(MODEL).pending_causes == 0
        assert registry.claim_cause(finding, make_run(finding), entry) == Claim("duplicate", run.run_id)

    def test_an_older_run_does_not_answer_a_finding_which_waits(self, registry):
        start(registry)
        finding = make_cause("incident-1", kind="drift")
        entry = make_entry(finding.cause_id, at=later(30))
        assert registry.claim_cause(finding, make_run(finding), entry, covered_since=later(1)).outcome == "deferred"
        assert registry.get_state(MODEL).pending_causes == 1


class TestReleasing:
    def test_without_waiting_causes_the_turn_ends(self, registry):
        run = start(registry)
        assert registry.release_run(MODEL, run.run_id, None, None)
        assert registry.get_state(MODEL).active_run_id is None
        assert claim(registry, make_cause("next.csv")).outcome == "started"

    def test_a_run_gives_up_its_turn_once(self, registry):
        run = start(registry)
        assert registry.release_run(MODEL, run.run_id, None, None)
        assert not registry.release_run(MODEL, run.run_id, None, make_entry("again"))
        assert "again" not in [entry.entry_id for entry in registry.list_ledger(MODEL)]

    def test_only_the_active_run_can_give_up_its_turn(self, registry):
        run = start(registry)
        assert not registry.release_run(MODEL, "20260503T141500-ffffffffffff", None, None)
        assert not registry.release_run("nobody", run.run_id, None, None)
        assert registry.get_state(MODEL).active_run_id == run.run_id

    def test_a_waiting_cause_is_never_left_behind(self, registry):
        run = start(registry)
        claim(registry, make_cause("second.csv"))
        assert not registry.release_run(MODEL, run.run_id, None, None)
        assert registry.get_state(MODEL).active_run_id == run.run_id

    def test_the_follow_up_takes_what_waited(self, registry):
        run = start(registry)
        causes = [make_cause("2.csv"), make_cause("3.csv")]
        for minute, cause in enumerate(causes, start=1):
            claim(registry, cause, minute)
        follow_up = make_run(*causes, at=later(9))
        assert registry.release_run(MODEL, run.run_id, follow_up, make_entry("follow", at=later(9)))
        state = registry.get_state(MODEL)
        assert (state.active_run_id, state.pending_causes) == (follow_up.run_id, 0)
        assert registry.list_pending_causes(MODEL) == []
        assert registry.get_run(MODEL, follow_up.run_id) == follow_up
        for cause in causes:
            record = registry.get_cause(MODEL, cause.cause_id)
            assert (record.status, record.run_id) == ("started", follow_up.run_id)
            assert claim(registry, cause) == Claim("duplicate", follow_up.run_id)
        assert registry.list_ledger(MODEL)[0].entry_id == "follow"
        assert registry.release_run(MODEL, follow_up.run_id, None, None)

    def test_what_the_follow_up_does_not_take_goes_on_waiting(self, registry):
        run = start(registry)
        first, second = make_cause("2.csv"), make_cause("3.csv")
        claim(registry, first, 1)
        claim(registry, second, 2)
        assert registry.release_run(MODEL, run.run_id, make_run(first), None)
        assert registry.get_state(MODEL).pending_causes == 1
        assert [record.cause for record in registry.list_pending_causes(MODEL)] == [second]

    def test_a_full_follow_up_fits_one_transaction(self, registry):
        run = start(registry)
        causes = [make_cause(f"{number}.csv") for number in range(MAX_FOLLOW_UP_CAUSES)]
        for minute, cause in enumerate(causes, start=1):
            claim(registry, cause, minute)
        assert registry.release_run(MODEL, run.run_id, make_run(*causes), make_entry("follow"))
        assert registry.get_state(MODEL).pending_causes == 0

    def test_a_follow_up_of_a_cause_that_does_not_wait_changes_nothing(self, registry):
        run = start(registry)
        waiting, stranger = make_cause("2.csv"), make_cause("3.csv")
        claim(registry, waiting, 1)
        follow_up = make_run(waiting, stranger)
        assert not registry.release_run(MODEL, run.run_id, follow_up, make_entry("follow"))
        assert registry.get_state(MODEL).active_run_id == run.run_id
        assert registry.get_cause(MODEL, waiting.cause_id).status == "pending"
        with pytest.raises(RunNotFoundError):
            registry.get_run(MODEL, follow_up.run_id)


class TestRuns:
    def test_an_unknown_run_is_not_found(self, registry):
        with pytest.raises(RunNotFoundError):
            registry.get_run(MODEL, "20260503T141500-0f3a9c2b7d1e")
        with pytest.raises(RunNotFoundError):
            registry.update_run(MODEL, "20260503T141500-0f3a9c2b7d1e", status="failed")

    def test_runs_are_listed_newest_first(self, registry):
        run_ids = []
        for minute in (0, 1, 2):
            cause = make_cause(f"{minute}.csv", at=later(minute))
            claim(registry, cause, minute)
            run_ids.append(make_run(cause).run_id)
            registry.release_run(MODEL, run_ids[-1], None, None)
        assert [run.run_id for run in registry.list_runs(MODEL)] == run_ids[::-1]
        assert [run.run_id for run in registry.list_runs(MODEL, limit=2)] == run_ids[:0:-1]

    def test_fields_change_one_by_one_and_keep_their_types(self, registry):
        run = start(registry)
        registry.update_run(MODEL, run.run_id, status="running", stage="training", started_at=later(1))
        registry.update_run(MODEL, run.run_id, dataset_ids=["d1", "d2"], summary={"rows": 10, "auc": 0.1 + 0.2})
        changed = registry.get_run(MODEL, run.run_id)
        assert (changed.status, changed.stage, changed.started_at) == ("running", "training", later(1))
        assert changed.dataset_ids == ("d1", "d2")
        assert changed.summary == {"rows": 10, "auc": 0.1 + 0.2}
        assert (changed.sources, changed.cause_ids) == (run.sources, run.cause_ids)

    def test_a_field_can_be_emptied(self, registry):
        run = start(registry)
        registry.update_run(MODEL, run.run_id, version=3)
        assert registry.get_run(MODEL, run.run_id).version == 3
        registry.update_run(MODEL, run.run_id, version=None)
        assert registry.get_run(MODEL, run.run_id).version is None

    def test_a_run_has_no_other_fields(self, registry):
        run = start(registry)
        with pytest.raises(TypeError):
            registry.update_run(MODEL, run.run_id, colour="blue")


class TestTrials:
    RUN_ID = "20260503T141500-0f3a9c2b7d1e"

    def test_trials_are_listed_by_id_within_their_run(self, registry):
        other = make_trial("t1", "20260503T141500-0f3a9c2b7d1f")
        registry.put_trials([make_trial("t2"), make_trial("t1"), other])
        assert registry.list_trials(MODEL, self.RUN_ID) == [make_trial("t1"), make_trial("t2")]

    def test_planning_again_does_not_reset_what_was_done(self, registry):
        registry.put_trials([make_trial("t1")])
        registry.update_trial(
            MODEL, self.RUN_ID, "t1", status="succeeded", metrics={"roc_auc": 0.9}, duration_seconds=3, reason=""
        )
        registry.put_trials([make_trial("t1"), make_trial("t2")])
        trial = registry.get_trial(MODEL, self.RUN_ID, "t1")
        assert (trial.status, trial.metrics, trial.duration_seconds) == ("succeeded", {"roc_auc": 0.9}, 3.0)
        assert len(registry.list_trials(MODEL, self.RUN_ID)) == 2

    def test_an_unknown_trial_is_not_found(self, registry):
        with pytest.raises(RunNotFoundError):
            registry.get_trial(MODEL, self.RUN_ID, "t1")
        with pytest.raises(RunNotFoundError):
            registry.update_trial(MODEL, self.RUN_ID, "t1", status="failed")


class TestDatasets:
    def test_the_same_content_is_one_dataset(self, registry):
        first = make_dataset("d1")
        assert registry.put_dataset(first)
        assert not registry.put_dataset(make_dataset("d1", at=later(5)))
        assert registry.list_datasets(MODEL) == [first]

    def test_content_that_was_uploaded_again_keeps_the_latest_moment(self, registry):
        registry.put_dataset(make_dataset("d1"))
        registry.put_dataset(make_dataset("d2", at=later(1)))
        for minute in (5, 9, 7):
            registry.renew_dataset(MODEL, "d1", later(minute))
        first, second = registry.list_datasets(MODEL)
        assert (first.renewed_at, first.uploaded_at) == (later(9), later(9))
        assert first == replace(make_dataset("d1"), renewed_at=later(9))
        assert (second.renewed_at, second.uploaded_at) == (None, second.source.uploaded_at)
        assert registry.find_datasets(MODEL, "d1") == [first]
        with pytest.raises(DatasetNotFoundError):
            registry.renew_dataset(MODEL, "d3", later(5))

    def test_datasets_are_listed_in_the_order_of_acceptance(self, registry):
        for minute, name in ((2, "a"), (0, "b"), (1, "c")):
            registry.put_dataset(make_dataset(name, at=later(minute)))
        registry.put_dataset(make_dataset("x", model="iris"))
        assert [dataset.dataset_id for dataset in registry.list_datasets(MODEL)] == ["b", "c", "a"]

    def test_without_any_the_list_is_empty(self, registry):
        assert registry.list_datasets(MODEL) == []
        assert registry.find_datasets(MODEL, "") == []

    def test_datasets_are_found_by_how_their_ids_start(self, registry):
        for minute, name in enumerate(("abc1", "abd2", "ab03")):
            registry.put_dataset(make_dataset(name, at=later(-minute)))
        registry.put_dataset(make_dataset("abc9", model="iris"))
        assert registry.find_datasets(MODEL, "abc") == [make_dataset("abc1")]
        assert [found.dataset_id for found in registry.find_datasets(MODEL, "ab")] == ["ab03", "abc1", "abd2"]
        assert [found.dataset_id for found in registry.find_datasets(MODEL, "ab", limit=2)] == ["ab03", "abc1"]
        assert registry.find_datasets(MODEL, "b") == []


class TestVersions:
    def test_the_counter_counts(self, registry):
        start(registry)
        assert [registry.next_version(MODEL) for _ in range(3)] == [1, 2, 3]
        assert registry.get_state(MODEL).latest_version == 3

    def test_an_unknown_model_has_no_counter(self, registry):
        with pytest.raises(ModelNotFoundError):
            registry.next_version(MODEL)
        assert registry.list_models() == []

    def test_a_version_is_written_once_with_its_ledger_entry(self, registry):
        version = make_version(1)
        registry.put_version(version, make_entry("one"))
        with pytest.raises(ConflictError):
            registry.put_version(make_version(1, run_id="20260503T141500-ffffffffffff"), make_entry("two"))
        assert registry.get_version(MODEL, 1) == version
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["one"]

    def test_versions_are_listed_newest_first_by_number(self, registry):
        for number in (2, 10, 9):
            registry.put_version(make_version(number), make_entry(f"v{number}"))
        assert [version.version for version in registry.list_versions(MODEL)] == [10, 9, 2]

    def test_an_unknown_version_is_not_found(self, registry):
        with pytest.raises(VersionNotFoundError):
            registry.get_version(MODEL, 1)


class TestAliases:
    @pytest.fixture(autouse=True)
    def versions(self, registry):
        start(registry)
        for number in (1, 2):
            registry.put_version(make_version(number), make_entry(f"v{number}"))

    def test_a_move_raises_the_revision_and_leaves_an_entry(self, registry):
        registry.commit(make_transaction("move-1", 0, MoveAlias("champion", None, 1), at=later(1)))
        registry.commit(make_transaction("move-2", 1, MoveAlias("challenger", None, 2), at=later(2)))
        state = registry.get_state(MODEL)
        assert (state.revision, state.aliases) == (2, {"champion": 1, "challenger": 2})
        assert state.aliases_moved_at == later(2)
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)][:2] == ["move-2", "move-1"]

    def test_several_aliases_move_in_one_go(self, registry):
        registry.commit(make_transaction("move-1", 0, MoveAlias("champion", None, 1), MoveAlias("challenger", None, 2)))
        moves = MoveAlias("champion", 1, 2), MoveAlias("challenger", 2, None)
        registry.commit(make_transaction("move-2", 1, *moves, at=later(1)))
        assert registry.get_state(MODEL).aliases == {"champion": 2}
        assert registry.get_state(MODEL).revision == 2
        (gone, _) = registry.list_alias_moves(MODEL, "challenger")
        assert (gone.from_version, gone.to_version, gone.revision) == (2, None, 2)

    def test_a_move_decided_on_an_old_revision_changes_nothing(self, registry):
        point_alias(registry, "champion", 1)
        with pytest.raises(AliasConflictError):
            registry.commit(make_transaction("move-2", 0, MoveAlias("champion", 1, 2), at=later(1)))
        assert registry.get_state(MODEL).aliases == {"champion": 1}
        assert len(registry.list_alias_moves(MODEL, "champion")) == 1
        assert "move-2" not in [entry.entry_id for entry in registry.list_ledger(MODEL)]

    def test_an_alias_points_to_a_version_that_exists(self, registry):
        with pytest.raises(VersionNotFoundError):
            registry.commit(make_transaction("move", 0, MoveAlias("champion", None, 3)))
        assert registry.get_state(MODEL).revision == 0

    def test_an_unknown_model_has_no_aliases(self, registry):
        with pytest.raises(ModelNotFoundError):
            registry.commit(make_transaction("move", 0, MoveAlias("champion", None, 1), model="nobody"))

    def test_what_an_alias_pointed_to_at_a_moment(self, registry):
        for version, minute in ((1, 10), (2, 20), (1, 30)):
            point_alias(registry, "champion", version, at=later(minute))
        point_alias(registry, "challenger", 2, at=later(25))

        def version_at(minutes):
            move = registry.alias_move_at(MODEL, "champion", later(minutes))
            return move and move.to_version

        assert [version_at(minutes) for minutes in (9, 10, 19.99, 20, 29, 30, 9_999)] == [None, 1, 1, 2, 2, 1, 1]
        assert registry.alias_move_at(MODEL, "champ", later(99)) is None
        move = registry.alias_move_at(MODEL, "champion", later(20))
        assert (move.from_version, move.actor, move.entry_id) == (1, "tester", "champion-2")

    def test_a_moment_is_the_same_in_every_zone(self, registry):
        point_alias(registry, "champion", 1, at=later(10))
        east = later(10).astimezone(timezone(timedelta(hours=5)))
        assert registry.alias_move_at(MODEL, "champion", east).to_version == 1
        assert registry.alias_move_at(MODEL, "champion", east - timedelta(microseconds=1)) is None


class TestActs:
    @pytest.fixture(autouse=True)
    def versions(self, registry):
        start(registry)
        for number in (1, 2):
            registry.put_version(make_version(number), make_entry(f"v{number}"))

    def test_a_retired_version_stays_retired_and_no_alias_can_point_to_it(self, registry):
        registry.commit(make_transaction("retire", 0, RetireVersion(1), at=later(1)))
        version = registry.get_version(MODEL, 1)
        assert (version.status, version.retired_at) == ("retired", later(1))
        assert registry.get_state(MODEL).revision == 0
        with pytest.raises(UnfitVersionError):
            registry.commit(make_transaction("move", 0, MoveAlias("champion", None, 1), at=later(2)))
        with pytest.raises(UnfitVersionError):
            registry.commit(make_transaction("again", 0, RetireVersion(1), at=later(2)))
        assert registry.get_version(MODEL, 1) == version
        assert registry.get_state(MODEL).aliases == {}

    def test_a_version_is_not_retired_on_an_old_revision(self, registry):
        point_alias(registry, "champion", 1)
        with pytest.raises(AliasConflictError):
            registry.commit(make_transaction("retire", 0, RetireVersion(1)))
        assert registry.get_version(MODEL, 1).status == "registered"

    def test_a_version_is_settled_once(self, registry):
        promoted = AssignOutcome(1, "pending", "promoted")
        registry.commit(make_transaction("settle", 0, MoveAlias("champion", None, 1), promoted))
        with pytest.raises(ConflictError):
            registry.commit(make_transaction("again", 1, MoveAlias("champion", 1, 1), promoted, at=later(1)))
        assert registry.get_version(MODEL, 1).outcome == "promoted"
        assert registry.get_state(MODEL).revision == 1

    def test_a_version_that_does_not_exist_is_neither_settled_nor_retired(self, registry):
        with pytest.raises(VersionNotFoundError):
            registry.commit(make_transaction("settle", 0, AssignOutcome(9, "pending", "kept")))
        with pytest.raises(VersionNotFoundError):
            registry.commit(make_transaction("retire", 0, RetireVersion(9)))

    def test_what_was_collected_is_noted(self, registry):
        registry.mark_collected(MODEL, 1, later(9))
        assert registry.get_version(MODEL, 1).collected_at == later(9)
        with pytest.raises(VersionNotFoundError):
            registry.mark_collected(MODEL, 9, later(9))


class TestApprovals:
    @pytest.fixture
    def run_id(self, registry):
        run = start(registry)
        registry.put_version(make_version(1, run_id=run.run_id), make_entry("v1"))
        return run.run_id

    def test_an_approval_that_is_asked_for_again_takes_the_new_token(self, registry, run_id):
        first = make_approval(run_id)
        assert registry.put_approval(first, make_entry("asked")) == first
        again = registry.put_approval(
            replace(first, task_token="t2", expires_at=later(999)), make_entry("asked", at=later(1))
        )
        assert again == replace(first, task_token="t2")
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)].count("asked") == 1

    def test_an_approval_is_answered_once(self, registry, run_id):
        pending = registry.put_approval(make_approval(run_id), make_entry("asked"))
        answered = replace(pending, status="rejected", decided_by="me", decided_at=later(5), reason="no")
        registry.commit(make_transaction("reject", 0, DecideApproval(answered), at=later(5)))
        assert registry.get_approval(MODEL, run_id) == answered
        with pytest.raises(ConflictError):
            registry.commit(
                make_transaction("approve", 0, DecideApproval(replace(answered, status="approved")), at=later(6))
            )
        assert registry.put_approval(make_approval(run_id), make_entry("late")) == answered
        assert registry.get_approval(MODEL, run_id) == answered

    def test_nobody_was_asked(self, registry, run_id):
        with pytest.raises(ApprovalNotFoundError):
            registry.get_approval(MODEL, run_id)


class TestOutbox:
    def test_what_listeners_are_told_of_waits_until_they_were(self, registry):
        start(registry)
        registered = replace(make_entry("v1", number=1), action="model_registered")
        registry.put_version(make_version(1), registered)
        promoted = replace(
            make_transaction("move", 0, MoveAlias("champion", None, 1), at=later(1)).entry, action="model_promoted"
        )
        registry.commit(RegistryTransaction(promoted, 0, (MoveAlias("champion", None, 1),)))
        other = replace(make_entry("x", model="other", at=later(0.5)), action="model_retired")
        registry.append_ledger(other)
        assert registry.list_unpublished() == [registered, other, promoted]
        assert registry.list_unpublished(limit=1) == [registered]
        registry.mark_published(registered)
        registry.mark_published(registered)
        registry.mark_published(other)
        assert registry.list_unpublished() == [promoted]
        assert promoted in registry.list_ledger(MODEL)

    def test_what_nobody_is_told_of_does_not_wait(self, registry):
        registry.append_ledger(make_entry("a"))
        assert registry.list_unpublished() == []

    def test_an_act_that_did_not_happen_is_not_told(self, registry):
        start(registry)
        registry.put_version(make_version(1), make_entry("v1"))
        entry = replace(make_entry("retired"), action="model_retired")
        with pytest.raises(AliasConflictError):
            registry.commit(RegistryTransaction(entry, 7, (RetireVersion(1),)))
        assert registry.list_unpublished() == []


class TestLedger:
    def test_entries_come_newest_first_whatever_the_order_of_writing(self, registry):
        for minute, name in ((1, "b"), (0, "a"), (2, "c")):
            registry.append_ledger(make_entry(name, at=later(minute)))
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["c", "b", "a"]
        assert [entry.entry_id for entry in registry.list_ledger(MODEL, limit=1)] == ["c"]

    def test_what_is_written_is_never_changed(self, registry):
        first = make_entry("a", share=0.25, versions=[1, 2], nested={"why": None})
        registry.append_ledger(first)
        registry.append_ledger(make_entry("a", share=0.5))
        assert registry.list_ledger(MODEL) == [first]

    def test_moments_of_other_zones_are_sorted_by_time(self, registry):
        east = timezone(timedelta(hours=5))
        registry.append_ledger(make_entry("early", at=NOW.astimezone(east)))
        registry.append_ledger(make_entry("late", at=NOW + timedelta(microseconds=1)))
        assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["late", "early"]

    def test_nobody_has_an_empty_ledger(self, registry):
        assert registry.list_ledger("_refused") == []


class TestKeyScopes:
    def test_a_key_without_a_scope_has_none(self, registry):
        assert registry.find_key_models("k1") is None
        assert registry.list_key_scopes() == []

    @pytest.mark.parametrize("models", [("churn",), ("churn", "orders"), ("*",), ()])
    def test_a_scope_comes_back_as_it_was_put_and_leaves_an_entry(self, registry, models):
        scope = KeyScope("k1", models, NOW, "tester")
        registry.put_key_scope(scope, make_entry("a", "_keys"))
        assert registry.find_key_models("k1") == models
        assert registry.list_key_scopes() == [scope]
        assert [entry.entry_id for entry in registry.list_ledger("_keys")] == ["a"]
        assert registry.verify_ledger("_keys").is_intact

    def test_the_last_scope_holds_and_the_same_request_again_does_not_bring_an_old_one_back(self, registry):
        old, new = (KeyScope("k1", (name,), NOW, "tester") for name in ("churn", "orders"))
        registry.put_key_scope(old, make_entry("a", "_keys"))
        registry.put_key_scope(new, make_entry("b", "_keys", later(1)))
        registry.put_key_scope(old, make_entry("a", "_keys"))
        assert registry.list_key_scopes() == [new]


class TestDeletion:
    @staticmethod
    def delete(registry: Registry, *moves: MoveAlias, minutes: float = 60, entry_id: str = "deleted") -> None:
        state = registry.get_state(MODEL)
        registry.commit(make_transaction(entry_id, state.revision, *moves, DeleteModel(), at=later(minutes)))

    def test_a_deleted_model_is_not_listed_and_keeps_its_counters(self, registry):
        start(registry)
        start(registry, "other")
        for number in (1, 2):
            registry.put_version(make_version(registry.next_version(MODEL)), make_entry(f"version-{number}"))
            registry.set_schema_version(MODEL, number)
        point_alias(registry, "champion", 1)
        point_alias(registry, "challenger", 2)
        revision = registry.get_state(MODEL).revision
        self.delete(registry, MoveAlias("champion", 1, None), MoveAlias("challenger", 2, None))
        state = registry.get_state(MODEL)
        assert (state.aliases, state.active_run_id, state.revision) == ({}, None, revision + 1)
        assert (state.deleted_at, state.begun_after) == (later(60), later(60))
        assert (state.latest_version, state.schema_version, state.first_schema_version) == (2, 2, 3)
        assert state.current_schema_version == 0
        assert [listed.model for listed in registry.list_models()] == ["other"]
        assert registry.alias_move_at(MODEL, "champion", later(90)).to_version is None

    def test_one_that_never_had_an_alias_or_a_schema_can_be_deleted(self, registry):
        registry.put_spec(MODEL, ModelSpec())
        self.delete(registry)
        assert registry.get_state(MODEL).first_schema_version == 1
        assert registry.list_models() == []

    def test_its_spec_is_the_default_one_and_nobody_overwrites_that_unseen(self, registry):
        registry.put_spec(MODEL, ModelSpec.parse({"target": "left"}), make_entry("spec"))
        self.delete(registry)
        record = registry.get_spec_record(MODEL)
        assert (record.spec, record.revision, record.changed_at) == (ModelSpec(), 2, later(60))
        with pytest.raises(ConflictError):
            registry.put_spec(MODEL, ModelSpec(), make_entry("late"), expected_revision=1)
        assert registry.get_state(MODEL).deleted_at is not None

    def test_nothing_begins_any_more(self, registry):
        start(registry)
        registry.put_version(make_version(1), make_entry("version-1"))
        self.delete(registry)
        state = registry.get_state(MODEL)
        with pytest.raises(ModelDeletedError):
            registry.put_version(make_version(2), make_entry("version-2"))
        with pytest.raises(ModelDeletedError):
            registry.set_schema_version(MODEL, 1)
        with pytest.raises(ModelDeletedError):
            registry.commit(make_transaction("late", state.revision, MoveAlias("champion", None, 1), at=later(70)))
        with pytest.raises(ModelDeletedError):
            self.delete(registry, entry_id="again")
        assert claim(registry, make_cause("x", kind="manual", at=later(70)), 70) == Claim("deleted", None)
        assert claim(registry, make_cause("early.csv", at=later(60)), 70) == Claim("deleted", None)
        with pytest.raises(CauseNotFoundError):
            registry.get_cause(MODEL, make_cause("early.csv").cause_id)
        registry.commit(make_transaction("retired", state.revision, RetireVersion(1), at=later(71)))
        assert registry.get_version(MODEL, 1).status == "retired"

    def test_a_later_upload_makes_it_again(self, registry):
        start(registry)
        registry.set_schema_version(MODEL, 1)
        self.delete(registry)
        cause = make_cause("new.csv", at=later(70))
        assert claim(registry, cause, 70) == Claim("started", make_run(cause).run_id)
        state = registry.get_state(MODEL)
        assert (state.deleted_at, state.begun_after, state.created_at) == (None, later(60), later(70))
        assert [listed.model for listed in registry.list_models()] == [MODEL]
        registry.set_schema_version(MODEL, 2)
        assert registry.get_state(MODEL).current_schema_version == 2

    def test_so_does_a_spec(self, registry):
        start(registry)
        self.delete(registry)
        registry.put_spec(MODEL, ModelSpec.parse({"target": "left"}), make_entry("spec", at=later(70)))
        state = registry.get_state(MODEL)
        assert (state.deleted_at, state.begun_after, state.created_at) == (None, later(60), later(70))

    def test_a_cause_that_waits_is_skipped_once_with_the_reason(self, registry):
        start(registry)
        first, second = make_cause("1.csv"), make_cause("2.csv")
        claim(registry, first, 1)
        claim(registry, second, 2)
        entry = make_entry("skipped")
        assert registry.skip_pending_cause(first, entry)
        assert not registry.skip_pending_cause(first, entry)
        record = registry.get_cause(MODEL, first.cause_id)
        assert (record.status, record.reason) == ("skipped", "because of skipped")
        assert [record.cause for record in registry.list_pending_causes(MODEL)] == [second]
        assert registry.get_state(MODEL).pending_causes == 1
        assert entry in registry.list_ledger(MODEL)
