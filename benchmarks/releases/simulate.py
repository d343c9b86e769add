"""Simulate releases: how often guards roll a harmless candidate back, and how fast they catch a harmful one.

Every stream is a week of hours of a canary with a fixed share. Each hour has Poisson requests, each request is assigned
by chance, or with its caller, and has bad events at its arm's rate. On the same streams: the guards of the product, all
of a release together; the same guards if requests, not callers, were the units; and three rules of thumb.

    python benchmarks/releases/simulate.py            # 600 streams a row; docs/benchmarks.md has the table
    python benchmarks/releases/simulate.py --streams 60 --seed 7
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from millrace.captures.traffic import LATENCY_GROUPS
from millrace.releases.evidence import GuardState
from millrace.releases.guards import BadEvents, is_worse, stage_odds
from millrace.routing import KEY_GROUPS

HOURS = 168
SHARE = 0.1
#: Rates of the champion's bad events by guard: errors, slow requests, requests without a finite number.
RATES = {"errors": 0.002, "slow": 0.05, "not_finite": 0.0005}
RATIOS = {"errors": 1.0, "slow": 1.5, "not_finite": 1.0}
GROUPS = {"errors": KEY_GROUPS, "slow": LATENCY_GROUPS, "not_finite": KEY_GROUPS}
#: Of the rules of thumb.
ALARM_RATE, Z_OF_5_PERCENT = 0.01, 1.645
#: Guards of a release; refusals by the candidate alone do not happen to a harmless one.
GUARDS = 4
CALLERS = 1_000

Counts = npt.NDArray[np.int64]  # of shape (hours,)
Generator = np.random.Generator


@dataclass(frozen=True)
class Stream:
    """A week: requests of both arms by hour, bad events of both by guard, and the candidate's by hour and group."""

    champion: Counts
    candidate: Counts
    champion_bad: dict[str, Counts]
    candidate_bad: dict[str, Counts]
    groups: dict[str, Counts]


@dataclass(frozen=True)
class Candidate:
    """A candidate by the factors of its rates.

    Requests have keys of their own. What a factor adds to errors are fallbacks, which the champion answers; other
    errors fail with either version. With ``of_callers``, the bad events of these guards follow from the callers: each
    has a part of them, by guard, and all its requests go to one arm.
    """

    name: str
    factors: Mapping[str, float] = field(default_factory=dict)
    of_callers: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    idle_giant: bool = False  # one caller has half of the requests, and no bad event

    def streams(self, per_hour: int, count: int, seed: int) -> Iterator[Stream]:
        """Yield weeks of its release."""
        generator = np.random.default_rng([seed, per_hour, len(self.name)])
        for _ in range(count):
            yield self._stream(generator, per_hour)

    def _stream(self, generator: Generator, per_hour: int) -> Stream:
        others = per_hour / 2 if self.idle_giant else per_hour
        active = [generator.poisson(others * part, HOURS) for part in (1 - SHARE, SHARE)]
        champion_bad, candidate_bad, groups = {}, {}, {}
        for name, rate in RATES.items():
            of_active = rate * per_hour / others
            champion_bad[name], found = (generator.binomial(requests, of_active) for requests in active)
            added = generator.binomial(active[1], min(1.0, of_active * (self.factors.get(name, 1.0) - 1.0)))
            if name in self.of_callers:
                champion_bad[name], groups[name] = _divide(generator, champion_bad[name] + found, self.of_callers[name])
            else:
                grouped = found if name == "errors" else found + added
                groups[name] = generator.multinomial(grouped, [1 / GROUPS[name]] * GROUPS[name])
            if GROUPS[name] != groups[name].shape[1]:
                groups[name] = groups[name].reshape(HOURS, -1, GROUPS[name]).sum(axis=1)
            candidate_bad[name] = groups[name].sum(axis=1) + (added if name == "errors" else 0)
        giant = generator.poisson(per_hour - others, HOURS)
        has_giant = generator.random() < SHARE
        champion, candidate = active[0] + giant * (not has_giant), active[1] + giant * has_giant
        return Stream(champion, candidate, champion_bad, candidate_bad, groups)


