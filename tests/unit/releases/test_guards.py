"""Guards: exact at three events, silent about harmless candidates and single callers, and additive over windows."""

import math
import random
from collections import Counter

import pytest
from millrace.captures.traffic import TrafficCounts
from millrace.releases.evidence import ArmCounts, GuardState
from millrace.releases.guards import ALTERNATIVES, BadEvents, is_worse, stage_odds

GUARDS = 4


def state_of(*windows: BadEvents, ratio: float = 1.0) -> GuardState:
    """Return a guard after windows that have the plan's shares."""
    found = GuardState()
    for window in windows:
        odds = window.candidate_requests / window.champion_requests if window.champion_requests else None
        found = found.add(window, ratio, odds or None)
    return found


def worse(state: GuardState, guards: int = GUARDS) -> bool:
    return is_worse(state.log_e, guards)


def test_three_errors_of_a_small_canary_alone_are_enough():
    assert not worse(state_of(BadEvents(1_900, 100, 0, 1)), guards=1)
    assert worse(state_of(BadEvents(1_900, 100, 0, 3)))


@pytest.mark.parametrize(
    "window",
    [
        BadEvents(0, 0, 0, 0),
        BadEvents(0, 100, 0, 50),  # nothing to compare with
        BadEvents(100, 0, 7, 0),
        BadEvents(900, 100, 0, 0),
    ],
)
def test_a_window_without_a_comparison_changes_nothing(window):
    state = state_of(window)
    assert set(state.log_wealth) <= {0.0}
    assert state.log_e == 0.0


def test_as_many_errors_as_the_champion_are_none_of_its_fault():
    assert not worse(state_of(*[BadEvents(900, 100, 90, 10)] * 100), guards=1)


def test_a_tolerated_ratio_is_tolerated():
    twice = [BadEvents(900, 100, 90, 20)] * 50
    assert worse(state_of(*twice, ratio=1.0))
    assert not worse(state_of(*twice, ratio=2.0), guards=1)


def test_evidence_survives_a_change_of_the_share():
    first, second = BadEvents(950, 50, 1, 1), BadEvents(500, 500, 0, 4)
    both = state_of(first, second).log_wealth
    each = zip(state_of(first).log_wealth, state_of(second).log_wealth, strict=True)
    assert both == pytest.approx([one + other for one, other in each])


def test_the_mean_of_the_e_value_is_at_most_one_where_the_candidate_is_as_good():
    """The expectation, by summation over the binomial distribution of both arms' bad events."""
    for share, n in ((0.05, 12), (0.3, 9), (0.5, 6)):
        champion, candidate = round(1_000 * (1 - share)), round(1_000 * share)
        expected = 0.0
        for bad in range(n + 1):
            probability = math.comb(n, bad) * share**bad * (1 - share) ** (n - bad)
            expected += probability * math.exp(state_of(BadEvents(champion, candidate, n - bad, bad)).log_e)
        assert expected == pytest.approx(1.0, abs=1e-9)


def test_harmless_candidates_are_rarely_found_worse_however_often_one_looks():
    generator, found = random.Random(0), 0
    for _ in range(150):
        state = GuardState()
        for _ in range(48):
            bad = sum(generator.random() < 0.02 for _ in range(120))
            of_candidate = sum(generator.random() < 0.1 for _ in range(bad))
            state = state.add(BadEvents(1_080, 120, bad - of_candidate, of_candidate), 1.0, 1 / 9)
            if worse(state, guards=1):
                found += 1
                break
    assert found <= 0.05 * 150 + 4


def test_alternatives_are_worse_than_tolerated():
    assert min(ALTERNATIVES) > 1.0
    assert list(ALTERNATIVES) == sorted(ALTERNATIVES)


class TestOneCaller:
    def test_counts_once_whatever_it_does(self):
        """One caller's forty errors are as much evidence as its first."""
        once, often = (state_of(BadEvents(900, 100, 0, bad, {7: bad})) for bad in (1, 40))
        assert often.log_e == pytest.approx(once.log_e)
        assert worse(state_of(BadEvents(900, 100, 0, 40)))

    def test_counts_once_over_windows_of_different_shares(self):
        first = BadEvents(900, 100, 1, 1, {7: 1})
        later = [BadEvents(500, 500, 0, 5, {7: 5}), BadEvents(900, 100, 0, 9, {7: 9})]
        assert state_of(first, *later).log_e == pytest.approx(state_of(first).log_e)

    def test_hides_no_candidate_that_fails_others(self):
        callers = dict.fromkeys(range(1, 5), 1)
        assert worse(state_of(BadEvents(900, 100, 0, 44, {**callers, 7: 40})))

    def test_that_only_the_champion_serves_and_that_never_fails_makes_no_candidate_look_worse(self):
        """Half of the requests are those of one caller without errors, so 5 % of them are the candidate's 10 %."""
        windows = [BadEvents(1_900, 100, 90, 10)] * 50
        odds = stage_odds(1_900, 100, 0.1)
        state = GuardState()
        for window in windows:
            state = state.add(window, 1.0, odds)
        assert worse(state_of(*windows))
        assert not worse(state)

    @pytest.mark.parametrize("requests", [(0, 10, 0.1), (10, 0, 0.1), (3, 97, 1.0)])
    def test_nothing_to_compare_with_has_no_odds(self, requests):
        assert stage_odds(*requests) is None

    def test_is_rarely_an_arm_s_fault(self):
        """Half of the errors are one caller's, and its arm is drawn once."""
        found = Counter[bool]()
        for seed in range(200):
            generator, state = random.Random(seed), GuardState()
            has_caller = generator.random() < 0.1
            for _ in range(48):
                others = [generator.random() < 0.1 for _ in range(2)]
                groups = Counter(generator.randrange(1, 257) for is_candidate in others if is_candidate)
                groups.update({7: 2} if has_caller else {})
                of_candidate = groups.total()
                state = state.add(BadEvents(900, 100, 4 - of_candidate, of_candidate, groups), 1.0, 1 / 9)
            found[worse(state)] += 1
        assert found[True] <= 0.05 * 200

    def test_is_known_where_the_request_may_be_at_fault(self):
        """A fallback says that the champion answered the same request."""
        candidate = TrafficCounts(
            requests=100,
            statuses={"2xx": 92, "5xx": 8},
            fallbacks={"error": 3, "refused": 2, "not_finite": 4},
            groups={"5xx": {7: 8}, "not_finite": {3: 4}},
            latencies={0: 60, 20: 32},
            latency_groups={0: {1: 60}, 20: {5: 32}},
        )
        counts = ArmCounts(champion=TrafficCounts(requests=900), candidate=candidate)
        found = {guard: counts.bad_events(guard, 10.0) for guard in ("errors", "refusals", "not_finite", "slow")}
        assert {guard: events.candidate_bad for guard, events in found.items()} == {
            "errors": 11,
            "refusals": 2,
            "not_finite": 4,
            "slow": 32,
        }
        assert {guard: dict(events.candidate_groups) for guard, events in found.items()} == {
            "errors": {7: 8},
            "refusals": {},
            "not_finite": {3: 4},
            "slow": {5: 32},
        }

    def test_evidence_of_an_earlier_release_begins_anew(self):
        """It has as many ratios as there were alternatives."""
        old = GuardState(log_wealth=(9.0,) * 24, windows=3)
        assert old.add(BadEvents(900, 100, 0, 1, {7: 1}), 1.0, 1 / 9).log_e == pytest.approx(
            state_of(BadEvents(900, 100, 0, 1, {7: 1})).log_e
        )
