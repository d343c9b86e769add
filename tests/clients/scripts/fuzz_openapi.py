"""Send what schemathesis makes of the OpenAPI document; prints how many requests there were for each operation."""

import json
import sys
from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

url, examples = sys.argv[1], int(sys.argv[2])
schema = schemathesis.openapi.from_url(f"{url}/models/churn/openapi.json")
schema.config.update(base_url=url)
ALWAYS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
tried = Counter()
for result in schema.get_all_operations():
    operation = result.ok()
    print(operation.label, file=sys.stderr)
    for mode in schemathesis.GenerationMode:
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case, mode=mode):
            checks = list(ALWAYS)
            # Tensors and columns have to agree with each other, which no schema can say.
            exact = "infer" not in case.path
            if exact and case.media_type == "application/json":
                checks.append(positive_data_acceptance if mode.is_positive else negative_data_rejection)
            response = case.call(timeout=10)
            case.validate_response(response, checks=checks)
            tried[case.operation.label] += 1

        send()
print(json.dumps(tried))
