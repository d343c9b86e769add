"""Ask with Triton's own HTTP client in JSON mode; prints what it made of the answers."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

url, row, model = sys.argv[1].removeprefix("http://"), json.loads(sys.argv[2]), sys.argv[3]


def tensor(name, array):
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=False)
    return made


client = triton.InferenceServerClient(url)
found = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(model),
    "version_ready": client.is_model_ready(model, "1"),
    "unknown_model_ready": client.is_model_ready("nobody"),
    "server": client.get_server_metadata()["name"],
    "inputs": [column["name"] for column in client.get_model_metadata(model)["inputs"]],
}
types = {"age": np.int32, "balance": np.float64, "active": np.bool_}
inputs = [tensor(name, np.array([value], dtype=types.get(name, np.object_))) for name, value in row.items()]
reply = client.infer(model, inputs, model_version="1", request_id="r-1")
found["id"] = reply.get_response()["id"]
found["label"] = reply.as_numpy("label").tolist()
found["probabilities"] = reply.as_numpy("probabilities").tolist()
wanted = [triton.InferRequestedOutput("probabilities", binary_data=False)]
found["outputs"] = [output["name"] for output in client.infer(model, inputs, outputs=wanted).get_response()["outputs"]]
inputs[1] = tensor("balance", np.array([[np.nan]]))
found["missing"] = client.infer(model, inputs).get_response()["parameters"]["warnings"]
try:
    client.infer(model, inputs[1:])
except InferenceServerException as error:
    found["refusal"] = [error.status(), error.message()]
print(json.dumps(found))
