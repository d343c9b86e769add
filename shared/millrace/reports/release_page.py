"""The page of a release: stages, shares, evidence over time, and who changed it and why."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from millrace.quantities import format_duration, format_number, format_share
from millrace.reports import charts
from millrace.reports.charts import Bar, Chart, Line
from millrace.reports.formatting import interval, metric_label, number, percent, short_number
from millrace.reports.render import Render, render

Document = Mapping[str, Any]

ACTIVE = ("running", "paused")
_TONES = {"running": "accent", "paused": "warn", "completed": "good", "superseded": "plain"}
#: Evidence and requests are drawn from so many points of the history on.
_FEWEST_POINTS = 2
#: More dots hide the curve.
_MOST_DOTS = 40
#: The longest time that is drawn in a unit, the unit in seconds, and its name.
_UNITS = ((180.0, 1.0, "seconds"), (7_200.0, 60.0, "minutes"), (259_200.0, 3_600.0, "hours"))
_DAY = (86_400.0, "days")
_STAGE_NAMES = {"replay": "replay of captured traffic", "preload": "every environment loads the candidate"}


def render_release_page(release: Document, now: datetime, write: Render = render) -> str:
    """Return the HTML page of a release.

    Parameters
    ----------
    release : mapping
        A release as the API describes it, with its ``changes``.
    now : datetime
        The end of what is drawn while the release is active.
    """
    is_active = release["status"] in ACTIVE
    end = now if release["ended_at"] is None else datetime.fromisoformat(release["ended_at"])
    status, share = str(release["status"]).replace("_", " "), format_share(release["weight"])
    return write(
        "release_page.html",
        release=release,
        status=f"{status} at {share}" if is_active else status,
        tone=_TONES.get(release["status"], "bad"),
        is_active=is_active,
        share=share,
        lasted=format_duration(_seconds(release, end)),
        bake_left=format_duration(max(0.0, -_seconds_since(release["bake_until"], end))),
        stages=[_stage_row(release, place) for place in range(len(release["steps"]))],
        shares=_share_chart(release, end),
        requests=_request_chart(release, end),
        by_arm=_requests_by_arm(release),
        guards=[_guard_panel(release, guard, end) for guard in release["guards"]],
        replay=_describe_replay(release.get("replay")),
        rewards=release.get("rewards"),
        reward_bars=_reward_bars(release.get("rewards")),
        is_mismatch=release.get("sampled_keys", {}).get("is_mismatch", False),
        versions={one["arm"]: one["version"] for one in release.get("arms", ())},
        rules=_rules(release),
    )


def _seconds_since(timestamp: str, end: datetime) -> float:
    return (end - datetime.fromisoformat(timestamp)).total_seconds()


def _seconds(release: Document, end: datetime) -> float:
    return max(0.0, _seconds_since(release["started_at"], end))


def _stage_row(release: Document, place: int) -> dict[str, Any]:
    """Return a stage: its share, its state, when it began and how long it took."""
    entered = [change["at"] for change in release["changes"] if change["action"] == "release_advanced"]
    begins = [release["started_at"], *entered]
    is_over = release["status"] not in ACTIVE
    ends = [*entered, release["ended_at"] if is_over else None]
    is_reached = place <= release["stage"]
    is_present = place == release["stage"] and not is_over
    is_passed = place < release["stage"] or release["status"] == "completed"
    state = ("present", "accent") if is_present else ("passed", "good") if is_passed and is_reached else None
    if state is None:
        state = ("ended here", "bad") if place == release["stage"] else ("not reached", "plain")
    began = begins[place] if place < len(begins) and is_reached else None
    ended = ends[place] if place < len(ends) and is_reached else None
    took = _seconds_since(began, datetime.fromisoformat(ended)) if began and ended else None
    kind = release["stages"][place]
    return {
        "name": _STAGE_NAMES.get(kind) or format_share(release["steps"][place]),
        "state": state,
        "began": began,
        "took": None if took is None else format_duration(max(0.0, took)),
    }


def _share_chart(release: Document, end: datetime) -> Chart:
    """Draw the candidate's share over time, by the ledger and the points of the history."""
    known = [(change["at"], change["weight"]) for change in release["changes"] if change["weight"] is not None]
    known += [(point["at"], point["weight"]) for point in release["history"]]
    started = release["started_at"]
    moves = sorted([(started, release["steps"][0]), *known], key=lambda one: datetime.fromisoformat(one[0]))
    if release["status"] not in ACTIVE:
        moves = [one for one in moves if datetime.fromisoformat(one[0]) < end]
        moves.append((release["ended_at"], release["weight"]))
    times, unit, name = _times(release, [at for at, _ in moves], end)
    weights = [weight for _, weight in moves]
    points = [(times[0], weights[0])]
    for (_, before), (place, weight) in pairwise(zip(times, weights, strict=True)):
        points += [(place, before), (place, weight)]
    last = _seconds(release, end) / unit
    points.append((last, weights[-1]))
    return charts.line_chart(
        [Line("", points)],
        description=f"Share of version {release['candidate']}, from {percent(weights[0])} to {percent(weights[-1])}",
        x_range=(0.0, last or 1.0),
        y_range=(0.0, 1.0),
        x_title=f"{name} since the start",
        y_title="share of the requests",
        y_write=percent,
    )


