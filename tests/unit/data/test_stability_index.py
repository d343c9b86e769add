"""One population stability index: checks, comparison and monitoring report the same number for two uploads."""

import re

import numpy as np
import pandas as pd
import pytest
from millrace.data.compare import compare_columns
from millrace.data.dataset_checks import DatasetHistory, find_skew
from millrace.data.reference import describe_reference
from millrace.data.validation import validate_upload
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.drift import compare_column
from millrace.spec import ModelSpec

ROWS = 2_000


def frame(seed: int, drift: float) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    plans = ["basic", "plus", "pro"]
    return pd.DataFrame(
        {
            "visits": generator.poisson(3 + 2 * drift, ROWS).clip(0, 14),
            "age": generator.integers(18, 45, ROWS) + round(4 * drift),
            "income": generator.normal(50_000 + 9_000 * drift, 12_000, ROWS).round(2),
            "plan": generator.choice(plans, ROWS, p=[0.6 - 0.3 * drift, 0.3, 0.1 + 0.3 * drift]),
            "active": generator.random(ROWS) < 0.5 + 0.3 * drift,
            "label": np.arange(ROWS) % 2,
        }
    )


def uploaded(table: pd.DataFrame, schema=None, history=None):
    spec = ModelSpec.parse({"checks": {"shift_threshold": 0.0001}})
    context = {} if history is None else {"history": history}
    return validate_upload(table.to_csv(index=False).encode(), "t.csv", spec, {}, schema, **context)


def reported(findings) -> dict[str, str]:
    return {found.column: re.search(r"index ([\d.]+)", found.message)[1] for found in findings}


@pytest.fixture(scope="module")
def uploads():
    first = uploaded(frame(1, 0.0))
    return first, uploaded(frame(2, 1.0), first.schema, DatasetHistory(profile=first.profile))


def test_checks_and_comparison_report_the_same_number(uploads):
    first, second = uploads
    shift = reported(found for found in second.findings if found.check == "shift")
    skew = reported(find_skew(DatasetHistory(captured=second.profile), first.profile, 0.0001))
    for name in ("visits", "age", "income", "plan", "active"):
        compared = compare_columns(first.profile.column(name), second.profile.column(name)).psi
        assert f"{compared:.2f}" == shift[name] == skew[name], name


@pytest.mark.parametrize(
    ("name", "tolerance"), [("visits", 1e-9), ("age", 1e-9), ("plan", 1e-9), ("active", 1e-9), ("income", 0.01)]
)
def test_monitoring_reports_the_number_of_the_comparison(uploads, name, tolerance):
    # Numbers in many bars are compared by what the later profile says of the earlier one's bins: nearly the same.
    first, second = uploads
    schema = first.schema
    reference = Reference.build(describe_reference(schema, first.table.columns, first.table.target()), schema)
    histograms = [
        count_in_bins({column.name: result.table.columns[column.name] for column in schema.features}, ROWS,
                    reference.bins, reference.plan)
        for result in uploads
    ]  # fmt: skip
    columns = [table.columns[name] for table in histograms]
    drift = compare_column(name, reference.bins[name], *columns)
    compared = compare_columns(first.profile.column(name), second.profile.column(name)).psi
    assert compared > 0.01
    assert drift.distances["psi"].value == pytest.approx(compared, abs=tolerance)
