"""A Lambda handler as most people write it: joblib, scikit-learn and pandas; it checks nothing and measures nothing."""

import json
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import worker

PIPELINES: dict[str, Any] = {}


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Answer with the same as Millrace: label and probabilities of each row."""
    split = json.loads(event["body"])["dataframe_split"]
    frame = pd.DataFrame(split["data"], columns=split["columns"])
    pipeline = PIPELINES["model"]
    classes = [str(value) for value in pipeline.classes_]
    predictions = [
        {"label": classes[row.index(max(row))], "probabilities": dict(zip(classes, row, strict=True))}
        for row in pipeline.predict_proba(frame).tolist()
    ]
    body = json.dumps({"predictions": predictions})
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": body}


def make(folder: Path) -> worker.Ask:
    """Return the handler as a function of a body."""
    PIPELINES["model"] = joblib.load(folder / "pipeline.joblib")
    return lambda body: str(lambda_handler({"body": body}, None)["body"])


if __name__ == "__main__":
    worker.run(make)
