"""Two runs side by side: what differs, and only that."""

import copy

from millrace.registry.queries import compare_runs

RECORD = {
    "parameters": {"C": 1.0},
    "seed": 0,
    "rows": {"train": 60},
    "prepared": {"train.npz": "aa"},
    "libraries": {"sklearn": "1.9.1", "numpy": "2.4.6"},
}
RUN = {
    "run": {
        "run_id": "r1",
        "dataset_ids": ["d1"],
        "summary": {
            "rows_by_split": {"train": 60, "test": 20},
            "search": {"trials": 10, "folds": 5, "deadline": "2026-05-03T14:20:00+00:00"},
        },
    },
    "evaluation": {"trial_id": "02-ridge", "decision": "promote", "holdout": {"metrics": {"rmse": {"value": 2.0}}}},
}


def test_a_run_compared_with_itself_differs_in_nothing():
    comparison = compare_runs(RUN, RUN, (RECORD, RECORD))

    assert [comparison[part] for part in ("data", "search", "winner", "parameters", "versions")] == [{}] * 5
    assert comparison["metrics"] == {"rmse": [2.0, 2.0]}
    assert comparison["same_holdout"]


def test_what_differs_is_named_with_both_values():
    other, record = copy.deepcopy(RUN), copy.deepcopy(RECORD)
    other["run"] |= {"run_id": "r2", "dataset_ids": ["d1", "d2"]}
    other["run"]["summary"]["search"] = {"trials": 12, "folds": 5, "deadline": "2027-01-01T00:00:00+00:00"}
    other["evaluation"]["holdout"]["metrics"] = {"rmse": {"value": 1.5}, "r2": {"value": 0.5}}
    record |= {"parameters": {"alpha": 3.0}, "libraries": {"sklearn": "1.10.0", "numpy": "2.4.6"}}

    comparison = compare_runs(RUN, other, (RECORD, record))

    assert comparison["runs"] == ["r1", "r2"]
    assert comparison["data"] == {"dataset_ids": [["d1"], ["d1", "d2"]]}
    assert comparison["search"] == {"trials": [10, 12]}
    assert comparison["winner"] == {}
    assert comparison["parameters"] == {"C": [1.0, None], "alpha": [None, 3.0]}
    assert comparison["versions"] == {"sklearn": ["1.9.1", "1.10.0"]}
    assert comparison["metrics"] == {"rmse": [2.0, 1.5], "r2": [None, 0.5]}
    assert not comparison["same_holdout"]


def test_a_run_that_failed_early_is_compared_as_far_as_it_came():
    failed = {"run": {"run_id": "r0"}, "trials": [], "evaluation": None}

    comparison = compare_runs(failed, RUN, (None, RECORD))

    assert comparison["winner"]["trial"] == [None, "02-ridge"]
    assert comparison["metrics"] == {"rmse": [None, 2.0]}
    assert not comparison["same_holdout"]
