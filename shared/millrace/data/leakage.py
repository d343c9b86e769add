"""Target leakage: a column that alone predicts the target nearly perfectly is usually made from it, or made later."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.data.association import TargetValues, associate, sample_rows
from millrace.data.cells import parse_numbers
from millrace.data.findings import Finding, warning
from millrace.data.typed_table import TypedTable, stored_parts
from millrace.schema import Column

#: With fewer rows a column may predict perfectly by chance.
MIN_ROWS = 50


def find_leakage(table: TypedTable, profile: Mapping[str, Any], threshold: float) -> Iterator[Finding]:
    """Yield the columns that give the target away.

    Parameters
    ----------
    table : TypedTable
        The accepted rows.
    profile : mapping
        Theirs; it has each feature's association with the target.
    threshold : float
        From here on an association is one: the area under the curve (or one minus it) for numbers and a binary
        target, else the association's strength.
    """
    if len(table) < MIN_ROWS:
        return
    for described in profile["columns"]:
        measured = described["association"]
        if measured and _power(measured) >= threshold:
            yield _leak(described["name"], measured, "a feature")
    identifier = table.schema.identifier
    if identifier is not None:
        measured = _of_identifier(table, identifier)
        if measured and _power(measured) >= threshold:
            yield _leak(identifier.name, measured, "the identifier")


def _power(measured: Mapping[str, Any]) -> float:
    value = float(measured["value"])
    return max(value, 1.0 - value) if measured["measure"] == "auc" else float(measured["strength"])


def _leak(name: str, measured: Mapping[str, Any], what: str) -> Finding:
    message = (
        f"{what}, {name!r}, predicts the target nearly perfectly alone ({measured['measure']} "
        f"{measured['value']:.4f}): if it is made from the target, or known only afterwards, say in the spec that "
        f"its role is ignored"
    )
    if what == "the identifier":
        message = (
            f"{what}, {name!r}, gives the target away ({measured['measure']} {measured['value']:.4f}): the rows were "
            "numbered class by class, or their order follows the target"
        )
    return warning("leakage", message, name)


def _of_identifier(table: TypedTable, column: Column) -> dict[str, Any] | None:
    """Measure an identifier that is a number as one; one of words differs in every row and would fit anything."""
    rows = sample_rows(len(table))
    parsed = parse_numbers(_sampled(table, column, rows))
    if parsed.bad_count or bool(np.isnan(parsed.values).all()):
        return None
    as_number = Column(column.name, "number")
    measured = associate(as_number, parsed.values, TargetValues.of(table).take(rows))
    return measured.to_dict() if measured else None


def _sampled(table: TypedTable, column: Column, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return some rows of a column, without holding the others."""
    taken, first = [], 0
    for part in stored_parts(table, column):
        start, end = np.searchsorted(rows, (first, first + len(part)))
        taken.append(part.take(pa.array(rows[start:end] - first)))
        first += len(part)
    return pa.concat_arrays(taken)
