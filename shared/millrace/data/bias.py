"""Bias of the data that was provided: how each declared sensitive group is represented, and how often it has the label.

What is compared is the data, not a model: a group that is rarely there, or that the label rarely falls to, will be
treated accordingly by whatever learns from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from millrace.data.findings import Finding, error, warning
from millrace.data.typed_table import TypedTable, missing_mask
from millrace.schema import MASK
from millrace.spec.data import TableChecks

#: A number with more different values than this makes no groups.
MAX_GROUPS = 50
#: Groups smaller than this have no rate worth comparing.
MIN_GROUP_ROWS = 30


@dataclass(frozen=True, slots=True)
class Group:
    """One value of a sensitive column.

    Parameters
    ----------
    name : str
        The value; empty where it is missing.
    rows : int
        How many rows have it.
    share : float
        Of all rows.
    label_rate : float or None
        Share of its rows with the second class of a binary target; None for other tasks.
    """

    name: str
    rows: int
    share: float
    label_rate: float | None


def describe_groups(table: TypedTable, name: str) -> list[Group]:
    """Return the groups that a column makes, the largest first."""
    values = table.columns[name]
    codes, different = pd.factorize(values, use_na_sentinel=False)
    names = np.where(missing_mask(different), "", different.astype(np.str_))
    rows = np.bincount(codes, minlength=len(names))
    rates: list[float | None] = [None] * len(names)
    if table.schema.task == "binary":
        positive = np.bincount(codes, weights=table.target() == 1, minlength=len(names))
        rates = (positive / np.maximum(rows, 1)).tolist()
    groups = [
        Group(str(word), int(count), float(count / len(table)), rate)
        for word, count, rate in zip(names, rows, rates, strict=True)
    ]
    return sorted(groups, key=lambda group: (-group.rows, group.name))


def find_bias(table: TypedTable, sensitive_groups: Sequence[str], checks: TableChecks) -> Iterator[Finding]:
    """Yield groups that are hardly represented, and columns whose groups have very different label rates.

    Parameters
    ----------
    table : TypedTable
        The accepted rows.
    sensitive_groups : sequence of str
        The columns that the spec declares.
    checks : TableChecks
        ``min_group_share`` and ``min_label_rate_ratio``.
    """
    known = {column.name: column for column in table.schema.columns}
    for name in sensitive_groups:
        if name not in known:
            yield error("bias", f"the sensitive group {name!r} is no column of the data", name)
            continue
        groups = [group for group in describe_groups(table, name) if group.name]
        if len(groups) > MAX_GROUPS:
            message = f"{name!r} has {len(groups):,} different values, too many to compare as groups; band them first"
            yield warning("bias", message, name, len(groups))
            continue
        masked = known[name].sensitive
        yield from _hardly_represented(name, groups, checks.min_group_share, masked=masked)
        yield from _unequal_rates(name, groups, checks.min_label_rate_ratio, masked=masked)


def _hardly_represented(name: str, groups: Sequence[Group], least: float, *, masked: bool) -> Iterator[Finding]:
    few = [group for group in groups if group.share < least]
    if few:
        told = ", ".join(f"{_shown(group, masked=masked)} ({group.rows:,} rows)" for group in few[:5])
        message = f"groups of {name!r} with less than {least:.1%} of the rows: {told}"
        yield warning("representation", message, name, len(few), [_shown(group, masked=masked) for group in few])


def _unequal_rates(name: str, groups: Sequence[Group], least: float, *, masked: bool) -> Iterator[Finding]:
    compared = [(group.label_rate, group) for group in groups if group.rows >= MIN_GROUP_ROWS]
    rated = [(rate, group) for rate, group in compared if rate is not None]
    if len(rated) < 2:  # noqa: PLR2004  # two to compare
        return
    low, fewest = min(rated, key=lambda pair: pair[0])
    high, most = max(rated, key=lambda pair: pair[0])
    if high > 0 and low / high < least:
        message = (
            f"the label falls to {low:.1%} of {_shown(fewest, masked=masked)} and to {high:.1%} of "
            f"{_shown(most, masked=masked)} ({name!r}): their ratio {low / high:.2f} is below {least:g}"
        )
        yield warning("label_rate", message, name)


def _shown(group: Group, *, masked: bool) -> str:
    return MASK if masked else repr(group.name)
