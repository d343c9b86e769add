"""Drift with Millrace: count both tables in the reference's bins, compare them column by column."""

from pathlib import Path

from millrace.data.reference import describe_reference
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.drift import compare_column
from millrace.schema import Column, TableSchema
from table import NUMBERS, WORDS, read
from worker import serve

SCHEMA = TableSchema(
    columns=(
        *(Column(name, "number") for name in NUMBERS),
        *(Column(name, "category") for name in WORDS),
        Column("target", "number", role="target"),
    ),
    task="regression",
)


def load(folder: Path) -> tuple:
    """Read both tables."""
    return read(folder / "reference.npz"), read(folder / "present.npz")


def compute(tables: tuple) -> dict[str, float]:
    """Compute the drift of every column, the reference's description and the correlations of all pairs included."""
    first, second = tables
    rows = len(first[NUMBERS[0]])
    reference = Reference.build(describe_reference(SCHEMA, first, first[NUMBERS[0]]), SCHEMA)
    present = count_in_bins(second, rows, reference.bins, reference.plan)
    drifts = [
        compare_column(name, bins, reference.training.columns[name], present.columns[name])
        for name, bins in reference.bins.items()
    ]
    return {drift.column: drift.distances["psi"].value for drift in drifts}


def prepare(tables: tuple) -> Reference:
    """Describe the reference, which is done once, at registration."""
    first, _ = tables
    return Reference.build(describe_reference(SCHEMA, first, first[NUMBERS[0]]), SCHEMA)


def window(tables: tuple, reference: Reference) -> dict[str, float]:
    """Compute the drift of the second table, against a reference that is there."""
    _, second = tables
    present = count_in_bins(second, len(second[NUMBERS[0]]), reference.bins, reference.plan)
    drifts = [
        compare_column(name, bins, reference.training.columns[name], present.columns[name])
        for name, bins in reference.bins.items()
    ]
    return {drift.column: drift.distances["psi"].value for drift in drifts}


if __name__ == "__main__":
    serve(load, compute, prepare, window)
