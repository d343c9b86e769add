import httpx
import pytest
from botocore.credentials import Credentials
from millrace_cli.api import ApiClient, SignedRequests
from millrace_cli.errors import ApiError, CliError

from tests.fakes.fake_api import FakeApi


def test_every_request_is_signed_for_the_api_gateway():
    api = FakeApi({"/v1/models": [(200, {"models": []})]})
    auth = SignedRequests(Credentials("AKIAEXAMPLE", "secret"), "eu-north-1")
    client = httpx.Client(base_url="https://api.test/v1", auth=auth, transport=httpx.MockTransport(api))

    ApiClient(client).get("/models")

    authorization = api.requests[0].headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-north-1/execute-api/aws4_request" in authorization


def test_a_blank_is_sent_as_the_signature_writes_it():
    api = FakeApi({"/v1/models/churn/history": [(200, {})]})
    auth = SignedRequests(Credentials("AKIAEXAMPLE", "secret"), "eu-north-1")
    client = httpx.Client(base_url="https://api.test/v1", auth=auth, transport=httpx.MockTransport(api))

    ApiClient(client).get("/models/churn/history", {"at": "2026-05-03 10:00+02:00"})

    assert api.requests[0].url.query == b"at=2026-05-03%2010%3A00%2B02%3A00"


def test_an_error_shows_the_message_and_every_field():
    body = {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "2 faults",
        "fields": [{"field": "age", "message": "x"}],
    }

    with pytest.raises(ApiError, match="2 faults\n  age: x") as caught:
        FakeApi({"/models": [(400, body)]}).client().get("/models")

    assert (caught.value.status, caught.value.error_code) == (400, "INVALID_PARAMETER_VALUE")


def test_a_forbidden_response_names_the_missing_permission():
    with pytest.raises(ApiError, match="not authorized") as caught:
        FakeApi({"/models": [(403, {"Message": "User is not authorized"})]}).client().get("/models")

    assert "execute-api:Invoke" in caught.value.hint


def test_throttling_is_waited_out():
    pauses = []
    api = FakeApi({"/models": [(429, {"message": "slow down"}), (503, {}), (200, {"models": []})]})

    assert api.client(pauses.append).get("/models") == {"models": []}
    assert pauses == [0.3, 0.6]


def test_a_connection_error_is_one_sentence():
    def refuse(request):
        raise httpx.ConnectError("connection refused")

    client = ApiClient(
        httpx.Client(base_url="https://api.test", transport=httpx.MockTransport(refuse)), sleep=lambda _: None
    )

    with pytest.raises(CliError, match="the API did not respond: connection refused"):
        client.get("/models")
