"""Versions as MLflow models, rows to predict, and what the endpoint predicts of them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace.exports.mlflow_model import mlflow_files
from millrace.schema import Task

from tests.gateway import call, memory_handler
from tests.serving_models import CHURN_RECORD, churn_onnx, churn_schema, version_artifacts

ROWS = [
    CHURN_RECORD | {"remark": "was late, twice"},
    CHURN_RECORD | {"balance": None, "subscribed": None, "city": None, "signed_up": None, "remark": None},
    CHURN_RECORD | {"plan": "never seen", "city": "", "signed_up": "03.02.2021", "remark": "Überraschung"},
]


def exported_files(task: Task, **signature: object) -> dict[str, bytes]:
    schema = churn_schema(task, remark=True)
    artifacts = version_artifacts(churn_onnx(task, remark=True), schema, **signature)
    return mlflow_files(
        artifacts["signature.json"],
        artifacts["model.onnx"],
        model="churn",
        version=3,
        created_at=datetime(2026, 5, 3, tzinfo=UTC),
        metadata={"semantic_version": "1.0.3"},
    )


def write_files(files: dict[str, bytes], directory: Path) -> Path:
    for name, body in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return directory


def served_predictions(task: Task, **signature: object) -> Any:
    """Return what the endpoint predicts of the rows."""
    with memory_handler(task, remark=True, **signature) as handler:
        status, reply = call(handler, "POST", "/models/churn/invocations", {"dataframe_records": ROWS})
    assert status == 200, reply
    return reply["predictions"]
