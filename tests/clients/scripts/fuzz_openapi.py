"""Send what schemathesis makes of the OpenAPI document; prints how many requests there were for each operation."""

import json
import re
import sys
from collections import Counter
from contextlib import suppress

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

url, examples, model = sys.argv[1], int(sys.argv[2]), sys.argv[3]
schema = schemathesis.openapi.from_url(f"{url}/models/{model}/openapi.json")
schema.config.update(base_url=url)
ALWAYS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
tried = Counter()


TOO_MANY_ROWS = 413
#: No schema can say which texts are dates in the formats of training, nor that lists are equally long.
BEYOND_SCHEMAS = re.compile(r"expects a date|has \d+ values where others have")


def is_refused_beyond_schemas(response):
    if response.status_code != 400:
        return False
    reply = response.json()
    faults = [fault["message"] for fault in reply.get("fields", [])]
    if "error" in reply:
        faults = [part.partition(": ")[2].partition(" ")[2] for part in reply["error"].partition(": ")[2].split("; ")]
    return bool(faults) and all(BEYOND_SCHEMAS.match(fault) for fault in faults)


def send_all(operation, mode):
    """Send what is generated for one operation: requests that the document allows, or that it does not."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        response = case.call(timeout=10)
        checks = list(ALWAYS)
        if "infer" not in case.path and case.media_type == "application/json":  # tensors have to agree with each other
            if mode.is_positive and not is_refused_beyond_schemas(response):
                checks.append(positive_data_acceptance)
            if mode.is_negative and response.status_code != TOO_MANY_ROWS:
                checks.append(negative_data_rejection)
        case.validate_response(response, checks=checks)
        tried[operation.label] += 1

    send()


for result in schema.get_all_operations():
    for generation_mode in schemathesis.GenerationMode:
        with suppress(Unsatisfiable):  # there is no wrong way to ask for nothing
            send_all(result.ok(), generation_mode)
print(json.dumps(tried))
