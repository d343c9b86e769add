"""Simulate releases: how often guards roll a harmless candidate back, and how fast they catch a harmful one.

Every stream is a week of hours of a canary with a fixed share. Each hour has Poisson requests, each request is assigned
by chance, and has bad events at its arm's rate. On the same streams: the guards of the product, all of a release
together, and three rules of thumb.

    python benchmarks/releases/simulate.py            # 600 streams a row; docs/benchmarks.md has the table
    python benchmarks/releases/simulate.py --streams 60 --seed 7
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from millrace.releases.evidence import GuardState
from millrace.releases.guards import BadEvents, is_worse

HOURS = 168
SHARE = 0.1
#: Rates of the champion's bad events by guard: errors, slow requests, requests without a finite number.
RATES = {"errors": 0.002, "slow": 0.05, "not_finite": 0.0005}
RATIOS = {"errors": 1.0, "slow": 1.5, "not_finite": 1.0}
#: Of the rules of thumb.
ALARM_RATE, Z_OF_5_PERCENT = 0.01, 1.645
#: Guards of a release; refusals by the candidate alone do not happen to a harmless one.
GUARDS = 4

Counts = npt.NDArray[np.int64]  # of shape (hours,)


@dataclass(frozen=True)
class Stream:
    """A week: requests of both arms by hour, and bad events of both by guard."""

    champion: Counts
    candidate: Counts
    champion_bad: dict[str, Counts]
    candidate_bad: dict[str, Counts]


@dataclass(frozen=True)
class Candidate:
    """A candidate by the factors of its rates.

    With ``one_caller``, half of all errors are those of one caller, whose requests all go to one arm: routing keys are
    sticky.
    """

    name: str
    factors: dict[str, float]
    one_caller: bool = False

    def streams(self, per_hour: int, count: int, seed: int) -> Iterator[Stream]:
        """Yield weeks of its release."""
        generator = np.random.default_rng([seed, per_hour, len(self.name)])
        for _ in range(count):
            champion = generator.poisson(per_hour * (1 - SHARE), HOURS)
            candidate = generator.poisson(per_hour * SHARE, HOURS)
            champion_bad = {name: generator.binomial(champion, rate) for name, rate in RATES.items()}
            candidate_bad = {
                name: generator.binomial(candidate, min(1.0, rate * self.factors.get(name, 1.0)))
                for name, rate in RATES.items()
            }
            if self.one_caller:
                everywhere = champion_bad["errors"] + candidate_bad["errors"]
                of_caller = generator.binomial(everywhere, 0.5)
                others = generator.binomial(everywhere - of_caller, SHARE)
                candidate_bad["errors"] = others + (of_caller if generator.random() < SHARE else 0)
                champion_bad["errors"] = everywhere - candidate_bad["errors"]
            yield Stream(champion, candidate, champion_bad, candidate_bad)


CANDIDATES = (
    Candidate("harmless", {}),
    Candidate("harmless; half of the errors are one caller's", {}, one_caller=True),
    Candidate("errors x5", {"errors": 5.0}),
    Candidate("errors x25", {"errors": 25.0}),
    Candidate("slow: 5 % to 20 %", {"slow": 4.0}),
)


def guards(stream: Stream) -> int | None:
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
        for name in RATES:
            bad = int(stream.champion_bad[name][window].sum()), int(stream.candidate_bad[name][window].sum())
            states[name] = states[name].add(BadEvents(champion, candidate, *bad), RATIOS[name])
            if is_worse(states[name].log_wealth, GUARDS):
                return hour
    return None


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
    "twice the champion's rate": twice_the_rate,
    "alarm above 1 %": alarm,
    "z-test, evaluated hourly": peeked_test,
}


def main() -> None:
    """Print a table: share of streams rolled back, and the median hour in which they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print(f"share {SHARE:.0%}, {HOURS} hours, {chosen.streams} streams, seed {chosen.seed}")
    print("| candidate | rule | 50 requests/h | 500 | 5,000 |\n|---|---|---|---|---|")
    for candidate in CANDIDATES:
        streams = {rate: list(candidate.streams(rate, chosen.streams, chosen.seed)) for rate in (50, 500, 5_000)}
        for name, rule in RULES.items():
            cells = []
            for found in streams.values():
                hours = [hour for hour in map(rule, found) if hour is not None]
                median = f" · {int(np.median(hours)) + 1} h" if hours and candidate.factors else ""
                cells.append(f"{len(hours) / len(found):.1%}{median}")
            print(f"| {candidate.name} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
