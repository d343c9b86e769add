"""Planning: which trials a run consists of, said no to before anything is fitted."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from millrace.data.dataset_documents import PreparedManifest
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.layout import prepared_key
from millrace.spec import ModelSpec
from millrace.training.planning import plan_search
from millrace.training.search_plan import TrainingCapacity, draw_trials, folds_for, rounds_for, survivors
from millrace.training.search_space import search_spaces_for

from tests.prepared_data import make_dataset, manifest
from tests.training_run import MODEL, NOW, RUN_ID, TrainingRun

CAPACITY = TrainingCapacity(memory_mb=3_008, concurrency=4, large_data="sample", account_executions=1_000)
LINEAR = {"binary": "logistic_regression", "multiclass": "logistic_regression", "regression": "ridge"}


def planned(world: TrainingRun):
    return world.registry.list_trials(MODEL, RUN_ID)


@pytest.mark.parametrize("task", LINEAR)
def test_the_first_trial_of_every_candidate_then_drawn_ones(task):
    world = TrainingRun.prepared(make_dataset(task), seed=7, training={})

    plan = world.plan()

    first = [
        "01-baseline",
        f"02-{LINEAR[task]}",
        "03-hist_gradient_boosting",
        "04-random_forest",
        "05-extra_trees",
        "06-neural_network",
        "07-nearest_neighbours",
    ]
    second = ["08-hist_gradient_boosting"]
    drawn = [f"09-{LINEAR[task]}", "10-hist_gradient_boosting"]
    assert [pointer.trial_id for pointer in plan.trials] == first + second + drawn
    trials = planned(world)
    assert [trial.trial_id for trial in trials] == first + second + drawn
    assert {trial.status for trial in trials} == {"planned"}
    assert {trial.seed for trial in trials} == {7}
    leaves = [trials[position].parameters["min_samples_leaf"] for position in (2, 7)]
    assert leaves == ([5, 20] if task == "regression" else [20, 5])
    assert trials[9].parameters != trials[2].parameters
    assert trials[9].parameters["early_stopping"] is False
    assert world.run.stage == "training"
    search = world.run.summary["search"]
    assert (search["seed"], search["trials"], search["rounds"], search["folds"]) == (7, 10, [200], 5)
    assert search["why_folds"] == "one validation split of 300 rows is too noisy"
    assert world.run.summary["rows"] == 400


def test_lanes_share_the_trials_among_as_many_workers_as_are_allowed():
    world = TrainingRun.prepared(make_dataset("binary"), training={"max_concurrency": 2, "trials": 5})

    plan = world.plan()

    lanes = [[pointer.trial_id[:2] for pointer in lane.trials] for lane in plan.lanes]
    assert lanes == [["01", "03", "05"], ["02", "04"]]
    assert not plan.last_round  # the refit


@pytest.mark.parametrize(
    ("account", "wanted", "lanes"),
    [(10, None, 1), (10, 40, 1), (9, None, 1), (0, None, 1), (35, None, 3), (1_000, None, 4), (1_000, 2, 2)],
)
def test_a_run_takes_at_most_a_tenth_of_the_account_s_executions(account, wanted, lanes):
    world = TrainingRun.prepared(make_dataset("binary"), training={"max_concurrency": wanted, "trials": 5})
    world.capacity = replace(CAPACITY, account_executions=account)

    assert len(world.plan().lanes) == lanes
    assert world.run.summary["search"]["lanes"] == lanes


def test_the_same_seed_draws_the_same_trials_and_more_trials_change_none():
    spaces = search_spaces_for("binary")
    few = draw_trials(spaces, 12, seed=3, classes=2, rows=500)
    many = draw_trials(spaces, 30, seed=3, classes=2, rows=500)

    assert many[:12] == few
    assert draw_trials(spaces, 12, seed=4, classes=2, rows=500) != few
    assert len({str(trial) for trial in many}) == 30


def test_what_has_nothing_to_search_is_tried_once():
    world = TrainingRun.prepared(make_dataset("binary"), candidates=("baseline",), training={"trials": 20})

    assert [pointer.trial_id for pointer in world.plan().trials] == ["01-baseline"]


def test_planning_again_changes_nothing():
    world = TrainingRun.prepared(make_dataset("binary"))
    plan = world.plan()
    world.train(plan.trials[0])
    before = (planned(world), world.run)

    assert world.plan() == plan
    assert (planned(world), world.run) == before


def test_spec_names_the_candidates():
    world = TrainingRun.prepared(
        make_dataset("binary"), candidates=("random_forest", "random_forest"), training={"trials": 1}
    )

    assert [pointer.trial_id for pointer in world.plan().trials] == ["01-random_forest"]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"candidates": ("ridge", "oracle")},
            "candidates",
            "unknown candidates ridge, oracle; the candidates of a binary task are: baseline, log",
        ),
        ({"candidates": ()}, "candidates", "names no candidate"),
        (
            {"primary_metric": "rmse"},
            "primary_metric",
            "unknown metric 'rmse'; the metrics of a binary task are: roc_auc",
        ),
        ({"gate": {"floors": {"auc": 0.8}}}, "gate.floors.auc", "unknown metric 'auc'"),
    ],
)
def test_spec_that_cannot_be_met_is_refused_by_field(spec, field, message):
    world = TrainingRun.prepared(make_dataset("binary"), **spec)

    with pytest.raises(InvalidInputError, match=message) as caught:
        world.plan()

    assert [fault.field for fault in caught.value.fields] == [field]
    assert planned(world) == []
    assert world.run.stage == "planning"


@pytest.mark.parametrize("name", ["schema.json", "manifest.json"])
def test_run_without_prepared_data_is_a_fault(name):
    world = TrainingRun.prepared(make_dataset("binary"))
    del world.data_store._objects[prepared_key(MODEL, RUN_ID, name)]

    with pytest.raises(ArtifactNotFoundError):
        world.plan()


# -------------------------------------------------------------------------------------------------- large data
def search_of(prepared: PreparedManifest, capacity: TrainingCapacity = CAPACITY, **spec):
    world = TrainingRun.prepared(make_dataset("binary"))
    return plan_search(
        world.run, make_dataset("binary").schema, ModelSpec.parse(spec), prepared=prepared, capacity=capacity, now=NOW
    )


def sized(rows: int, bytes_a_row: int = 200) -> PreparedManifest:
    stored = manifest(make_dataset("binary"))
    counts = {"train": rows, "validation": rows // 3}
    return PreparedManifest.read(
        json.dumps(
            stored
            | {
                "rows": counts,
                "bytes": {name: count * bytes_a_row for name, count in counts.items()},
                "class_counts": {name: {"no": count // 4, "yes": count} for name, count in counts.items()},
            }
        ).encode()
    )


@pytest.mark.parametrize(
    ("rows", "rounds", "trials"),
    [(19_999, [19_999], 10), (21_000, [7_000, 21_000], 18), (270_000, [30_000, 90_000, 270_000], 18)],
)
def test_more_rows_have_more_rounds_of_which_the_last_sees_all(rows, rounds, trials):
    search, planned_trials = search_of(sized(rows))

    assert search.rounds == tuple(rounds)
    assert len(planned_trials) == trials
    assert {trial.rows for trial in planned_trials} == {rounds[0] if len(rounds) > 1 else None}
    assert (search.folds, search.why_sampled) == (1, "")


def test_neighbours_are_left_out_of_large_data_with_the_reason():
    search, trials = search_of(sized(5_000))

    assert "nearest_neighbours" not in {trial.candidate for trial in trials}
    assert "5,000 training rows, and it takes at most 1,000" in search.left_out["nearest_neighbours"]
    with pytest.raises(InvalidInputError, match="nearest_neighbours cannot be trained: 5,000 training rows"):
        search_of(sized(5_000), candidates=("nearest_neighbours",))


def test_what_does_not_fit_is_sampled_and_said():
    search, trials = search_of(sized(50_000_000))

    assert 1_000_000 < search.rows < 5_000_000
    assert search.of_rows == 50_000_000
    assert search.why_sampled == f"functions of 3,008 MB hold about {search.rows:,} rows of this table"
    assert search.rounds[-1] == search.rows
    assert trials[0].rows == search.rounds[0]


def test_more_memory_holds_more_rows():
    small, large = (
        search_of(sized(50_000_000), replace(CAPACITY, memory_mb=memory))[0].rows for memory in (3_008, 10_240)
    )

    assert large > 3 * small


def test_a_stack_that_does_not_sample_refuses():
    with pytest.raises(InvalidInputError, match="do not fit into functions of 3,008 MB, which hold about"):
        search_of(sized(50_000_000), replace(CAPACITY, large_data="refuse"))


def test_the_spec_may_ask_for_fewer_rows():
    search, trials = search_of(sized(15_000), training={"max_rows": 4_000})

    assert (search.rows, search.of_rows) == (4_000, 15_000)
    assert search.why_sampled == "the spec trains on at most 4,000 rows"
    assert {trial.rows for trial in trials} == {4_000}


def test_the_budget_is_kept_with_the_run():
    search, _ = search_of(sized(500), training={"max_seconds": 90.0, "max_cost_usd": 0.5})

    assert search.deadline == (NOW + timedelta(seconds=90)).isoformat()
    assert search.max_cost_usd == 0.5


# ---------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("arguments", "folds", "why"),
    [
        ((300, 90, "random", None), 5, "one validation split of 300 rows is too noisy"),
        ((300, None, "group", None), 5, "one validation split of 300 rows is too noisy"),
        ((300, 3, "random", None), 1, "the rarest class has 3 rows"),
        ((4, None, "random", None), 1, "there are 4 rows"),
        ((1_001, 90, "random", None), 1, "there are more than 1,000 rows"),
        ((9_000, 90, "random", 3), 3, "one validation split of 9,000 rows is too noisy"),
        ((300, 90, "time", 3), 1, "the split is by time, and folds would look ahead"),
        ((300, 90, "random", 1), 1, "the spec chooses the validation split alone"),
    ],
)
def test_folds_are_used_where_they_help_and_can_be_made(arguments, folds, why):
    found, reason = folds_for(*arguments)

    assert found == folds
    assert reason.endswith(why)


def test_rounds_and_survivors():
    assert [rounds_for(rows, None) for rows in (10, 20_000, 200_000)] == [1, 2, 3]
    assert rounds_for(10, 3) == 3
    assert [survivors(trials) for trials in (1, 2, 5, 18)] == [1, 2, 2, 6]


def test_many_classes_and_rows_bound_what_would_grow_past_use():
    spaces = {space.candidate: space for space in search_spaces_for("multiclass")}

    def first(candidate: str, classes: int, rows: int):
        return spaces[candidate].complete(spaces[candidate].first, classes, rows)

    assert first("hist_gradient_boosting", 2, 10)["max_iter"] == 400
    assert first("hist_gradient_boosting", 100, 10)["max_iter"] == 60
    assert first("random_forest", 3, 10)["max_leaf_nodes"] == 500
    assert first("random_forest", 100, 10)["max_leaf_nodes"] == 50
    assert first("neural_network", 2, 1_000_000)["max_iter"] == 20
