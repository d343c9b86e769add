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

Where the candidate serves every request there is no champion beside it. Then its rate is compared with an upper bound
of the champion's rate before, and both halves of the error probability are spent: one on the bound, one on the test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Probability that a harmless candidate is rolled back by any guard of its release.
ALPHA = 0.05
#: Alternatives: the candidate's rate is so many times the tolerated one. Evenly spaced on a logarithmic scale.
ALTERNATIVES = tuple(1.25 * (400 / 1.25) ** (place / 23) for place in range(24))


@dataclass(frozen=True, slots=True)
class BadEvents:
    """Requests and bad events of a window by arm."""

    champion_requests: int
    candidate_requests: int
    champion_bad: int
    candidate_bad: int


def update_wealth(log_wealth: Sequence[float], events: BadEvents, ratio: float) -> tuple[float, ...]:
    """Return the log ratios against the null, of all alternatives, after one more window; begin with none."""
    before = tuple(log_wealth) or (0.0,) * len(ALTERNATIVES)
    champion, candidate = events.champion_requests, events.candidate_requests
    if not champion or not candidate or not (events.champion_bad or events.candidate_bad):
        return before
    odds = candidate / champion * ratio
    null = odds / (1.0 + odds)
    found = []
    for wealth, factor in zip(before, ALTERNATIVES, strict=True):
        share = odds * factor / (1.0 + odds * factor)
        gain = events.candidate_bad * math.log(share / null)
        found.append(wealth + gain + events.champion_bad * math.log((1.0 - share) / (1.0 - null)))
    return tuple(found)


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
    before = tuple(log_wealth) or (0.0,) * len(ALTERNATIVES)
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


def is_worse(log_wealth: Sequence[float], guards: int, alpha: float = ALPHA) -> bool:
    """Return True when the candidate is worse than tolerated, by one of a release's ``guards``."""
    return log_e_value(log_wealth) >= log_e_limit(guards, alpha)
