"""Documents of every page: full ones, and those with the least that can be stored."""

from typing import Any

import msgspec
from millrace.evaluation_results import Evaluation

from tests.unit.reports.test_dataset_report import FINDING, build
from tests.unit.reports.test_model_card import make_card

WINDOW = {"begin": "2026-05-04T00:00:00+00:00", "version": 2, "rows": 300, "breaches": ["feature_drift: age"]}
QUALITY = {"begin": "2026-05-04T00:00:00+00:00", "answers": 400, "outcomes": 300, "metric": "roc_auc", "value": 0.8}
METRICS = {
    "roc_auc": {"value": 0.8, "error": 0.05, "low": 0.7, "high": 0.9, "expected": 0.82},
    "log_loss": {"value": 0.4567, "error": 0.05, "low": 0.4, "high": 0.5, "expected": None},
}
PICTURE = {"subject": "age", "verdict": "feature_drift", "status": "breach", "value": 0.4, "threshold": 0.1}
FOUND = {"subject": "age", "verdict": "feature_drift", "status": "breach", "message": "'age' has drifted", "value": 0.4}
INTAKE = dict.fromkeys(
    (
        "objects", "rows", "duplicates", "malformed_rows", "from_the_future", "unanswered", "unmatched_feedback",
        "unusable_feedback",
    ),
    7,
)  # fmt: skip


def minimal_monitoring() -> dict[str, Any]:
    """A report of a model that was never asked."""
    verdict = {"verdict": "staleness", "status": "unknown", "breaches": 0, "judged": 0, "threshold": None}
    return {
        "headline": "nothing evaluated yet: 0 of 200 rows in the open window",
        "model": "churn",
        "version": 1,
        "obstacle": None,
        "made_at": "2026-05-04T05:00:00+00:00",
        "last_row_at": None,
        "verdicts": [verdict | {"min_rows": None}],
        "findings": [],
        "incidents": [],
        "open_window_rows": 0,
        "rows_needed": 200,
        "windows": [],
        "quality": [],
        "intake": INTAKE | {"unreadable_objects": [], "other_versions": {}, "unknown_versions": {}},
    }


def full_monitoring() -> dict[str, Any]:
    """A report with everything that can be in one."""
    hours = [f"2026-05-04T{hour:02}:00:00+00:00" for hour in range(5)]
    trouble = {"finding": FOUND}
    incident = {"event": "DriftDetected", "since": hours[0], "troubles": {f"{i}": trouble for i in range(15)}}
    numbers = {"edges": [0.0, 1.0, 2.0], "before": [0.4, 0.6], "now": [0.1, 0.9]}
    return minimal_monitoring() | {
        "obstacle": "version 1 has no reference.json to compare with",
        "last_row_at": hours[-1],
        "findings": [FOUND | {"threshold": 0.1, "rows": 300}],
        "incidents": [
            incident | {"resolved_at": None, "actions": [], "no_action": "nothing: no retraining would help"},
            incident | {"resolved_at": hours[3], "actions": ["requested a training run"], "no_action": None},
        ],
        "windows": [WINDOW | {"end": hour, "effects": {"age": 0.1}} for hour in hours],
        "pictures": [
            PICTURE | numbers,
            PICTURE | {"subject": "city", "values": ["Oslo", "Rome"], "before": [0.5, 0.5], "now": [0.9, 0.1]},
        ],
        "quality": [QUALITY | {"end": hour, "low": 0.7, "high": 0.9, "metrics": METRICS} for hour in hours],
        "intake": INTAKE
        | {"unreadable_objects": ["captures/torn"], "other_versions": {"1": 50}, "unknown_versions": {"77": 30}},
    }


def minimal_dataset() -> dict[str, Any]:
    """An upload that was rejected before anything in it was read."""
    return {"model": "churn", "validation": {"outcome": "rejected"}}


def full_dataset() -> dict[str, Any]:
    """An accepted upload with more of everything than a page shows at once."""
    document = build(classes=tuple("abcdefghijklmnop"), extra=60)
    rejected = {"column": "age", "value": "old", "reason": "'age' should be a number", "text": "7,old"}
    return document | {
        "sensitive": ["plan"],
        "quarantine": [rejected | {"line": line, "file": "part-1.csv"} for line in range(1, 60)],
        "validation": document["validation"]
        | {
            "files": ["part-1.csv", "part-2.csv"],
            "folder": "incoming/churn/may/",
            "findings": [FINDING] * 120 + [FINDING | {"severity": "error", "column": None, "count": None, "rows": []}],
        },
    }


def minimal_card() -> dict[str, Any]:
    """The card of a run whose trials all failed."""
    evaluation = make_card("binary", version=False)["evaluation"]
    required = {field.name for field in msgspec.structs.fields(Evaluation) if field.required}
    bare = {name: evaluation[name] for name in required} | {"search": None, "leaderboard": []}
    run = {"run_id": "r1", "kind": "upload", "requested_at": "2026-05-04T00:00:00+00:00"}
    return {"model": "churn", "code_version": "1.0.0", "version": None, "run": run, "evaluation": bare, "data": {}}