def _divide(generator: Generator, events: Counts, parts: npt.NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Return the champion's events by hour, and the candidate's by hour and group, where each is a caller's.

    What callers leave of the events comes with keys of their own.
    """
    rest = 1.0 - parts.sum()
    of_callers = generator.multinomial(events, [*parts, max(0.0, rest)])
    is_candidate = generator.random(len(parts)) < SHARE
    alone = generator.binomial(of_callers[:, -1], SHARE)
    groups = generator.multinomial(alone, [1 / KEY_GROUPS] * KEY_GROUPS)
    for caller in np.flatnonzero(is_candidate):
        groups[:, generator.integers(KEY_GROUPS)] += of_callers[:, caller]
    return events - groups.sum(axis=1), groups


_HALF = np.array([0.5])
_ZIPF = 1 / np.arange(1, CALLERS + 1)
CANDIDATES = (
    Candidate("harmless"),
    Candidate("harmless; half of the errors are one caller's", of_callers={"errors": _HALF}),
    Candidate("harmless; half of the slow requests are one caller's", of_callers={"slow": _HALF}),
    Candidate("harmless; 1,000 callers have the errors, by Zipf's law", of_callers={"errors": _ZIPF / _ZIPF.sum()}),
    Candidate("harmless; half of the requests are one caller's, who has no errors", idle_giant=True),
    Candidate("errors x5", {"errors": 5.0}),
    Candidate("errors x25", {"errors": 25.0}),
    Candidate("slow: 5 % to 20 %", {"slow": 4.0}),
)


def guards(stream: Stream, by_caller: bool = True) -> int | None:
    """Return the hour in which a guard of the product rolls back; None if none does."""
    states = dict.fromkeys(RATES, GuardState())
    opened = 0
    for hour in range(HOURS):
        window = slice(opened, hour + 1)
        champion, candidate = int(stream.champion[window].sum()), int(stream.candidate[window].sum())
        # Hourly, as low traffic has it; a tick every five minutes closes windows of so many requests earlier.
        if champion + candidate == 0:
            continue
        opened = hour + 1
        odds = stage_odds(int(stream.champion[:opened].sum()), int(stream.candidate[:opened].sum()), SHARE)
        if not by_caller:
            odds = candidate / champion if candidate and champion else None
        for name in RATES:
            bad = int(stream.champion_bad[name][window].sum()), int(stream.candidate_bad[name][window].sum())
            of_groups = stream.groups[name][window].sum(axis=0)
            groups = {int(group): int(of_groups[group]) for group in np.flatnonzero(of_groups)} if by_caller else {}
            states[name] = states[name].add(BadEvents(champion, candidate, *bad, groups), RATIOS[name], odds)
            if is_worse(states[name].log_e, GUARDS):
                return hour
    return None


def requests_as_units(stream: Stream) -> int | None:
    """Return what :func:`guards` does if bad events are taken for independent, and shares are those of a window."""
    return guards(stream, by_caller=False)


def twice_the_rate(stream: Stream) -> int | None:
    """Return the first hour in which the candidate's rate of errors is over twice the champion's."""
    candidate = stream.candidate_bad["errors"] / np.maximum(stream.candidate, 1)
    champion = stream.champion_bad["errors"] / np.maximum(stream.champion, 1)
    return _first((candidate > 2 * champion) & (stream.candidate_bad["errors"] > 0))


def alarm(stream: Stream) -> int | None:
    """Return the first hour in which more than 1 % of the candidate's requests fail."""
    return _first(stream.candidate_bad["errors"] / np.maximum(stream.candidate, 1) > ALARM_RATE)


def peeked_test(stream: Stream) -> int | None:
    """Return the first hour in which a two-proportion z-test of all so far has a p-value below 5 %."""
    x, y = stream.candidate_bad["errors"].cumsum(), stream.champion_bad["errors"].cumsum()
    n, m = np.maximum(stream.candidate.cumsum(), 1), np.maximum(stream.champion.cumsum(), 1)
    pooled = (x + y) / (n + m)
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    z = np.divide(x / n - y / m, deviation, out=np.zeros(len(x)), where=deviation > 0)
    return _first(z > Z_OF_5_PERCENT)


def _first(found: npt.NDArray[np.bool_]) -> int | None:
    return int(found.argmax()) if found.any() else None


RULES: dict[str, Callable[[Stream], int | None]] = {
    "guards of a release": guards,
    "guards, with requests as units": requests_as_units,
    "twice the champion's rate": twice_the_rate,
    "alarm above 1 %": alarm,
    "z-test, evaluated hourly": peeked_test,
}


def main() -> None:
    """Print a table: share of streams rolled back, and the median hour in which they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="those candidates whose name contains this")
    chosen = parser.parse_args()
    print(f"share {SHARE:.0%}, {HOURS} hours, {chosen.streams} streams, seed {chosen.seed}")
    print("| candidate | rule | 50 requests/h | 500 | 5,000 |\n|---|---|---|---|---|")
    for candidate in (one for one in CANDIDATES if chosen.only in one.name):
        found: dict[int, list[list[int | None]]] = {rate: [[] for _ in RULES] for rate in (50, 500, 5_000)}
        for rate, hours in found.items():
            for stream in candidate.streams(rate, chosen.streams, chosen.seed):
                for rule, each in zip(RULES.values(), hours, strict=True):
                    each.append(rule(stream))
        for place, name in enumerate(RULES):
            cells = []
            for hours in found.values():
                caught = [hour for hour in hours[place] if hour is not None]
                median = f" · {int(np.median(caught)) + 1} h" if caught and candidate.factors else ""
                cells.append(f"{len(caught) / len(hours[place]):.1%}{median}")
            print(f"| {candidate.name} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
