import base64
import gzip
import json

import pytest
from millrace.errors import (
    ArtifactIntegrityError,
    InvalidInputError,
    ModelNotFoundError,
    PayloadTooLargeError,
    ServiceUnavailableError,
    UnsupportedMediaTypeError,
)
from millrace.serving.handler import MAX_BODY_BYTES, error_response, read_request, success_response
from millrace.serving.protocols import MLFLOW


def event(body: str | bytes | None, **headers: str) -> dict[str, object]:
    encoded = isinstance(body, bytes)
    return {
        "pathParameters": {"model": "churn"},
        "headers": headers or None,
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": encoded,
    }


def test_a_request_is_read_whatever_the_case_of_its_headers():
    request = read_request(event("{}", **{"CONTENT-Type": "Application/JSON"}))
    assert (request.model, request.body, request.media_type) == ("churn", b"{}", "application/json")


def test_base64_and_gzip_are_unpacked():
    assert read_request(event("é".encode())).body == "é".encode()
    assert read_request(event(gzip.compress(b"{}", mtime=0), **{"Content-Encoding": "GZIP"})).body == b"{}"


def test_a_body_that_the_gateway_unpacked_is_read_as_it_is():
    assert read_request(event(b"{}", **{"Content-Encoding": "gzip"})).body == b"{}"


def test_a_request_without_a_body_has_an_empty_one():
    assert read_request(event(None)).body == b""


def test_broken_encodings_are_refused():
    broken = {**event(None), "body": "$$$", "isBase64Encoded": True}
    for body in ("$$$", "é", "\ud800", "e30", "e30=="):
        with pytest.raises(InvalidInputError, match=r"base64|UTF-8"):
            read_request({**broken, "body": body})
    with pytest.raises(InvalidInputError, match="gzip, and is not"):
        read_request(event(b"\x1f\x8b{}", **{"content-encoding": "gzip"}))
    with pytest.raises(InvalidInputError, match="ends too early"):
        read_request(event(gzip.compress(b"x" * 1000, mtime=0)[:-9], **{"content-encoding": "gzip"}))
    with pytest.raises(InvalidInputError, match="UTF-8"):
        read_request(event("\ud800"))
    with pytest.raises(UnsupportedMediaTypeError):
        read_request(event("{}", **{"content-encoding": "br"}))


def test_a_small_body_that_unpacks_to_a_huge_one_is_too_large():
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
    assert len(bomb) < 20_000
    with pytest.raises(PayloadTooLargeError):
        read_request(event(bomb, **{"content-encoding": "gzip"}))
    with pytest.raises(PayloadTooLargeError):
        read_request(event(" " * (MAX_BODY_BYTES + 1)))


def test_a_reply_is_json_and_no_larger_than_a_function_may_answer():
    response = success_response({"predictions": [1.5]})
    assert response["statusCode"] == 200
    assert response["headers"]["Content-Type"] == "application/json"
    assert json.loads(response["body"]) == {"predictions": [1.5]}
    assert success_response("0.1.0")["headers"]["Content-Type"] == "text/plain"
    with pytest.raises(PayloadTooLargeError, match="send fewer rows"):
        success_response({"predictions": ["x"] * 1_300_000})


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ModelNotFoundError("no model"), 404, "no model"),
        (ServiceUnavailableError("busy"), 503, "busy"),
        (ArtifactIntegrityError("secret"), 500, "the request failed; the service's log has the reason"),
    ],
)
def test_an_error_is_told_by_its_class(error, status, said):
    response = error_response(error, MLFLOW)
    assert response["statusCode"] == status
    assert json.loads(response["body"]) == {"error_code": error.error_code, "message": said}
    assert ("Retry-After" in response["headers"]) == (status == 503)
