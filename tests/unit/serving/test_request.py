import pytest
from millrace.errors import InvalidInputError, InvalidNameError, UnsupportedMediaTypeError, VersionNotFoundError
from millrace.serving.request import Request


def request(body: bytes = b"", content_type: str | None = None, **parameters: str) -> Request:
    return Request(body, {} if content_type is None else {"content-type": content_type}, parameters)


@pytest.mark.parametrize("model", ["", "..", "a b", "x" * 64, "%2e%2e", "a%2Fb"])
def test_a_model_name_that_cannot_exist_is_refused(model):
    with pytest.raises(InvalidNameError):
        _ = request(model=model).model
    with pytest.raises(InvalidNameError):
        _ = request().model


def test_a_version_is_the_champion_unless_the_path_says_otherwise():
    assert request().version == "champion"
    assert request(version="7").version == "7"
    assert request(version="0a").version == "0a"
    assert request(version="blue-green").version == "blue-green"


@pytest.mark.parametrize("version", ["..", "-1", "1.0", "a b", "x" * 64, "1\n", "01", "001", "00"])
def test_a_version_that_cannot_exist_is_not_found(version):
    with pytest.raises(VersionNotFoundError):
        _ = request(version=version).version


def test_a_body_is_json_unless_it_says_otherwise():
    assert request().media_type == request(content_type=" ; ").media_type == "application/json"
    assert request(content_type="Text/CSV ; charset=UTF-8").media_type == "text/csv"
    with pytest.raises(UnsupportedMediaTypeError):
        _ = request(content_type="application/json; charset=utf-16").media_type


def test_text_is_utf_8_with_or_without_a_mark():
    assert request(b"\xef\xbb\xbfa").text == request(b"a").text == "a"
    with pytest.raises(InvalidInputError):
        _ = request(b"\xff").text
