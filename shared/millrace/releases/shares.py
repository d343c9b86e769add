"""Test of the shares of a release: the arms' parts of the routing keys are those of the plan.

Requests of one key go to one arm, so requests are not independent, and one caller's many requests are one draw. The
unit is the key: each one in a sample counts once, when it is first seen, and has an arm with the plan's probability. A
mismatch says that records of an arm are missing, as of environments that a candidate has crashed. Then nothing that is
compared between the arms can be trusted.

The test is Lindon and Malek's ("Anytime-valid inference for multinomial count data", NeurIPS 2022): the ratio of the
counts' probability under a Dirichlet prior around the plan's shares to that under the shares themselves. It holds at
every evaluation, and multiplies over stages, each of which has its own shares.
"""

import math
from collections.abc import Mapping

from millrace.documents import Record
from millrace.routing import order_marks

#: Probability that the shares of an intact release are ever found not to match.
MISMATCH_ALPHA = 0.01
#: Keys that are counted; more would change little, and each is remembered.
MAX_KEYS = 2_000
#: Concentration of the prior: it expects shares about as far off as those of a hundred keys are by chance.
_CONCENTRATION = 100.0


class KeyShares(Record, frozen=True, kw_only=True, eq=False):
    """Keys so far: their marks, their numbers by arm in the present stage, and the evidence of earlier stages."""

    seen: frozenset[str] = frozenset()
    counts: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the default
    earlier_log_e: float = 0.0
    log_e: float = 0.0

    def add(self, keys: Mapping[str, frozenset[str]], shares: Mapping[str, float]) -> "KeyShares":
        """Return the keys with those of a window by arm; ``shares`` are the plan's."""
        new = frozenset().union(*keys.values()) - self.seen
        taken = frozenset(sorted(new, key=order_marks)[: MAX_KEYS - len(self.seen)])
        if not taken:
            return self
        counts = {arm: self.counts.get(arm, 0) + len(keys.get(arm, frozenset()) & taken) for arm in shares}
        return KeyShares(
            seen=self.seen | taken,
            counts=counts,
            earlier_log_e=self.earlier_log_e,
            log_e=self.earlier_log_e + log_mismatch(counts, shares),
        )

    def pass_stage(self) -> "KeyShares":
        """Return the keys at the beginning of another stage."""
        return KeyShares(seen=self.seen, earlier_log_e=self.log_e, log_e=self.log_e)

    @property
    def is_mismatch(self) -> bool:
        """True when the shares do not match the plan's."""
        return self.log_e >= -math.log(MISMATCH_ALPHA)


def log_mismatch(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Return the logarithm of the e-value against the shares; an arm without a share says nothing."""
    arms = [arm for arm, share in shares.items() if share > 0.0]
    total = sum(counts.get(arm, 0) for arm in arms)
    found = math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + total)
    for arm in arms:
        prior, count = _CONCENTRATION * shares[arm], counts.get(arm, 0)
        found += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(shares[arm])
    return found