def _request_chart(release: Document, end: datetime) -> Chart | None:
    """Draw the requests by arm over time; None before there are enough points."""
    history = release["history"]
    if len(history) < _FEWEST_POINTS:
        return None
    times, unit, name = _times(release, [point["at"] for point in history], end)
    arms = sorted({arm for point in history for arm in point["requests"]}, key=lambda arm: (arm == "champion", arm))
    counts = {arm: [float(point["requests"].get(arm, 0)) for point in history] for arm in arms}
    lines = [
        Line(arm.replace("_", " "), [(0.0, 0.0), *zip(times, counts[arm], strict=True)], kind=kind)
        for arm, kind in zip(arms, _kinds(arms), strict=True)
    ]
    most = max(max(listed) for listed in counts.values())
    return charts.line_chart(
        lines,
        description=f"Requests evaluated by arm, {most:,.0f} at most",
        x_range=(0.0, _seconds(release, end) / unit or 1.0),
        y_range=(0.0, 1.05 * most or 1.0),
        x_title=f"{name} since the start",
        y_title="requests evaluated",
        y_write=short_number,
    )


def _kinds(arms: Sequence[str]) -> list[charts.LineKind]:
    return ["other" if arm == "champion" else "main" if arm == "candidate" else "bound" for arm in arms]


def _requests_by_arm(release: Document) -> list[Bar]:
    """Return the requests that were evaluated: of all stages where the history has them, else of the present one."""
    counted = (release["history"][-1]["requests"] if release["history"] else None) or release["stage_requests"]
    whole = sum(counted.values()) or 1
    return [Bar(arm.replace("_", " "), count / whole, f"{count:,}") for arm, count in counted.items()]


def _describe_replay(replay: Document | None) -> list[tuple[str, str]]:
    """Return what replayed traffic says of the candidate, as names and values."""
    if replay is None:
        return []
    rows, compared = replay["rows"], replay["compared_rows"]
    found = [
        ("Status", f"{replay['status']}: {replay['reason']}" if replay["reason"] else replay["status"]),
        ("Captured rows", f"{rows:,}, of which {replay['labelled_rows']:,} have ground truth"),
        ("Self-test", f"{replay['equal_rows']:,} of {compared:,} rows of the champion have the very same numbers"),
        ("Rows that the candidate cannot read", f"{replay['refused_rows']:,}"),
        ("Rows without a finite number", f"{replay['not_finite_rows']:,}"),
    ]
    shares = {"Same decision": replay["agreement"]}
    found += [(name, format_share(value)) for name, value in shares.items() if value is not None]
    numbers = {
        "Shift of the outputs (PSI beyond chance)": replay["output_shift"],
        "Estimated drop without ground truth": replay["estimated_drop"],
    }
    found += [(name, number(value)) for name, value in numbers.items() if value is not None]
    if quality := replay["quality"]:
        gain = f"{number(quality['gain'])} ({interval(quality['low'], quality['high'])})"
        tolerated = f"a loss of {number(quality['margin'])} is tolerated"
        found.append(
            (f"Gain in {metric_label(quality['metric'])}", f"{gain} on {quality['pairs']:,} rows; {tolerated}")
        )
    return found


