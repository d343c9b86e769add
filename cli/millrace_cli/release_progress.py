"""Drawing of releases: stages, shares and evidence so far, once or until the release ends."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.quantities import format_duration, format_share
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.live_display import LiveDisplay
from millrace_cli.output import Document, facts_table, format_timestamp, format_value, make_table

#: Time between two evaluations, as the schedule of :mod:`millrace.releases.driver` has it.
EVALUATION_TIME = timedelta(minutes=5)
ACTIVE = ("running", "paused")

#: Off a terminal, a line at least this often shows that the command is alive.
_HEARTBEAT = timedelta(minutes=1)
_BAR_WIDTH = 24
_MOST_REASON = 200
_STATUS_STYLES = {"running": "cyan", "paused": "yellow", "completed": "green", "rolled_back": "red"}


def follow_release(
    api: ApiClient, release: Document, poll_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Document]:
    """Yield a release, and again after each poll, until it has ended."""
    yield release
    while release["status"] in ACTIVE:
        sleep(poll_seconds)
        release = api.get(f"/models/{release['model']}/releases/{release['release_id']}")
        yield release


class ReleaseProgress(LiveDisplay):
    """Display of a release until it ends.

    Parameters
    ----------
    console : rich Console
        A terminal is redrawn in place; other outputs get one line per change.
    as_json : bool
        Print each change as JSON in one line.
    clock : callable
        Returns the time.
    """

    def __init__(
        self, console: Console, *, as_json: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._console = console
        self._as_json = as_json
        self._clock = clock
        self._release: Document | None = None
        self._shown: tuple[Any, ...] = ()
        self._printed_at = clock()
        self._live: Live | None = None
        if console.is_terminal and not as_json:
            # Between two polls the times that are left go on.
            self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=2, transient=True)

    def show(self, release: Document) -> None:
        """Show a release as it is now; one that has ended stays on the terminal."""
        is_changed, self._release = release != self._release, release
        if self._as_json:
            if is_changed:
                self._console.print(json.dumps(release), soft_wrap=True, markup=False)
            return
        if self._live:
            if release["status"] not in ACTIVE:
                self._live.stop()
                self._console.print(self._draw())
            return
        now, state = self._clock(), (release["status"], release["stage"], release["decision"])
        if state != self._shown or now - self._printed_at >= _HEARTBEAT:
            self._shown, self._printed_at = state, now
            self._console.print(Text(f"[{now:%H:%M:%S} UTC] {release_line(release, now)}"), soft_wrap=True)

    def _draw(self) -> RenderableType:
        return draw_release(self._release, self._clock()) if self._release else Text("reading the release")


def release_line(release: Document, now: datetime) -> str:
    """Return a release in one line: status, share, requests, the guard with the most evidence, the last decision."""
    parts = [f"{release['release_id']} {_status(release)} at {format_share(release['weight'])}"]
    if release["status"] in ACTIVE:
        requests = release["stage_requests"]["candidate"]
        parts.append(f"stage {release['stage'] + 1} of {len(release['steps'])}, {_bake_left(release, now)}")
        parts.append(f"{requests:,} of {release['policy']['min_requests']:,} requests of the candidate")
    if release["guards"]:
        most = max(release["guards"], key=lambda guard: guard["log_e"])
        parts.append(f"guard {most['guard']} at {most['log_e']:.2f} of {release['log_e_limit']:.2f}")
    return "; ".join([*parts, release["decision"]])


def draw_release(release: Document, now: datetime) -> RenderableType:
    """Return a release as facts and bars, and its guards as bars of evidence."""
    is_active = release["status"] in ACTIVE
    style = _STATUS_STYLES.get(release["status"], "yellow")
    requests, share = release["stage_requests"], release["weight"]
    rows: list[tuple[str, Any]] = [
        ("release", release["release_id"]),
        ("status", Text(f"{_status(release)}, {release['policy']['strategy']}", style=style)),
        ("versions", f"{release['candidate']} beside {release['baseline']}"),
        (
            "started",
            f"{format_timestamp(release['started_at'])} by {release['started_by']}: {_shorten(release['reason'])}",
        ),
        ("share", Text.assemble(_bar(share, style), f" {format_share(share)} by version {release['candidate']}")),
        ("stages", _draw_stages(release)),
    ]
    if is_active:
        least, by_champion = release["policy"]["min_requests"], f"{requests['champion']:,} by the champion"
        rows += [
            ("this stage", f"since {format_timestamp(release['stage_since'])}, {_bake_left(release, now)}"),
            (
                "requests",
                Text.assemble(
                    _bar(requests["candidate"] / least, "cyan"),
                    f" {requests['candidate']:,} of {least:,} by the candidate, {by_champion}",
                ),
            ),
            ("next evaluation", _next_evaluation(release, now)),
        ]
    else:
        rows.append(("ended", format_timestamp(release["ended_at"])))
    if release.get("arms"):
        rows.append(("arms", ", ".join(f"{one['arm']} {format_share(one['share'])}" for one in release["arms"])))
    if release.get("sampled_keys", {}).get("is_mismatch"):
        mismatch = "the arms' shares of the keys are not the plan's: records are missing, and no stage passes"
        rows.append(("sample ratio", Text(mismatch, style="red")))
    if release.get("replay"):
        rows.append(("replay", describe_replay(release["replay"])))
    rows += [("slow", describe_slow(release)), ("last decision", release["decision"])]
    parts: list[RenderableType] = [facts_table(rows), draw_guards(release)]
    return Group(*parts, draw_rewards(release["rewards"])) if release.get("rewards") else Group(*parts)


def describe_replay(replay: Document) -> str:
    """Return what replayed traffic says of the candidate, in one line."""
    if replay["status"] != "running":
        return f"{replay['status']}: {replay['reason']}"
    parts = [f"{replay['rows']:,} captured rows", f"{replay['labelled_rows']:,} with ground truth"]
    if replay["agreement"] is not None:
        parts.append(f"the same decision on {format_share(replay['agreement'])}")
    if quality := replay["quality"]:
        parts.append(
            f"{quality['metric']}: gain {quality['gain']:.4g} ({quality['low']:.4g} to {quality['high']:.4g}) on "
            f"{quality['pairs']:,} rows"
        )
    return ", ".join(parts)


def draw_rewards(rewards: Document) -> RenderableType:
    """Return the rewards of the arms, and the evidence that the candidate's are better or worse."""
    rows = [
        (arm.replace("_", " "), f"{one['count']:,}", format_value(one["mean"])) for arm, one in rewards["arms"].items()
    ]
    limit = rewards["log_e_limit"]
    evidence = [
        (name, Text.assemble(_bar(rewards[field] / limit, style), f" {rewards[field]:.2f} of {limit:.2f}"))
        for name, field, style in (("better", "log_e_better", "green"), ("worse", "log_e_worse", "red"))
    ]
    title = f"Rewards, with {rewards['not_reported']:,} outcomes not reported"
    headers = ("candidate is", "evidence (log e)")
    return Group(make_table(title, ("arm", "outcomes", "mean reward"), rows), make_table("", headers, evidence))


