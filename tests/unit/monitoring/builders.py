"""Tables, references and histograms for tests of monitoring."""

import numpy as np
from millrace.data.reference import describe_reference
from millrace.histograms.tables import Reference, TableHistogram, count_in_bins
from millrace.schema import Column, TableSchema

CLASSES = ("no", "yes")
CITIES = ("Bern", "Oslo", "Rome")
SCHEMA = TableSchema(
    columns=(
        Column("age", "number", minimum=0.0, maximum=100.0),
        Column("income", "number"),
        Column("city", "category", categories=CITIES),
        Column("member", "boolean"),
        Column("target", "category", role="target", categories=CLASSES),
    ),
    task="binary",
    classes=CLASSES,
)


def make_columns(rows, seed=0, *, age_shift=0.0, cities=(0.5, 0.3, 0.2), missing=0.0, correlation=0.7):
    """Age and income correlate; city and membership are independent."""
    draw = np.random.default_rng(seed)
    age = draw.normal(size=rows)
    income = correlation * age + np.sqrt(1 - correlation**2) * draw.normal(size=rows)
    age = 40.0 + 10.0 * (age + age_shift)
    age[draw.random(rows) < missing] = np.nan
    return {
        "age": age,
        "income": 1000.0 * np.exp(income),
        "city": draw.choice(CITIES, size=rows, p=cities).astype(object),
        "member": (draw.random(rows) < 0.4).astype(np.float64),
    }


def make_reference(rows=5_000, seed=99, **changes) -> Reference:
    columns = make_columns(rows, seed, **changes)
    columns["city"] = columns["city"].astype(np.str_)
    target = np.random.default_rng(seed).integers(0, 2, rows)
    return Reference.build(describe_reference(SCHEMA, columns, target), SCHEMA)


def make_histogram(reference: Reference, rows=1_000, seed=1, **changes) -> TableHistogram:
    return count_in_bins(make_columns(rows, seed, **changes), rows, reference.bins, reference.plan)
