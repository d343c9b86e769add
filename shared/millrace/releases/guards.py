"""Guards of a release: tests of bad events that hold however often they are evaluated.

Given a bad event, whose was it? If the candidate's rate of bad events is at most ``ratio`` times the champion's, and
the candidate has the share ``w`` of a window's requests, then of the window's bad events the candidate's number ``x``
is at most binomial with the probability ``q0 = w ratio / (w ratio + 1 - w)``. (Given both arms' numbers of requests it
is hypergeometric, which is less spread; a likelihood ratio is convex in ``x``, so its mean is no larger, Hoeffding
1963.) For each of several alternatives the likelihood ratio against ``q0`` is multiplied over windows; their mean is a
test martingale at most, and by Ville's inequality exceeds ``1 / alpha`` at any time with a probability of ``alpha`` at
most (Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical
Science 2023).

Windows may have different shares, and end by their number of requests or by time, never by their bad events.

Requests of one routing key go to one arm, so the bad events of one caller are one draw, not many. Events that could be
the caller's as well as the candidate's are counted by groups of keys, and of the group that speaks most against the
candidate all events but the first are left out. So one caller counts once, whatever it does, and that is right: at its
first event its arm is a draw from the plan's shares. A candidate that fails everybody loses little by that. And ``w``
is no smaller than the plan's share: a large caller without bad events would make the other arm's share too small.

Where the candidate serves every request there is no champion beside it. Then its rate is compared with an upper bound
of the champion's rate before, and both halves of the error probability are spent: one on the bound, one on the test.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Probability that a harmless candidate is rolled back by any guard of its release.
ALPHA = 0.05
#: Alternatives: the candidate's rate is so many times the tolerated one. Evenly spaced on a logarithmic scale.
ALTERNATIVES = tuple(1.25 * (400 / 1.25) ** (place / 7) for place in range(8))

#: Gains of the candidate's events after the first, by group of keys, for all alternatives; empty for a first one.
Repeats = Mapping[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class BadEvents:
    """Requests and bad events of a window by arm.

    ``candidate_groups`` has those of the candidate's that may be the caller's, by group of keys where it is known.
    """

    champion_requests: int
    candidate_requests: int
    champion_bad: int
    candidate_bad: int
    candidate_groups: Mapping[int, int] = field(default_factory=dict)


def stage_odds(champion_requests: int, candidate_requests: int, weight: float) -> float | None:
    """Return the candidate's odds of a request in a stage: the larger of the plan's and of the requests so far.

    None where an arm has no requests, or the plan gives the champion none: there is nothing to compare with.
    """
    if not champion_requests or not candidate_requests or weight >= 1.0:
        return None
    return max(candidate_requests / champion_requests, weight / (1.0 - weight))


def update_wealth(log_wealth: Sequence[float], events: BadEvents, odds: float) -> tuple[float, ...]:
    """Return the log ratios against the null, of all alternatives, after one more window; begin with none.

    ``odds`` are those that a bad event is the candidate's, if its rate is the largest that is tolerated.
    """
    before = _begin(log_wealth)
    if not (events.champion_bad or events.candidate_bad):
        return before
    return tuple(
        wealth + events.candidate_bad * gain + events.champion_bad * loss
        for wealth, gain, loss in zip(before, *_gains(odds), strict=True)
    )


def update_repeats(repeats: Repeats, events: BadEvents, odds: float) -> Repeats:
    """Return the gains of the events after each group's first one, after one more window."""
    gains, found = _gains(odds)[0], dict(repeats)
    for group, bad in events.candidate_groups.items():
        repeated = bad if group in found else bad - 1
        before = found.get(group) or (0.0,) * len(ALTERNATIVES)
        if repeated:
            found[group] = tuple(value + repeated * gain for value, gain in zip(before, gains, strict=True))
        else:
            found[group] = found.get(group, ())
    return found


def leave_out_repeats(log_wealth: Sequence[float], repeats: Repeats) -> tuple[float, ...]:
    """Return the log ratios without the events, after its first one, of the group that gains most by them."""
    gained = [gains for gains in repeats.values() if gains]
    if not gained:
        return tuple(log_wealth)
    return tuple(wealth - max(gains) for wealth, *gains in zip(log_wealth, *gained, strict=True))


def _begin(log_wealth: Sequence[float]) -> tuple[float, ...]:
    """Return the log ratios before a window; those of other alternatives, of an earlier release, begin anew."""
    return tuple(log_wealth) if len(log_wealth) == len(ALTERNATIVES) else (0.0,) * len(ALTERNATIVES)


def _gains(odds: float) -> tuple[list[float], list[float]]:
    """Return the log ratios of a bad event of the candidate, and of the champion, for all alternatives."""
    null = odds / (1.0 + odds)
    shares = [odds * factor / (1.0 + odds * factor) for factor in ALTERNATIVES]
    return [math.log(share / null) for share in shares], [math.log((1.0 - share) / (1.0 - null)) for share in shares]


def bound_rate(bad: int, requests: int, alpha: float) -> float:
    """Return an upper confidence bound of a rate: the largest that Chernoff's inequality does not refute at ``alpha``.

    ``P(X <= b) <= exp(-n KL(b / n, p))`` for a binomial ``X`` and ``b <= n p`` (Hoeffding 1963, theorem 1).
    """
    observed, limit = bad / requests, math.log(1.0 / alpha) / requests
    low, high = observed, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        divergence = observed * math.log(observed / middle) if observed else 0.0
        if middle < 1.0 and observed < 1.0:
            divergence += (1.0 - observed) * math.log((1.0 - observed) / (1.0 - middle))
        low, high = (middle, high) if divergence <= limit and middle < 1.0 else (low, middle)
    return high


def update_wealth_alone(log_wealth: Sequence[float], bad: int, requests: int, rate: float) -> tuple[float, ...]:
    """Return the log ratios after a window without a control: the null is that events are bad at most at ``rate``.

    The likelihood ratio of a Bernoulli variable against a smaller probability has a mean of at most one for every
    probability below it.
    """
    before = _begin(log_wealth)
    if not requests or rate >= 1.0:
        return before
    odds = rate / (1.0 - rate)
    shares = [odds * factor / (1.0 + odds * factor) for factor in ALTERNATIVES]
    good = requests - bad
    return tuple(
        wealth + bad * math.log(share / rate) + good * math.log((1.0 - share) / (1.0 - rate))
        for wealth, share in zip(before, shares, strict=True)
    )


def log_e_value(log_wealth: Sequence[float]) -> float:
    """Return the natural logarithm of the e-value: the mean over the alternatives."""
    if not log_wealth:
        return 0.0
    largest = max(log_wealth)
    return largest + math.log(sum(math.exp(one - largest) for one in log_wealth) / len(log_wealth))


def log_e_limit(guards: int, alpha: float = ALPHA) -> float:
    """Return the evidence from which on a guard rolls back; ``alpha`` is shared by a release's ``guards``, if any."""
    return math.log(max(1, guards) / alpha)


def is_worse(log_e: float, guards: int, alpha: float = ALPHA) -> bool:
    """Return True when the candidate is worse than tolerated, by the e-value of one of a release's ``guards``."""
    return log_e >= log_e_limit(guards, alpha)
