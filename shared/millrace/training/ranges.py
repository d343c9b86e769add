"""The ranges that a search draws from: from a point between 0 and 1 to a parameter's value."""

import math
from dataclasses import dataclass
from typing import Any

#: Significant digits of a drawn number: enough for every parameter, and a record can be read.
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between two bounds, both included.

    Parameters
    ----------
    low, high : float
        Bounds; positive where ``log``.
    log : bool, default=False
        Whether every factor is as likely as any other, rather than every difference.
    whole : bool, default=False
        Whether only whole numbers count.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, position: float) -> Any:
        """Return the value at ``position``, from 0 up to but not including 1."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        else:
            value = low + position * (high - low)
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def describe(self) -> str:
        """Return the range in words, for documents and faults."""
        scale = ", by factors" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Some values, each as likely as any other."""

    values: tuple[Any, ...]

    def at(self, position: float) -> Any:
        """Return the value at ``position``, from 0 up to but not including 1."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]

    def describe(self) -> str:
        """Return the values in words, for documents and faults."""
        return ", ".join(str(list(value) if isinstance(value, tuple) else value) for value in self.values)


Range = Interval | Choice
