import pytest
from botocore.credentials import Credentials
from botocore.exceptions import UnauthorizedSSOTokenError
from millrace.entities import ModelState, ModelVersion, Run
from millrace.errors import DatasetNotFoundError
from millrace.registry import store as registry_store
from millrace_cli.api import ApiClient, RequestSigner
from millrace_cli.errors import ApiError, CliError, RefusedError
from urllib3.exceptions import NewConnectionError

from tests.fakes.fake_api import FakeApi
from tests.fakes.http_handler import connect


def test_every_request_is_signed_for_the_api_gateway():
    api = FakeApi({"/v1/models": [(200, {"models": []})]})
    sign = RequestSigner(Credentials("AKIAEXAMPLE", "secret"), "eu-north-1")
    client = connect(api, "https://api.test/v1", sign)

    ApiClient(client).get("/models")

    authorization = api.requests[0].headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/eu-north-1/execute-api/aws4_request" in authorization


def test_a_blank_is_sent_as_the_signature_writes_it():
    api = FakeApi({"/v1/models/churn/history": [(200, {})]})
    sign = RequestSigner(Credentials("AKIAEXAMPLE", "secret"), "eu-north-1")
    client = connect(api, "https://api.test/v1", sign)

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


def test_expired_credentials_are_renewed_by_a_login():
    class Expired:
        def get_frozen_credentials(self):
            raise UnauthorizedSSOTokenError

    api = FakeApi({})
    sign = RequestSigner(Expired(), "eu-north-1")
    client = connect(api, sign=sign)
    with pytest.raises(CliError, match="credentials cannot be used") as caught:
        ApiClient(client).get("/models")
    assert "aws sso login" in caught.value.hint
    body = {"message": "The security token included in the request is expired"}
    with pytest.raises(ApiError) as refused:
        FakeApi({"/models": [(403, body)]}).client().get("/models")
    assert "aws sso login" in refused.value.hint


def test_a_read_that_is_passed_on_is_repeated_and_a_change_is_not():
    pauses = []
    api = FakeApi({"/mlflow/a": [(503, {}), (200, {"a": 1})], "/mlflow/b": [(503, {}), (200, {})]})
    client = api.client(pauses.append)
    assert client.pass_on("GET", "/mlflow/a?x=1", b"") == (200, b'{"a":1}')
    assert client.pass_on("POST", "/mlflow/b", b"{}")[0] == 503
    assert pauses == [0.3]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(RefusedError, match="no address of the API"):
        FakeApi({}).client().pass_on("GET", "/mlflow/a?" + "x" * 70_000, b"")


def test_throttling_is_waited_out():
    pauses = []
    api = FakeApi({"/models": [(429, {"message": "slow down"}), (503, {}), (200, {"models": []})]})

    assert api.client(pauses.append).get("/models") == {"models": []}
    assert pauses == [0.3, 0.6]


def test_a_connection_error_is_one_sentence():
    def refuse(request):
        raise NewConnectionError(None, "no connection") from OSError("connection refused")

    client = ApiClient(connect(refuse), sleep=lambda _: None)

    with pytest.raises(CliError, match="the API did not respond: connection refused"):
        client.get("/models")


@pytest.mark.parametrize(
    "path",
    ["/models/../keys", "/models/", "/models//spec", "/models/a/b?x=1", "/models/a#b", "/models/a b", "/models/é"],
)
def test_no_name_becomes_another_path(path):
    api = FakeApi({})
    with pytest.raises(RefusedError, match="no path of the API"):
        api.client().get(path)
    assert api.requests == []


@pytest.mark.parametrize(
    ("message", "fields", "shown"),
    [
        ("'x' is no timestamp: write it as 2026", [{"field": "at", "message": "write it as 2026"}], "timestamp: write"),
        ("not valid", [{"field": "at", "message": "write it as 2026"}], "not valid\n  at: write it as 2026"),
    ],
)
def test_a_single_fault_is_said_once(message, fields, shown):
    body = {"error_code": "INVALID_PARAMETER_VALUE", "message": message, "fields": fields}
    with pytest.raises(ApiError) as caught:
        FakeApi({"/models": [(400, body)]}).client().get("/models")
    assert shown in caught.value.message
    assert caught.value.message.count("write it as 2026") == 1


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (registry_store._missing(ModelState, "churm"), "millrace models"),
        (registry_store._missing(ModelVersion, "churn", 7), "millrace models churn"),
        (registry_store._missing(Run, "churn", "r1"), "millrace runs churn"),
        (DatasetNotFoundError("the model 'churn' has no dataset ab12"), "millrace data list churn"),
    ],
)
def test_what_does_not_exist_has_the_command_that_lists_what_does(error, command):
    with pytest.raises(ApiError) as caught:
        FakeApi({"/models/churm": [(404, error.to_dict())]}).client().get("/models/churm")
    assert caught.value.hint.endswith(f": {command}")
