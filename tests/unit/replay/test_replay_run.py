"""Replays of captured requests: parity with serving, and every kind of row, version and fault."""

import gzip
import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from millrace.errors import ConflictError, InvalidInputError, ModelNotReadyError, VersionNotFoundError
from millrace.layout import captures_key, replay_key
from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.registry.ledger import AuditContext
from millrace.registry.release_changes import begin_release
from millrace.releases.replay_events import request_replay_of_release
from millrace.releases.replay_evidence import find_replay_evidence
from millrace.replay import replay_run
from millrace.replay.paired_labels import find_estimated_loss
from millrace.schema import ColumnRules
from millrace.spec.release import ReleaseSpec
from msgspec.structs import replace as with_fields

from tests.captured_rows import store_rows
from tests.registry_builders import MODEL, NOW
from tests.replay_world import ReplayWorld
from tests.serving_models import CHURN_RECORD, churn_onnx, churn_schema

TASKS = ("binary", "multiclass", "regression")


def make_records(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows of every type: own words, unseen and missing values, dates in two formats, hostile text."""
    rng = np.random.default_rng(seed)
    return [
        CHURN_RECORD
        | {
            "customer_id": f"C-{seed}-{place}",
            "age": int(rng.integers(18, 80)),
            "balance": None if place % 7 == 0 else float(rng.normal(100, 1e5)) * 10.0 ** int(rng.integers(-6, 6)),
            "active": bool(place % 2),
            "subscribed": ["yes", "no", None][place % 3],
            "plan": ["basic", "family", "premium"][int(rng.integers(3))],
            "city": ["Oslo", "Lima", "Zürich", "Atlantis", None, ""][place % 6],
            "signed_up": [None, "2024-02-03T10:00:00.123456Z", "03.02.2024"][place % 3],
            "remark": ["was late, paid at once", None, 'zu spät "x"\n\u4f60\u597d'][place % 3],
        }
        for place in range(count)
    ]


def make_plain_records(count: int, seed: int) -> list[dict[str, object]]:
    """Rows as those that the models were trained on."""
    rng = np.random.default_rng(seed)
    return [
        CHURN_RECORD
        | {
            "customer_id": f"P-{seed}-{place}",
            "age": int(rng.integers(18, 80)),
            "balance": float(rng.normal(100, 50)),
            "active": bool(rng.integers(2)),
            "subscribed": ["yes", "no"][int(rng.integers(2))],
            "plan": ["basic", "family", "premium"][int(rng.integers(3))],
            "city": ["Oslo", "Lima"][int(rng.integers(2))],
            "remark": ["was late", "paid at once"][int(rng.integers(2))],
        }
        for place in range(count)
    ]


def make_world(task: str = "binary", **signature: object) -> ReplayWorld:
    world = ReplayWorld()
    schema = churn_schema(task, remark=True)
    for number in (1, 2):
        world.register(number, churn_onnx(task, number, remark=True), schema, **signature)
    return world


def serve_all(world: ReplayWorld, count: int = 90, version: int = 1, sizes: tuple[int, ...] = (1, 20, 3)) -> None:
    records, place = make_records(count, version), 0
    while place < count:
        size = sizes[world.requests % len(sizes)]
        world.serve(records[place : place + size], version)
        place += size


class TestParity:
    @pytest.mark.parametrize("task", TASKS)
    def test_the_champions_replay_is_what_it_predicted_and_the_candidates_what_it_would_have(self, task):
        world = make_world(task)
        serve_all(world)
        report = world.replay()
        assert (report.status, report.counts.replayed) == ("succeeded", 90)
        assert (report.self_test.compared, report.self_test.equal) == (90, 90)
        candidate, changed = world.load(2), 0
        for row, record in zip(list(world.rows), make_records(90, 1), strict=True):
            served = world.serve([record], 2)[0].prediction
            changed += served.get("decision") != row.prediction.get("decision")
        assert report.task == candidate.schema.task
        if task == "regression":
            assert (report.agreement, report.changes) == (None, ())
        else:
            assert sum(one.rows for one in report.changes) == changed
            assert report.agreement == pytest.approx(1.0 - changed / 90)

    def test_decisions_are_those_of_each_versions_threshold(self):
        world = ReplayWorld()
        schema = churn_schema("binary", remark=True)
        onnx = churn_onnx("binary", 1, remark=True)
        world.register(1, onnx, schema, threshold={"positive_class": "true", "value": 0.5})
        world.register(2, onnx, schema, threshold={"positive_class": "true", "value": 0.0})
        serve_all(world)
        report = world.replay()
        assert (report.deviations.largest, report.self_test.equal) == (0.0, 90)
        negative = sum(row.prediction["decision"] == "false" for row in world.rows)
        assert [(one.champion, one.candidate, one.rows) for one in report.changes] == [("false", "true", negative)]

    def test_a_replay_that_is_not_what_was_predicted_is_void(self):
        world = make_world()
        serve_all(world)
        broken = dict(world.rows[7].prediction) | {"probabilities": {"false": 0.5, "true": 0.5}}
        world.serve(make_records(1, 9), 1, prediction=broken)
        report = world.replay()
        assert (report.status, report.self_test.different) == ("void", 1)
        assert world.rows[-1].prediction_id in report.reason
        assert (report.metrics, report.deviations, report.quality) == ((), None, None)

    def test_a_difference_in_the_last_digit_is_rounding(self):
        world = make_world()
        (row,) = world.serve(make_records(1, 9), 1)
        shifted = {
            name: float(np.nextafter(np.float32(p), np.float32(2)))
            for name, p in row.prediction["probabilities"].items()
        }
        world.rows[-1:] = []
        world.requests = 0
        world.serve(make_records(1, 9), 1, prediction=dict(row.prediction) | {"probabilities": shifted})
        report = world.replay()
        assert (report.status, report.self_test.rounded, report.self_test.different) == ("succeeded", 1, 0)
        assert any("last digits" in note for note in report.notes)


class TestLabels:
    def test_late_labels_of_both_versions_rows_are_paired(self):
        world = make_world()
        serve_all(world, 60)
        serve_all(world, 60, version=2)
        outcomes = {row.prediction_id: ("true" if place % 3 else "false") for place, row in enumerate(world.rows)}
        first = dict(list(outcomes.items())[:50])
        world.report_outcomes(first)
        report = world.replay()
        assert (report.labelled, report.counts.by_version) == (50, {"1": 60, "2": 60})
        assert (report.self_test.compared, report.counts.replayed) == (60, 120)
        world.report_outcomes(outcomes, after=timedelta(hours=20))
        later = world.replay(replay_id="20260503T141500-0f3a9c2b7d1f")
        assert (later.labelled, later.quality.pairs, later.metric_rows) == (120, 120, 120)
        by_hand = {number: _accuracy(world, number, outcomes) for number in (1, 2)}
        accuracy = next(one for one in later.metrics if one.metric == "accuracy")
        assert (accuracy.champion, accuracy.candidate) == pytest.approx((by_hand[1], by_hand[2]))
        assert later.quality.gain == pytest.approx(by_hand[2] - by_hand[1])
        assert accuracy.low <= accuracy.gain <= accuracy.high

    def test_a_regression_is_measured_and_has_no_scale_without_its_holdout(self):
        world = make_world("regression")
        serve_all(world, 40)
        world.report_outcomes({row.prediction_id: float(row.prediction["value"]) for row in world.rows})
        report = world.replay()
        mae = next(one for one in report.metrics if one.metric == "mae")
        assert mae.champion == pytest.approx(0.0, abs=1e-6)
        assert mae.gain == -mae.candidate < 0.0
        assert report.quality is None
        assert any("no scale" in note for note in report.notes)

    def test_ground_truth_that_is_no_class_is_counted(self):
        world = make_world()
        serve_all(world, 12)
        world.report_outcomes({world.rows[0].prediction_id: "perhaps", world.rows[1].prediction_id: "true"})
        report = world.replay()
        assert report.labelled == 1
        assert any("no class" in note for note in report.notes)


def _accuracy(world: ReplayWorld, version: int, outcomes: dict[str, str]) -> float:
    hits = []
    for row in list(world.rows):
        if row.prediction_id not in outcomes:
            continue
        number = int(str(row.row_id).rsplit("-", 1)[1])
        record = make_records(60, row.version)[number]
        served = world.serve([record], version)[0]
        world.rows.pop()
        hits.append(served.prediction["decision"] == outcomes[row.prediction_id])
    return float(np.mean(hits))


class TestHoldouts:
    def test_a_regressions_errors_are_paired_on_the_scale_of_its_holdout(self):
        world = make_world("regression")
        records = make_plain_records(300, 5)
        for number in (1, 2):
            world.profile(number, records, noise=2.0)
        for record in records[:120]:
            world.serve([record])
        right = {row.prediction_id: float(row.prediction["value"]) for row in world.rows}
        world.report_outcomes(right)
        quality = world.replay().quality
        assert (quality.metric, quality.pairs, quality.champion_loss) == ("mae", 120, pytest.approx(0.0, abs=1e-5))
        assert quality.gain == -quality.candidate_loss < 0.0
        # A twentieth of the mean error on the holdout, whose noise has a deviation of 2.
        assert quality.margin == pytest.approx(0.05 * 2.0 * math.sqrt(2.0 / math.pi), rel=0.15)
        assert quality.log_e_worse > math.log(20) > quality.log_e_safe

    def test_both_are_estimated_without_ground_truth_where_their_holdouts_were_kept(self):
        world = ReplayWorld()
        for number in (1, 2):
            world.register(number, churn_onnx("binary", number), churn_schema())
        for record in make_plain_records(300, 7):
            world.serve([record])
        first = world.replay()
        assert {one.reason for one in first.estimates} == {"not known: its holdout's predictions were not kept"}
        world.profile(1, make_plain_records(3_000, 5))
        world.profile(2, make_plain_records(3_000, 6))
        report = world.replay(replay_id="20260503T141500-0f3a9c2b7d1f")
        for one in report.estimates:
            assert one.reason == ""
            assert one.low <= one.value <= one.high
            assert one.value == pytest.approx(one.holdout, abs=0.1)
        champion, candidate = report.estimates
        assert find_estimated_loss(report.estimates) == pytest.approx(
            METRICS_BY_NAME[champion.metric].gain(champion.value, candidate.value)
        )

    def test_rows_beyond_training_have_no_estimate(self):
        world = ReplayWorld()
        for number in (1, 2):
            world.register(number, churn_onnx("binary", number), churn_schema())
            world.profile(number, make_plain_records(3_000, 5))
        for record in make_plain_records(250, 7):
            world.serve([record | {"age": 200}])
        report = world.replay()
        assert all("beyond those of training" in one.reason for one in report.estimates)
        assert find_estimated_loss(report.estimates) is None


class TestRefusals:
    def test_a_model_with_sensitive_features_is_refused(self):
        world = ReplayWorld()
        columns = tuple(
            replace(column, sensitive=column.name == "age") for column in churn_schema("binary", remark=True).columns
        )
        hidden = replace(churn_schema("binary", remark=True), columns=columns)
        world.register(1, churn_onnx("binary", 1, remark=True), churn_schema("binary", remark=True))
        world.register(2, churn_onnx("binary", 2, remark=True), hidden)
        serve_all(world, 3)
        report = world.replay()
        assert report.status == "refused"
        assert "sensitive features (age)" in report.reason
        assert "canary" in report.reason

    def test_a_candidate_with_another_column_replays_the_rows_that_hold_it(self):
        world = ReplayWorld()
        world.register(1, churn_onnx("binary", 1), churn_schema())
        world.register(2, churn_onnx("binary", 2, remark=True), churn_schema(remark=True))
        serve_all(world, 30)
        report = world.replay()
        assert report.status == "refused"
        assert "do not hold the column 'remark'" in report.reason
        serve_all(world, 30, version=2)
        mixed = world.replay(replay_id="20260503T141500-0f3a9c2b7d1f")
        assert (mixed.status, mixed.counts.replayed) == ("succeeded", 30)
        assert [(one.version, one.rows) for one in mixed.counts.refused] == [(2, 30)]
        assert any("self-test had nothing" in note for note in mixed.notes)

    def test_a_column_of_another_type_is_refused(self):
        world = ReplayWorld()
        schema = churn_schema()
        retyped = tuple(replace(one, type="category") if one.name == "age" else one for one in schema.columns)
        world.register(1, churn_onnx("binary", 1), schema)
        world.register(2, churn_onnx("binary", 2), schema)
        world.register(3, churn_onnx("binary", 3), replace(schema, columns=retyped))
        serve_all(world, 6)
        report = world.replay(3)
        assert report.status == "refused"
        assert "'age' was captured as integer, and the version takes category" in report.reason

    def test_values_that_the_candidates_spec_refuses_are_counted(self):
        world = ReplayWorld()
        schema = churn_schema()
        strict = tuple(
            replace(one, rules=ColumnRules(maximum=50.0)) if one.name == "age" else one for one in schema.columns
        )
        world.register(1, churn_onnx("binary", 1), schema)
        world.register(2, churn_onnx("binary", 2), replace(schema, columns=strict))
        serve_all(world, 40)
        report = world.replay()
        old = sum(row.features["age"] > 50 for row in world.rows)
        assert [(one.version, one.rows, one.reason) for one in report.counts.refused] == [
            (2, old, "age expects at most 50")
        ]
        assert report.counts.replayed == 40 - old

    def test_another_target_or_other_classes_are_refused(self):
        for task in ("multiclass", "regression"):
            world = ReplayWorld()
            world.register(1, churn_onnx("binary", 1), churn_schema())
            world.register(2, churn_onnx(task, 1), churn_schema(task))
            assert world.replay().status == "refused"

    def test_requests_that_cannot_be_are_refused_at_once(self):
        world = ReplayWorld()
        with pytest.raises(ModelNotReadyError, match="no champion"):
            world.request()
        world.register(1, churn_onnx("binary", 1), churn_schema())
        with pytest.raises(VersionNotFoundError):
            world.request(2)
        with pytest.raises(ConflictError, match="is the champion"):
            world.request(1)
        world.register(2, churn_onnx("binary", 2), churn_schema())
        for since in ("7 days", "1m", "91d", "2027-01-01T00:00:00Z", "99999d"):
            with pytest.raises(InvalidInputError, match="since"):
                world.request(2, since)
        world.registry.mark_collected(MODEL, 2, NOW)
        with pytest.raises(ConflictError, match="collected"):
            world.request(2)
        assert world.events.names == []

    def test_a_damaged_or_missing_candidate_is_refused(self):
        world = make_world()
        world.models.put(f"{MODEL}/versions/2/model.onnx", b"something else")
        assert "damaged" in world.replay().reason
        world.models.delete([f"{MODEL}/versions/2/model.onnx"])
        assert "no longer stored" in world.replay(replay_id="20260503T141500-0f3a9c2b7d1f").reason


class TestRows:
    def test_no_captures_make_a_report_of_no_rows(self):
        report = make_world().replay()
        assert (report.status, report.counts.rows, report.agreement) == ("succeeded", 0, None)
        assert "no captured rows" in report.reason

    def test_rows_without_features_damaged_objects_and_repetitions_are_left_out(self):
        world = make_world()
        serve_all(world, 24)
        world.serve(make_records(1, 9), 1, features={}, omitted=9)
        store_rows(world.data, world.rows[:6], "b")
        at = NOW - timedelta(hours=20)
        world.data.put(captures_key(MODEL, at, "torn"), gzip.compress(b'{"format": 1}\n' * 50)[:-9])
        world.data.put(captures_key(MODEL, at, "odd"), gzip.compress(b'{"format": 1}\nnot json\n'))
        report = world.replay()
        assert (report.counts.replayed, report.counts.omitted, report.counts.duplicates) == (24, 1, 6)
        assert (report.counts.malformed, len(report.counts.unreadable_objects)) == (2, 1)

    def test_a_request_that_was_too_large_altogether_is_no_row(self):
        world = make_world()
        world.serve(make_records(1, 9), 1, features={}, omitted=9)
        report = world.replay()
        assert (report.counts.replayed, report.counts.omitted) == (0, 1)
        assert "too large" in report.reason

    def test_sampled_captures_are_said_to_be(self):
        world = make_world()
        for record in make_records(12):
            world.serve([record], 1, sampling_rate=0.25)
        report = world.replay()
        assert report.counts.sampling_rate == 0.25
        assert any("25.00%" in note for note in report.notes)

    def test_more_rows_than_the_limit_are_a_sample_that_later_hours_get_less_of(self, monkeypatch):
        monkeypatch.setattr(replay_run, "MAX_ROWS", 40)
        monkeypatch.setattr(replay_run, "PART_ROWS", 10)
        world = make_world()
        serve_all(world, 400)
        report = world.replay()
        assert 40 < report.counts.replayed < 250
        assert report.counts.sample_share < 1.0
        assert any("a sample" in note for note in report.notes)

    def test_what_one_invocation_has_no_time_for_the_next_goes_on_with(self):
        world = make_world()
        serve_all(world, 200)
        store_rows(world.data, world.rows)
        world.request()
        runs = []
        while not runs or runs[-1].outcome == "more":
            runs.append(world.run(token=f"t{len(runs)}", remaining_seconds=lambda: 10.0))
            assert len(runs) < 100
        assert len(runs) > 3
        assert world.events.names.count("ReplayDue") == len(runs)
        stepwise = world.report()
        other = ReplayWorld()
        other.__dict__ |= {name: getattr(world, name) for name in ("registry", "models", "events")}
        other.rows = world.rows
        assert replace_times(other.replay()) == replace_times(stepwise)

    def test_of_two_invocations_at_once_one_counts(self):
        world = make_world()
        serve_all(world, 30)
        store_rows(world.data, world.rows)
        world.request()
        meanwhile = []

        def remaining() -> float:
            if not meanwhile:
                meanwhile.append(None)
                meanwhile[0] = world.run(token="other")
            return float("inf")

        assert world.run(token="slow", remaining_seconds=remaining).outcome == "overtaken"
        assert meanwhile[0].outcome == "finished"
        assert world.report().counts.replayed == 30

    def test_wide_tables_are_read_in_fewer_rows(self, monkeypatch):
        monkeypatch.setattr(replay_run, "MAX_HOURLY_VALUES", 8 * 30)
        world = make_world()
        world.gap = timedelta(seconds=1)
        serve_all(world, 100)
        report = world.replay()
        assert 0 < report.counts.replayed <= 30
        assert report.counts.sample_share < 1.0

    def test_rows_of_a_deleted_model_of_the_same_name_are_left_out(self):
        world = make_world()
        serve_all(world, 60)
        state = world.registry.get_state(MODEL)
        begun = NOW - timedelta(hours=22)
        world.registry.get_state = lambda _: replace(state, begun_after=begun)
        report = world.replay()
        assert report.since == begun
        assert report.counts.replayed == sum(row.predicted_at >= begun for row in world.rows) < 60

    def test_an_event_that_comes_again_counts_nothing_twice(self):
        world = make_world()
        serve_all(world, 30)
        first = world.replay()
        world.run(token="again")
        assert replace_times(world.report()) == replace_times(first)

    def test_a_fault_is_in_the_report_and_raised_and_a_repetition_goes_on(self, monkeypatch):
        world = make_world()
        serve_all(world, 30)
        store_rows(world.data, world.rows)
        world.request()
        with monkeypatch.context() as patched:
            patched.setattr(replay_run, "report_replay", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                world.run()
        assert world.report().status == "failed"
        assert "ZeroDivisionError" in world.report().reason
        assert world.run(token="again").status == "succeeded"
        assert world.report().counts.replayed == 30

    def test_an_unknown_replay_is_not_found(self):
        assert make_world().run().outcome == "not_found"


def replace_times(report):
    return with_fields(report, updated_at=NOW)


class TestReleases:
    def begin(self, world: ReplayWorld, ago: timedelta = timedelta(days=1)):
        spec = ReleaseSpec.model_validate({"strategy": "shadow", "shadow_first": "24h"})
        state = world.registry.get_state(MODEL)
        return begin_release(state, 2, spec, AuditContext("ann", "try", NOW - ago), world.registry)

    def look(self, world: ReplayWorld, release, now, **options):
        outcome = world.run(release.release_id, now=now, token=f"{now:%H%M}", **options).outcome
        found = find_replay_evidence(release, world.data)
        assert found is not None
        return outcome, found

    def test_the_evidence_grows_until_the_release_is_over(self):
        world = make_world()
        world.gap = timedelta(minutes=4)
        release = self.begin(world)
        serve_all(world, 300, sizes=(1,))
        world.report_outcomes({row.prediction_id: "true" for row in world.rows[:100]})
        store_rows(world.data, world.rows)
        early = NOW - timedelta(hours=16)
        outcome, first = self.look(world, release, early)
        assert (outcome, first.rows, first.until) == ("finished", 120, early)
        assert first.compared_rows == first.equal_rows == first.rows
        _, second = self.look(world, release, NOW)
        assert (second.rows, second.labelled_rows, second.quality.pairs) == (300, 100, 100)
        assert second.output_shift is not None
        keys = [listed.key for listed in world.data.list(replay_key(MODEL, release.release_id, "parts/"))]
        assert len(keys) == 2
        world.data.delete(keys[:1])  # retention is shorter than the release
        _, kept = self.look(world, release, NOW + timedelta(hours=1))
        assert kept.labelled_rows < 100
        assert world.run("r-20260101T000000-00000000").outcome == "not_found"

    def test_the_newest_requests_count_at_once_and_late_captures_once(self):
        world = make_world()
        world.gap = timedelta(minutes=4)
        release = self.begin(world)
        serve_all(world, 359, sizes=(1,))
        world.report_outcomes({row.prediction_id: "true" for row in world.rows})
        late = world.rows[-16::2]  # of the hour before and of the present one
        arrived = [row for row in world.rows if row not in late]
        store_rows(world.data, arrived)
        for minutes in (-12, 0, 1, 46, 240):
            now = NOW + timedelta(minutes=minutes)
            _, found = self.look(world, release, now)
            known = [row for row in arrived if row.predicted_at < now]
            assert (found.rows, found.labelled_rows, found.compared_rows) == (len(known),) * 3
            if minutes < 0:  # they arrive after they were looked for
                store_rows(world.data, late, "late")
                arrived = world.rows
        counts = world.report(release.release_id).counts
        assert (counts.rows, counts.replayed, counts.duplicates) == (359, 359, 0)

    def test_rows_that_are_not_compared_yet_pass_no_stage(self):
        world = make_world()
        release = self.begin(world)
        serve_all(world, 200)
        store_rows(world.data, world.rows)
        outcome, partial = self.look(world, release, NOW, remaining_seconds=lambda: 10.0)
        assert (outcome, partial.until, partial.quality) == ("more", None, None)
        assert partial.rows > 0
        while self.look(world, release, NOW)[0] == "more":
            pass
        assert self.look(world, release, NOW)[1].until == NOW

    def test_a_replay_at_work_is_not_requested_again(self):
        world = make_world()
        release = self.begin(world)
        serve_all(world, 60)
        store_rows(world.data, world.rows)
        seen = []

        def remaining() -> float:
            seen.append(find_replay_evidence(release, world.data))
            return float("inf")

        self.look(world, release, NOW, remaining_seconds=remaining)
        assert (seen[0].rows, seen[0].until, seen[0].checked_at) == (0, None, NOW)
        assert not request_replay_of_release(release, seen[0], world.events, NOW + timedelta(minutes=30))

    def test_the_newest_requests_can_make_a_replay_void(self):
        world = make_world()
        release = self.begin(world, timedelta(hours=1))
        world.requests = 24 * 60 // 7
        world.serve(make_records(1, 9), 1, prediction={"label": "true", "probabilities": {"false": 0.5, "true": 0.5}})
        store_rows(world.data, world.rows)
        _, found = self.look(world, release, NOW)
        assert (found.status, found.rows) == ("void", 1)
        assert world.rows[-1].prediction_id in found.reason
