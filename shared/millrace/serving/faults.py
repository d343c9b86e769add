"""Collecting what is wrong with the rows of a request: all of it is counted, the first of it is told."""

from collections.abc import Mapping

from millrace.errors import FieldError, InvalidInputError

#: Faults that a refusal lists; the rest are counted.
MAX_FAULTS = 100
#: Faults that are told of one row, where the others are answered.
MAX_FAULTS_A_ROW = 20


class Faults:
    """What was found so far.

    Parameters
    ----------
    by_row : bool
        Whether every bad row has to be known, because the others will be answered.
    """

    def __init__(self, by_row: bool) -> None:
        self._by_row = by_row
        self._listed: list[FieldError] = []
        self._rows: dict[int, list[FieldError]] = {}
        self._of_all = 0
        self.total = 0

    def add(self, row: int, column: str, message: str) -> None:
        """Take down a bad value."""
        self.total += 1
        if len(self._listed) < MAX_FAULTS:
            self._listed.append(FieldError(f"row {row}: {column}", message))
        if self._by_row:
            of_row = self._rows.setdefault(row, [])
            if len(of_row) < MAX_FAULTS_A_ROW:
                of_row.append(FieldError(column, message))

    def add_column(self, column: str, message: str) -> None:
        """Take down what is wrong with every row."""
        self.total += 1
        self._of_all += 1
        if len(self._listed) < MAX_FAULTS:
            self._listed.append(FieldError(column, message))

    def bad_rows(self, n_rows: int) -> Mapping[int, tuple[FieldError, ...]]:
        """Return the faults of each bad row.

        Raises
        ------
        InvalidInputError
            When no row is good, or bad rows are not to be told apart.
        """
        if not self.total:
            return {}
        if not self._by_row or self._of_all or len(self._rows) == n_rows:
            rest = self.total - len(self._listed)
            more = f"; {rest} more are not listed" if rest else ""
            raise InvalidInputError(f"the rows have {count(self.total, 'bad field')}{more}", self._listed)
        return {row: tuple(faults) for row, faults in sorted(self._rows.items())}


def count(number: int, noun: str) -> str:
    """Return ``1 value``, ``2 values``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
