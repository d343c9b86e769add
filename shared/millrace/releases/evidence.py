"""Evidence of a release: counts of both arms, and what its guards have made of them so far.

The counts come from the hourly record of traffic, by the arm that each request was *assigned* to, whoever answered it.
They hold every request, whatever is captured. A window is what came since the last one was closed; it is closed by its
number of requests or by its age.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from millrace.captures.traffic import TrafficCounts, TrafficHour, add_counts, arm_key, count_difference
from millrace.documents import Record, to_plain
from millrace.entities import Release
from millrace.releases.guards import (
    ALPHA,
    BadEvents,
    bound_rate,
    is_worse,
    leave_out_repeats,
    log_e_value,
    stage_odds,
    update_repeats,
    update_wealth,
    update_wealth_alone,
)
from millrace.releases.replay_evidence import ReplayEvidence
from millrace.releases.rewards import RewardEvidence
from millrace.releases.shares import KeyShares
from millrace.routing import CANDIDATE_ARM, CHAMPION_ARM
from millrace.spec.release import TRAFFIC_GUARDS, ReleaseSpec, TrafficGuard

#: A window is closed when it holds so many requests, or is so old.
WINDOW_REQUESTS = 200
WINDOW_TIME = timedelta(hours=1)
#: Candidates are a little slower at first; errors are not tolerated.
_RATIOS: Mapping[TrafficGuard, float] = {"errors": 1.0, "slow": 1.5, "refusals": 1.0, "not_finite": 1.0}
#: Share of the champion's requests, on the day before, that are slow.
_SLOW_SHARE = 0.05
#: Requests of that day without which no latency is slow.
_LEAST_TIMED = 100
#: Most points of a release's history.
MAX_POINTS = 200


class ArmCounts(Record, frozen=True, kw_only=True, eq=False):
    """Counts of the requests that each arm was assigned."""

    champion: TrafficCounts = TrafficCounts()
    candidate: TrafficCounts = TrafficCounts()

    @property
    def requests(self) -> int:
        """Requests of both arms that count as evidence."""
        return count_evidence(self.champion) + count_evidence(self.candidate)

    def since(self, earlier: "ArmCounts") -> "ArmCounts":
        """Return the counts that came after earlier ones."""
        champion = count_difference(self.champion, earlier.champion)
        return ArmCounts(champion=champion, candidate=count_difference(self.candidate, earlier.candidate))

    def without_keys(self) -> "ArmCounts":
        """Return the counts without the marks of keys."""
        champion, candidate = (
            msgspec.structs.replace(arm, keys=frozenset()) for arm in (self.champion, self.candidate)
        )
        return ArmCounts(champion=champion, candidate=candidate)

    def bad_events(self, guard: TrafficGuard, slow_over_ms: float | None) -> BadEvents:
        """Return the bad events of a guard by arm."""
        champion, candidate = self.champion, self.candidate
        fell_back = candidate.fallbacks
        groups: Mapping[int, int] = {}
        # Where the candidate raised or refused and the champion answered the same request, the caller is not to blame.
        if guard == "errors":
            bad = champion.errors, candidate.errors + fell_back.get("error", 0) + fell_back.get("not_loaded", 0)
            groups = candidate.groups.get("5xx", {})
        elif guard == "refusals":
            bad = 0, fell_back.get("refused", 0)
        elif guard == "not_finite":
            bad = champion.not_finite, fell_back.get("not_finite", 0)
            groups = candidate.groups.get("not_finite", {})
        elif slow_over_ms is None:
            bad = 0, 0
        else:
            bad = champion.slower_than(slow_over_ms), candidate.slower_than(slow_over_ms)
            groups = candidate.slower_by_group(slow_over_ms)
        return BadEvents(count_evidence(champion), count_evidence(candidate), *bad, groups)


def count_evidence(counts: TrafficCounts) -> int:
    """Return the number of requests that say something of their arm: those that every version refuses do not."""
    return counts.requests - counts.refused


class GuardState(Record, frozen=True, kw_only=True, eq=False):
    """A guard so far: logarithms of its alternatives' ratios, windows, and both arms' bad events.

    ``repeats`` are the parts of the ratios by group of keys, without each group's first event.
    """

    log_wealth: tuple[float, ...] = ()
    repeats: dict[int, tuple[float, ...]] = {}  # noqa: RUF012  # msgspec copies the default
    windows: int = 0
    champion_bad: int = 0
    candidate_bad: int = 0
    champion_requests: int = 0
    candidate_requests: int = 0

    def add_alone(self, events: BadEvents, before: BadEvents, ratio: float, alpha: float) -> "GuardState":
        """Return the state after one more window of a candidate that serves alone.

        Parameters
        ----------
        before : BadEvents
            Of the champion, before.
        alpha : float
            Probability that the bound of the champion's rate is too low.
        """
        wealth = self.log_wealth
        if before.champion_requests:
            rate = min(1.0, ratio * bound_rate(before.champion_bad, before.champion_requests, alpha))
            wealth = update_wealth_alone(wealth, events.candidate_bad, events.candidate_requests, rate)
        return GuardState(
            log_wealth=wealth,
            windows=self.windows + 1,
            champion_bad=before.champion_bad,
            candidate_bad=self.candidate_bad + events.candidate_bad,
            champion_requests=before.champion_requests,
            candidate_requests=self.candidate_requests + events.candidate_requests,
        )

    def add(self, events: BadEvents, ratio: float, odds: float | None) -> "GuardState":
        """Return the state after one more window; ``odds`` are :func:`~millrace.releases.guards.stage_odds`."""
        wealth, repeats = self.log_wealth, self.repeats
        if odds is not None:
            wealth = update_wealth(wealth, events, odds * ratio)
            repeats = dict(update_repeats(repeats, events, odds * ratio))
        return GuardState(
            log_wealth=wealth,
            repeats=repeats,
            windows=self.windows + 1,
            champion_bad=self.champion_bad + events.champion_bad,
            candidate_bad=self.candidate_bad + events.candidate_bad,
            champion_requests=self.champion_requests + events.champion_requests,
            candidate_requests=self.candidate_requests + events.candidate_requests,
        )

    @property
    def log_e(self) -> float:
        """Natural logarithm of the e-value, in which one caller counts once."""
        return log_e_value(leave_out_repeats(self.log_wealth, self.repeats))


class Evidence(Record, frozen=True, kw_only=True, eq=False):
    """Evidence of a release; ``counted`` are the counts of the present stage in windows that are closed."""

    begun: bool = False
    slow_over_ms: float | None = None  # none where the champion had too few requests on the day before
    window_since: datetime | None = None
    counted: ArmCounts = ArmCounts()
    earlier: dict[str, int] = {}  # noqa: RUF012  # requests of the stages before by arm
    #: The champion's requests of the day before and of the stage ``preload``, which ``blue_green`` compares with.
    before: TrafficCounts = TrafficCounts()
    preloaded: TrafficCounts = TrafficCounts()
    shares: KeyShares = KeyShares()
    rewards: RewardEvidence | None = None
    replay: ReplayEvidence | None = None
    window_requests: int = 0  # of the last window that was closed
    window_unloaded: int = 0  # of them, those in environments that lacked the candidate
    guards: dict[str, GuardState] = {}  # noqa: RUF012  # msgspec copies the default

    def pass_stage(self, counts: ArmCounts, now: datetime, preloaded: TrafficCounts | None = None) -> "Evidence":
        """Return the evidence at the beginning of the stage after one with these counts."""
        changes: dict[str, Any] = {"counted": ArmCounts(), "earlier": self.requests_with(counts), "window_since": now}
        changes["shares"] = self.shares.pass_stage()
        changes["preloaded"] = self.preloaded if preloaded is None else preloaded
        return msgspec.structs.replace(self, **changes, window_requests=0, window_unloaded=0)

    def requests_with(self, counts: ArmCounts) -> dict[str, int]:
        """Return the number of requests by arm, of the present stage with these counts and of those before."""
        present = {CHAMPION_ARM: count_evidence(counts.champion), CANDIDATE_ARM: count_evidence(counts.candidate)}
        return {arm: self.earlier.get(arm, 0) + requests for arm, requests in present.items()}

    @classmethod
    def of(cls, release: Release) -> "Evidence":
        """Read a release's evidence."""
        return msgspec.convert(dict(release.evidence), cls, strict=False)

    def write(self) -> dict[str, Any]:
        """Return the evidence as it is stored."""
        document: dict[str, Any] = to_plain(self)
        return document

    def begin(self, release: Release, day_before: Sequence[TrafficHour], now: datetime) -> "Evidence":
        """Return the evidence with the latency that is slow, which no request of the release decides."""
        spec = release.spec
        slow = (spec.guards.get("slow") if "slow" in spec.guards else None) or None
        over = slow.over_ms if slow else None
        earlier = add_counts(hour.total for hour in day_before)
        if over is None:
            is_enough = sum(earlier.latencies.values()) >= _LEAST_TIMED
            over = earlier.latency_quantile(1.0 - _SLOW_SHARE) if is_enough else None
        before = TrafficCounts()
        if spec.strategy == "blue_green":
            of_champion = [hour.versions[release.baseline] for hour in day_before if release.baseline in hour.versions]
            # The hour of the beginning holds requests of the release, which are counted as such.
            before = count_difference(add_counts(of_champion), count_stage(release, day_before).champion)
        return msgspec.structs.replace(self, begun=True, slow_over_ms=over, before=before, window_since=now)

    def close_window(self, counts: ArmCounts, release: Release, now: datetime) -> "Evidence":
        """Return the evidence after the present window."""
        spec, window = release.spec, counts.since(self.counted)
        keys = {CHAMPION_ARM: window.champion.keys, CANDIDATE_ARM: window.candidate.keys}
        shares = {CHAMPION_ARM: 1.0 - release.weight, CANDIDATE_ARM: release.weight}
        guards = dict(self.guards)
        odds = stage_odds(count_evidence(counts.champion), count_evidence(counts.candidate), release.weight)
        for name, ratio in guard_ratios(spec).items():
            state, events = guards.get(name, GuardState()), window.bad_events(name, self.slow_over_ms)
            if spec.strategy == "blue_green":
                alpha = ALPHA / count_tests(spec)
                guards[name] = state.add_alone(events, self._events_before(name), ratio, alpha)
            else:
                guards[name] = state.add(events, ratio, odds)
        return msgspec.structs.replace(
            self,
            counted=counts.without_keys(),
            window_since=now,
            guards=guards,
            shares=self.shares.add(keys, shares),
            window_requests=window.requests,
            window_unloaded=window.champion.unloaded,
        )

    def _events_before(self, guard: TrafficGuard) -> BadEvents:
        """Return the champion's bad events before it stopped to serve.

        Whether its predictions were finite is counted during releases alone, and nobody refused for a candidate then.
        """
        seen = self.before + self.preloaded if guard in ("errors", "slow") else self.preloaded
        return ArmCounts(champion=seen).bad_events(guard, self.slow_over_ms)

    def is_due(self, counts: ArmCounts, now: datetime) -> bool:
        """Return True when the present window is to be closed."""
        new = counts.requests - self.counted.requests
        is_old = self.window_since is not None and now - self.window_since >= WINDOW_TIME
        return new >= WINDOW_REQUESTS or (is_old and new > 0)

    @property
    def log_es(self) -> dict[str, float]:
        """Natural logarithm of the e-value by guard."""
        found = {name: state.log_e for name, state in self.guards.items()}
        quality = self.replay.quality if self.replay else None
        return found | ({"quality": quality.log_e_worse} if quality else {})

    def find_worse(self, tests: int) -> TrafficGuard | None:
        """Return the guard with the largest e-value of those that find the candidate worse."""
        worse = [name for name in TRAFFIC_GUARDS if name in self.guards and is_worse(self.guards[name].log_e, tests)]
        return max(worse, key=lambda name: self.guards[name].log_e, default=None)


