"""Ask with MLflow's own client of scoring servers; prints what it made of the answers."""

import json
import sys
from urllib.parse import urlsplit

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

url, row = urlsplit(sys.argv[1]), json.loads(sys.argv[2])
server = ScoringServerClient(url.hostname, f"{url.port}{url.path}")
server.wait_server_ready(timeout=5)
model = ScoringServerClient(url.hostname, f"{url.port}{url.path}/models/{sys.argv[3]}")
frame = pd.DataFrame([row, row | {"balance": float("nan")}])
found = {
    "version": server.get_version(),
    "columns": list(model.invoke(frame).get_predictions().columns),
    "from_frame": model.invoke(frame, params={"unused": 1}).get_predictions().to_dict(orient="records"),
    "from_list": model.invoke([row]).get_predictions().to_dict(orient="records"),
    "from_array": model.invoke(frame.to_numpy()[:1]).get_predictions().to_dict(orient="records"),
}
try:
    model.invoke(frame.drop(columns="age"))
except Exception as error:  # noqa: BLE001 - the client raises nothing narrower
    found["refusal"] = str(error)
print(json.dumps(found))
