"""The checks in Great Expectations, on pandas, with summaries and no documentation site."""

import os
from pathlib import Path
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from table import CHECKS
from worker import Counts, serve

KINDS = {
    "expect_column_values_to_not_be_null": "not_null",
    "expect_column_values_to_be_unique": "unique",
    "expect_column_values_to_be_between": "range",
    "expect_column_values_to_be_in_set": "set",
    "expect_column_values_to_match_regex": "pattern",
}


def expectation(check: dict[str, Any]) -> gxe.Expectation:
    """Translate one check."""
    column, kind = check["column"], check["kind"]
    if kind == "not_null":
        return gxe.ExpectColumnValuesToNotBeNull(column=column)
    if kind == "unique":
        return gxe.ExpectColumnValuesToBeUnique(column=column)
    if kind == "range":
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=check["minimum"], max_value=check["maximum"])
    if kind == "set":
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=check["allowed"])
    return gxe.ExpectColumnValuesToMatchRegex(column=column, regex=f"^(?:{check['pattern']})$")


CONTEXT = gx.get_context(mode="ephemeral")
CONTEXT.variables.progress_bars = {"globally": False, "metric_calculations": False}
DEFINITION = CONTEXT.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
SUITE = gx.ExpectationSuite("s", expectations=[expectation(check) for check in CHECKS])


def load(path: Path) -> pd.DataFrame:
    """Read the file."""
    return pd.read_csv(path, parse_dates=["since"])


def check(frame: pd.DataFrame) -> Counts:
    """Run the suite, and count what is unexpected."""
    found = DEFINITION.get_batch({"dataframe": frame}).validate(SUITE)
    counts = {}
    for result in found.results:
        count = result.result.get("unexpected_count", 0)
        if count:
            config = result.expectation_config
            counts[f"{config.kwargs['column']}:{KINDS[config.type]}"] = int(count)
    return counts


serve(load, check, lambda path: check(load(path)))
