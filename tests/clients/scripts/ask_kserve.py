"""Ask with KServe's own REST client; prints what it made of the answers."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def ask(url, row, model):
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found["live"] = await client.is_server_live(url)
        found["ready"] = await client.is_server_ready(url)
        found["model_ready"] = await client.is_model_ready(url, model)
        found["unknown_model_ready"] = await client.is_model_ready(url, "nobody")
        types = {"age": "INT64", "balance": "FP64", "active": "BOOL"}
        inputs = [InferInput(name, [1], types.get(name, "BYTES"), [value]) for name, value in row.items()]
        reply = await client.infer(url, InferRequest(model, inputs, request_id="r-1"), model_name=model)
        found["id"] = reply.id
        found["label"] = reply.get_output_by_name("label").as_numpy().tolist()
        found["probabilities"] = reply.get_output_by_name("probabilities").as_numpy().tolist()
        numbers = InferInput("balance", [1, 1], "FP64")
        numbers.set_data_from_numpy(np.array([[row["balance"]]]), binary_data=False)
        others = [tensor for tensor in inputs if tensor.name != "balance"]
        wanted = [RequestedOutput("probabilities")]
        request = InferRequest(model, [*others, numbers], request_outputs=wanted)
        reply = await client.infer(url, request, model_name=model)
        found["outputs"] = [output.name for output in reply.outputs]
        found["from_numpy"] = reply.outputs[0].as_numpy().tolist()
        try:
            await client.infer(url, InferRequest(model, inputs[1:]), model_name=model)
        except httpx.HTTPStatusError as error:
            found["refusal"] = str(error).partition("for url")[0]
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        found["live_v1"] = await client.is_server_live(url)
        found["model_ready_v1"] = await client.is_model_ready(url, model)
        found["predictions_v1"] = (await client.infer(url, {"instances": [row]}, model_name=model))["predictions"]
    return found


print(json.dumps(asyncio.run(ask(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))))
