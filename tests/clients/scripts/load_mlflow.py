"""Loads exported versions with MLflow and prints their predictions of rows: `load_mlflow.py ROWS DIRECTORY...`."""

import json
import sys
import warnings

import mlflow
import pandas as pd

warnings.simplefilter("ignore")
rows = json.loads(sys.argv[1])
frame = pd.DataFrame(rows)
dates = pd.to_datetime(frame["signed_up"], utc=True, format="mixed", dayfirst=True)
typed = frame.assign(signed_up=dates, age=frame["age"].astype("Int64"))


def predictions(model, table):
    found = model.predict(table)
    return found.to_dict("records") if isinstance(found, pd.DataFrame) else found.tolist()


def refusal(model, table):
    try:
        model.predict(table)
    except Exception as error:  # noqa: BLE001 - the classes are in the directory
        return f"{type(error).__name__}: {error}"
    return ""


models = [mlflow.pyfunc.load_model(directory) for directory in sys.argv[2:]]
print(
    json.dumps(
        {
            "version": mlflow.__version__,
            "flavors": [list(model.metadata.flavors) for model in models],
            "from_rows": [predictions(model, frame) for model in models],
            "from_typed": [predictions(model, typed) for model in models],
            "absent": refusal(models[0], frame.drop(columns="age")),
            "wrong": refusal(models[0], frame.assign(plan=3)),
        }
    )
)