def full_card(task: str) -> dict[str, Any]:
    """The card of a real version, beside a champion and with every optional part."""
    card = make_card(task)
    evaluation = card["evaluation"]
    metrics = {name: one["value"] for name, one in evaluation["holdout"]["metrics"].items()}
    evaluation["champion"] = {"version": 2, "metrics": metrics, "gain": {"low": 0.01, "high": 0.03}}
    gains = [{"measured_gain": 0.02, "gain": {"low": -0.01, "high": 0.05}}, {"measured_gain": -0.04, "gain": None}, {}]
    first = evaluation["leaderboard"][0]
    evaluation["leaderboard"] = [first | {"trial_id": f"t{number}"} | gains[number % 3] for number in range(20)]
    evaluation["trials_comparison"] = {"version": 2, "rows": 1_234, "not_compared": None}
    evaluation["importance"]["columns"] *= 5
    evaluation["importance"]["not_measured"] = [f"n{number}" for number in range(30)]
    evaluation["reasons"] = ["better than the champion"] * 9
    if evaluation.get("confusion"):
        worst = [{"name": f"c{i}", "rows": i, "recall": i / 60 if i else None, "precision": 0.5} for i in range(50)]
        evaluation["confusion"] = {
            "commonest": [{"actual": "no", "called": "yes", "rows": 12}],
            "per_class": worst,
            "classes": None,
            "matrix": None,
            "left_out_classes": 0,
        }
    card["data"] |= {"sample": {"rows": 4, "of_rows": 9}, "class_counts": {"train": {"no": 3, "yes": 1}}}
    return card


def minimal_release() -> dict[str, Any]:
    """A release that has just begun, without a request and with nothing in its ledger that could be read."""
    return {
        "model": "churn",
        "release_id": "r-20260504T000000-0a1b2c3d",
        "status": "running",
        "baseline": 6,
        "candidate": 7,
        "policy": {"strategy": "canary", "steps": None, "min_requests": 200, "guards": {}},
        "started_at": "2026-05-04T00:00:00+00:00",
        "started_by": "ada",
        "reason": "",
        "stage": 0,
        "stages": ["serve", "serve"],
        "steps": [0.05, 0.5],
        "weight": 0.05,
        "bake_until": "2026-05-04T01:00:00+00:00",
        "ended_at": None,
        "decision": "begun with 5 % of the requests",
        "log_e_limit": 4.382,
        "slow_over_ms": None,
        "guards": [],
        "history": [],
        "stage_requests": {"champion": 0, "candidate": 0},
        "changes": [],
        "changes_complete": False,
    }


def full_release() -> dict[str, Any]:
    """A release that was rolled back, with everything that can be in one."""
    hours = [f"2026-05-04T{hour:02}:00:00+00:00" for hour in range(6)]
    sizes = [-0.1, 0.4, 1.2, 4.9]
    history = [
        {
            "at": hours[place],
            "stage": min(place, 1),
            "weight": 0.05 if place == 0 else 0.5,
            "log_e": {"errors": size, "slow": -0.2},
            "requests": {"champion": 300 * place + 100, "candidate": 200 * place + 20},
        }
        for place, size in enumerate(sizes)
    ]
    counts = {"windows": 4, "champion_bad": 3, "champion_requests": 1_000, "candidate_bad": 31}
    actions = ["release_started", "release_advanced", "release_paused", "release_resumed", "release_rolled_back"]
    changes = [
        {"action": action, "at": hours[place], "actor": "ada", "reason": "new tariff", "weight": 0.5 if place else None}
        for place, action in enumerate(actions)
    ]
    policy = {"strategy": "linear", "steps": {"start": 5, "by": 45}, "versions": [], "reward": {"outcome": "converted"}}
    return minimal_release() | {
        "status": "rolled_back",
        "reason": "new tariff",
        "stage": 1,
        "stages": ["replay", "serve"],
        "weight": 0.0,
        "ended_at": hours[4],
        "decision": "the guard errors finds the candidate worse",
        "policy": policy | {"min_requests": 200, "guards": {"slow": None, "errors": {"ratio": 2.0}}},
        "guards": [
            {"guard": name, "log_e": size, "candidate_requests": 620, **counts}
            for name, size in (("errors", 4.9), ("slow", -0.2), ("quality", 1.5))
        ],
        "replay": {
            "status": "running",
            "reason": "",
            "rows": 4_000,
            "labelled_rows": 700,
            "compared_rows": 3_000,
            "equal_rows": 3_000,
            "refused_rows": 2,
            "not_finite_rows": 0,
            "agreement": 0.91,
            "output_shift": 0.02,
            "estimated_drop": None,
            "quality": {"metric": "accuracy", "pairs": 700, "margin": 0.01, "gain": -0.02, "low": -0.05, "high": 0.01},
        },
        "history": history,
        "arms": [{"arm": "champion", "version": 6, "share": 0.5}, {"arm": "candidate", "version": 7, "share": 0.5}],
        "sampled_keys": {"counts": {}, "is_mismatch": True},
        "rewards": {
            "until": hours[3],
            "arms": {"champion": {"count": 40, "mean": 0.25}, "candidate": {"count": 41, "mean": None}},
            "not_reported": 12,
            "log_e_better": -0.5,
            "log_e_worse": 2.5,
            "log_e_limit": 3.69,
        },
        "changes": changes,
        "changes_complete": True,
    }


def full_service() -> dict[str, Any]:
    """How a version came into service: by a release, after one that was rolled back, until a rollback."""
    period = {
        "since": "2026-05-04T05:00:00+00:00",
        "action": "model_promoted",
        "actor": "evaluate_release",
        "reason": "every stage passed",
        "release_id": "r-20260504T000000-0a1b2c3d",
        "until": "2026-05-06T05:00:00+00:00",
        "ended_by": "model_rolled_back by ada: complaints",
    }
    again = period | {"since": "2026-05-07T05:00:00+00:00", "release_id": None, "actor": "bob", "until": None}
    return {"periods": [again | {"ended_by": None}, period], "releases": [minimal_release(), full_release()]}
