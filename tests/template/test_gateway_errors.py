"""Errors of API Gateway itself have one body, which Millrace's, MLflow's and KServe's clients read."""

import json

import httpx
import pytest
from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError

from tests.fakes.http_handler import connect
from tests.gateway import gateway_error
from tests.template.template_file import resources
from tests.template.translation import copy_template, translate

APIS = resources("AWS::Serverless::Api")
RESPONSES = APIS["Api"]["Properties"]["GatewayResponses"]
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html, without those of
#: authorisers and request validators, which the APIs do not have.
STATUS = {
    "ACCESS_DENIED": 403,
    "DEFAULT_4XX": 400,
    "DEFAULT_5XX": 500,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "WAF_FILTERED": 403,
}


def test_every_kind_of_error_has_a_body_at_both_apis():
    assert set(RESPONSES) == set(STATUS)
    assert {json.dumps(body["Properties"]["GatewayResponses"]) for body in APIS.values()} == {json.dumps(RESPONSES)}


@pytest.mark.parametrize("kind", sorted(STATUS))
def test_every_client_finds_its_fields(kind):
    body = json.loads(gateway_error(kind))
    assert set(body) == {"error_code", "message", "error"}
    assert body["error"] == body["message"]
    assert body["error_code"].isupper()


@pytest.mark.parametrize("kind", sorted(STATUS))
def test_the_command_line_shows_the_message(kind):
    http = connect(lambda _: httpx.Response(STATUS[kind], text=gateway_error(kind)))
    client = ApiClient(http, sleep=lambda _: None)
    with client, pytest.raises(ApiError) as refused:
        client.get("/models")
    body = json.loads(gateway_error(kind))
    assert (str(refused.value), refused.value.error_code) == (body["message"], body["error_code"])


def test_the_responses_reach_the_api():
    (translated,) = translate((copy_template(), {"ApiAccess": "IAM_AND_KEY"}))
    for name in APIS:
        document = translated["Resources"][name]["Properties"]["Body"]
        assert set(document["x-amazon-apigateway-gateway-responses"]) == set(STATUS)
