"""Maturity of a model's operation: which practices are in use, by what the stack really does.

The levels are those of the AWS Prescriptive Guidance and of Google's *MLOps: Continuous delivery and automation
pipelines in machine learning*: by hand, repeatable, automated, and a loop that closes by itself. A model has the
highest level of which, and of all below, every practice is in use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace_cli.output import Document

LEVELS = ("manual", "pipelines", "automated", "transformational")


@dataclass(frozen=True, slots=True)
class Practice:
    """A practice of a level: its name, whether it is in use (None: not known), and the next step where it is not."""

    level: str
    name: str
    is_used: bool | None
    evidence: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Maturity:
    """Level of a model and its practices, from the lowest level up."""

    model: str
    level: str
    practices: tuple[Practice, ...]

    @property
    def next_steps(self) -> tuple[Practice, ...]:
        """Practices that are not in use, the lowest level first."""
        return tuple(one for one in self.practices if one.is_used is False)


def rate_overview(one: Document) -> Maturity:
    """Rate a model by its entry in ``GET /overview``: what only its own documents say is not known."""
    name, aliases = one["model"], one["aliases"]
    return _rate(name, _first_practices(name, one["latest_version"], aliases) + _health_practices(name, one))


def rate_model(overview: Document, spec: Document, feedback: Document) -> Maturity:
    """Rate a model by its overview, spec and coverage of ground truth."""
    name, state, entries = overview["model"], overview["state"], overview["entries"]
    actions = {entry["action"] for entry in entries}
    kinds = {run["kind"] for run in overview["runs"]}
    has_releases = bool(overview["releases"])
    strategy = _field(spec, "release", "strategy", "all_at_once")
    coverage = feedback.get("coverage") or 0.0
    practices = [
        *_first_practices(name, state["latest_version"], state["aliases"]),
        *_health_practices(name, overview["health"]),
        Practice(
            "pipelines",
            "the spec is written down",
            "spec_changed" in actions,
            "the ledger has a change of the spec" if "spec_changed" in actions else "every setting is the default",
            f"millrace spec show {name}; millrace spec apply {name} FILE --reason TEXT",
        ),
        Practice(
            "automated",
            "runs start without a person",
            bool(kinds & {"drift", "quality", "staleness", "schedule", "latency"}),
            f"causes of the last runs: {', '.join(sorted(kinds)) or 'none'}",
            f"give it retraining.schedule, as docs/spec.md shows: millrace spec show {name}",
        ),
        Practice(
            "automated",
            "versions are released by stages",
            strategy != "all_at_once" or has_releases,
            f"strategy: {strategy}",
            f"millrace spec set {name} release.strategy=canary",
        ),
        Practice(
            "automated",
            "ground truth comes back",
            coverage > 0.0,
            f"{coverage:.0%} of the predictions of the last week have it".replace("%", " %"),
            f"millrace feedback {name} outcomes.csv",
        ),
        Practice(
            "transformational",
            "a version was trained because of what production showed",
            bool(kinds & {"drift", "quality"}),
            "a run followed drift or falling quality" if kinds & {"drift", "quality"} else "none of the last runs did",
            f"millrace spec set {name} retraining.captured_rows=true",
        ),
        Practice(
            "transformational",
            "costs have a limit",
            bool(spec.get("spec", spec).get("budget")),
            "the spec has a budget" if spec.get("spec", spec).get("budget") else "the spec has no budget",
            f"millrace spec set {name} budget.usd_a_month=20",
        ),
    ]
    return _rate(name, practices)


def _first_practices(name: str, latest_version: int | None, aliases: Mapping[str, Any]) -> list[Practice]:
    champion = aliases.get("champion")
    return [
        Practice(
            "pipelines",
            "training is a pipeline",
            bool(latest_version),
            f"latest version: {latest_version or 'none'}",
            f"millrace train {name} FILE",
        ),
        Practice(
            "pipelines",
            "a champion serves",
            champion is not None,
            f"champion: version {champion}" if champion else "no champion",
            f"choose a version: millrace models {name}",
        ),
    ]


def _health_practices(name: str, health: Document) -> list[Practice]:
    is_off = bool(health["not_monitored"])
    return [
        Practice(
            "automated",
            "production is monitored",
            None if health["monitored_at"] is None and not is_off else not is_off,
            f"last monitored: {health['monitored_at'] or 'never'}",
            f"millrace spec set {name} monitoring.enabled=true",
        )
    ]


def _rate(model: str, practices: Sequence[Practice]) -> Maturity:
    ordered = sorted(practices, key=lambda one: LEVELS.index(one.level))
    level = LEVELS[0]
    for candidate in LEVELS[1:]:
        of_level = [one for one in ordered if one.level == candidate]
        if not of_level or any(not one.is_used for one in of_level):
            break
        level = candidate
    return Maturity(model, level, tuple(ordered))


def _field(spec: Document, *path: str | None) -> Any:
    *names, default = path
    value: Any = spec.get("spec", spec)
    for name in names:
        value = (value or {}).get(name) if isinstance(value, Mapping) else None
    return default if value is None else value