def draw_guards(release: Document) -> Table:
    """Return the guards as bars: the evidence that the candidate is worse, and the amount that rolls back."""
    limit = release["log_e_limit"]
    rows = [
        (
            guard["guard"],
            Text.assemble(
                _bar(guard["log_e"] / limit, "red" if guard["log_e"] >= limit else "yellow"),
                f" {guard['log_e']:.2f} of {limit:.2f}",
            ),
            f"{_amount(guard['candidate_bad'])} of {guard['candidate_requests']:,}",
            f"{_amount(guard['champion_bad'])} of {guard['champion_requests']:,}",
        )
        for guard in release["guards"]
    ]
    title = "Guards: a full bar rolls back" if rows else "Guards: no request was evaluated yet"
    return make_table(title, ("guard", "evidence (log e)", "candidate", "champion"), rows)


def _amount(bad: float) -> str:
    """Return a number of bad events, or a sum of losses, which need not be whole."""
    return f"{bad:,.0f}" if float(bad).is_integer() else f"{bad:,.1f}"


def describe_slow(release: Document) -> str:
    """Return the latency from which on a request is slow, or why there is none."""
    guards, over = release["policy"]["guards"], release["slow_over_ms"]
    if "slow" in guards and guards["slow"] is None:
        return "the guard is off"
    if over is not None:
        return f"over {format_value(over)} ms"
    if not release["is_begun"]:
        return "the first evaluation sets it, by the champion's requests of the day before"
    return "none: the champion had fewer than 100 requests on the day before, and the spec has no over_ms"


def _shorten(reason: str) -> str:
    """Return the beginning of a reason: the gate's fill a terminal, and the page has all of it."""
    return reason if len(reason) <= _MOST_REASON else f"{reason[: _MOST_REASON - 1]}…"


def _status(release: Document) -> str:
    return str(release["status"]).replace("_", " ")


def _bar(share: float, style: str) -> tuple[str, str]:
    full = round(_BAR_WIDTH * min(1.0, max(0.0, share)))
    return "█" * full + "░" * (_BAR_WIDTH - full), style


def _draw_stages(release: Document) -> Text:
    """Return the shares of the stages: those that are passed, the present or last one, and those to come."""
    text, present = Text(), release["stage"]
    is_completed = release["status"] == "completed"
    names = [
        kind if kind != "serve" else format_share(step)
        for kind, step in zip(release["stages"], release["steps"], strict=True)
    ]
    if release["steps"][-1] < 1.0:
        names.append(format_share(1.0))
    for place, name in enumerate(names):
        is_present = place == present and not is_completed
        mark = ("● ", "bold") if is_present else ("✓ ", "green") if is_completed or place < present else ("○ ", "dim")
        text = Text.assemble(text, "  " if place else "", mark, (name, mark[1]))
    return text


def _bake_left(release: Document, now: datetime) -> str:
    left = datetime.fromisoformat(release["bake_until"]) - now
    return f"{format_duration(left.total_seconds())} of its bake left" if left > timedelta() else "its bake is over"


def _next_evaluation(release: Document, now: datetime) -> str:
    """Return when the schedule, which began with the release, evaluates it next."""
    since = max(timedelta(), now - datetime.fromisoformat(release["started_at"]))
    left = EVALUATION_TIME - since % EVALUATION_TIME
    return f"in about {format_duration(left.total_seconds())}, or after a monitoring run"