def count_tests(spec: ReleaseSpec) -> int:
    """Return the number of tests that share the error probability of a release.

    Each guard is one, or two where the champion's rate before is estimated as well.
    """
    return len(spec.traffic_guards) * (2 if spec.strategy == "blue_green" else 1) + len(spec.replay_guards)


def guard_ratios(spec: ReleaseSpec) -> dict[TrafficGuard, float]:
    """Return the tolerated ratio of each guard on the record of traffic that is on."""
    chosen = {name: spec.guards.get(name) for name in spec.traffic_guards}
    return {
        name: _RATIOS[name] if guard is None or guard.ratio is None else guard.ratio for name, guard in chosen.items()
    }


def add_point(
    history: Sequence[Mapping[str, Any]], release: Release, evidence: "Evidence", now: datetime
) -> tuple[Mapping[str, Any], ...]:
    """Return the history with the evidence of now; of a full one, every second point before it is left out."""
    point = {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "stage": release.stage,
        "weight": release.weight,
        "log_e": {name: round(log_e, 4) for name, log_e in evidence.log_es.items()},
        "requests": evidence.requests_with(evidence.counted),
    }
    kept = history[::2] if len(history) >= MAX_POINTS else history
    return (*kept, point)


def count_stage(release: Release, hours: Iterable[TrafficHour]) -> ArmCounts:
    """Return the counts of a release's present stage; several candidates are counted together."""
    known = list(hours)
    keys = {arm: arm_key(release.release_id, release.stage, arm) for arm in (CHAMPION_ARM, *release.candidates)}
    counts = {arm: [hour.arms[key] for hour in known if key in hour.arms] for arm, key in keys.items()}
    champion = add_counts(counts.pop(CHAMPION_ARM))
    return ArmCounts(champion=champion, candidate=add_counts(one for many in counts.values() for one in many))
