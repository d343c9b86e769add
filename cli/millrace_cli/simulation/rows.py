"""The rows that traffic is drawn from: a model's newest dataset."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from millrace_cli.api import ApiClient
from millrace_cli.errors import RefusedError
from millrace_cli.simulation.shifts import Column
from millrace_cli.target import Target

#: Rows are drawn again and again, so there is no need for more.
MAX_ROWS = 20_000


def newest_rows(model: str, api: ApiClient, target: Target) -> tuple[dict[str, Column], str]:
    """Return the columns that a request may hold, with the target, as JSON holds them; and the target's name.

    Raises
    ------
    RefusedError
        When the model has no dataset.
    """
    datasets = api.get(f"/models/{model}/datasets")["datasets"]
    if not datasets:
        raise RefusedError(f"the model {model} has no dataset", f"upload one: millrace train {model} FILE")
    schema = api.get(f"/models/{model}/schema")
    roles = {column["name"]: column["role"] for column in schema["columns"]}
    wanted = [name for name, role in roles.items() if role in ("feature", "identifier", "target")]
    key = f"datasets/{model}/{datasets[0]['dataset_id']}/data.parquet"
    body = target.client("s3").get_object(Bucket=target.output("DataBucketName"), Key=key)["Body"].read()
    table = pq.read_table(io.BytesIO(body)).slice(0, MAX_ROWS)
    columns = {name: _as_json(table.column(name).to_pylist()) for name in wanted if name in table.column_names}
    target_name = next(name for name, role in roles.items() if role == "target")
    columns[target_name] = _as_labels(columns[target_name], schema.get("classes") or ())
    return columns, target_name


def _as_labels(values: Column, classes: Sequence[str]) -> Column:
    """Return booleans as the words that replies have for them: the false one comes first."""
    labels = values.copy()
    labels[:] = [classes[value] if isinstance(value, bool) and classes else value for value in values.tolist()]
    return labels


def _as_json(values: list[Any]) -> Column:
    array = np.empty(len(values), dtype=object)
    array[:] = [_written(value) for value in values]
    return array


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return None if isinstance(value, float) and np.isnan(value) else value
