"""The checks in pandera, on pandas, lazily: every failure is collected."""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from table import CHECKS
from worker import Counts, serve


def schema() -> pa.DataFrameSchema:
    """Translate the checks."""
    columns: dict[str, pa.Column] = {}
    for name in dict.fromkeys(check["column"] for check in CHECKS):
        mine = [check for check in CHECKS if check["column"] == name]
        kinds = {check["kind"] for check in mine}
        columns[name] = pa.Column(
            nullable="not_null" not in kinds,
            unique="unique" in kinds,
            checks=[_check(check) for check in mine if check["kind"] in ("range", "set", "pattern")],
        )
    return pa.DataFrameSchema(columns)


def _check(check: dict) -> pa.Check:
    if check["kind"] == "range":
        return pa.Check.in_range(check["minimum"], check["maximum"])
    if check["kind"] == "set":
        return pa.Check.isin(check["allowed"])
    return pa.Check.str_matches(f"^(?:{check['pattern']})$")


SCHEMA = schema()
NAMES = {"not_nullable": "not_null", "field_uniqueness": "unique"}


def load(path: Path) -> pd.DataFrame:
    """Read the file."""
    return pd.read_csv(path, parse_dates=["since"])


def check(frame: pd.DataFrame) -> Counts:
    """Validate lazily, and count the failure cases."""
    try:
        SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as found:
        counts = found.failure_cases.groupby(["column", "check"]).size()
        return {f"{column}:{_kind(name)}": int(count) for (column, name), count in counts.items()}
    return {}


def _kind(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    return "range" if name.startswith("in_range") else "set" if name.startswith("isin") else "pattern"


serve(load, check, lambda path: check(load(path)))