def _reward_bars(rewards: Document | None) -> list[Bar]:
    """Return the evidence that the candidate's rewards are better, and that they are worse."""
    if rewards is None:
        return []
    limit = rewards["log_e_limit"]
    return [
        Bar(label, rewards[name] / limit, f"{format_number(rewards[name], 3)} of {limit:.2f}")
        for label, name in (("better", "log_e_better"), ("worse", "log_e_worse"))
    ]


def _guard_panel(release: Document, guard: Document, end: datetime) -> dict[str, Any]:
    """Return a guard with its evidence as a bar, and over time where there are points."""
    limit, name = release["log_e_limit"], guard["guard"]
    points = [point for point in release["history"] if name in point["log_e"]]
    is_worse = guard["log_e"] >= limit
    return {
        "guard": guard,
        "state": ("worse", "bad") if is_worse else ("no objection", "good"),
        "bar": Bar("evidence", guard["log_e"] / limit, f"{format_number(guard['log_e'], 3)} of {limit:.2f}"),
        "chart": _evidence_chart(release, name, points, end) if len(points) >= _FEWEST_POINTS else None,
    }


def _evidence_chart(release: Document, name: str, points: Sequence[Document], end: datetime) -> Chart:
    times, unit, unit_name = _times(release, [point["at"] for point in points], end)
    limit, sizes = release["log_e_limit"], [float(point["log_e"][name]) for point in points]
    last = _seconds(release, end) / unit or 1.0
    tips = [f"log e {format_number(size, 3)}" for size in sizes]
    low = min(0.0, *sizes)
    return charts.line_chart(
        [
            Line("rolls back", [(0.0, limit), (last, limit)], kind="reference"),
            Line("evidence", [(0.0, 0.0), *zip(times, sizes, strict=True)]),
            Line("", list(zip(times, sizes, strict=True)), stroke=False, dots=len(sizes) <= _MOST_DOTS, tips=tips),
        ],
        description=f"Evidence of the guard {name}, {format_number(sizes[-1], 3)} of {limit:.2f}",
        x_range=(0.0, last),
        y_range=(1.1 * low, 1.15 * max(limit, *sizes)),
        x_title=f"{unit_name} since the start",
        y_title="log e",
    )


def _times(release: Document, timestamps: Sequence[str], end: datetime) -> tuple[list[float], float, str]:
    """Return times since the start in the unit that suits the release's length, and that unit."""
    whole = _seconds(release, end)
    unit, name = next(((unit, name) for longest, unit, name in _UNITS if whole <= longest), _DAY)
    started = datetime.fromisoformat(release["started_at"])
    return [max(0.0, (datetime.fromisoformat(at) - started).total_seconds()) / unit for at in timestamps], unit, name


def _rules(release: Document) -> list[tuple[str, str]]:
    """Return the fields of the policy that say something, as text."""
    return [(name.replace("_", " "), _write(value)) for name, value in release["policy"].items() if value is not None]


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = [f"{name}: {'off' if one is None else _write(one)}" for name, one in value.items()]
        return ", ".join(part.removesuffix(": ") for part in parts) or "by default"
    if isinstance(value, list | tuple):
        return ", ".join(_write(one) for one in value) or "none"
    return str(value)
