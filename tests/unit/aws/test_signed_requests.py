import re
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.aws.signed_requests import AwsSettings, Credentials, ServiceAddress, find_endpoint, quote_path, sign
from millrace.errors import ConfigurationError

#: Keys of objects that break signatures: blanks, dots, percent signs, slashes, and letters of all sizes.
HOSTILE = [
    "churn/versions/1/model.onnx",
    "a b+c%20d/é/ß/..//./x",
    "/leading",
    "trailing/",
    "~tilde-_.",
    "?query#fragment&a=b;c",
    "\x00\x1f\x7f\u2028\U0001f600",
    "%",
    "%2F",
    "'\"<>\\^`{|}:@!$&()*,=[]",
]
keys = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001 - botocore's own have no zone


class Sent(Exception):  # noqa: N818 - no error: it ends a call before anything is sent
    pass


@pytest.fixture(scope="module")
def clients():
    """Clients of botocore that raise what they would send."""

    def stop(request, **_):
        raise Sent(request)

    made = {}
    for service in ("s3", "dynamodb"):
        made[service] = botocore.session.get_session().create_client(
            service,
            region_name="eu-west-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            aws_session_token="a/token+with=signs",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made[service].meta.events.register("before-send", stop)
    return made


CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a/token+with=signs")


def sent(call, **arguments):
    """Return the request that botocore would send."""
    with pytest.raises(Sent) as stopped:
        call(**arguments)
    request = stopped.value.args[0]
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    return request, headers


def as_we_sign(request, headers, service):
    """Return our signature of a request of botocore: of the headers that it signed, at its time."""
    parts = urlsplit(request.url)
    headers = {"host": parts.netloc, **headers}
    names = re.search("SignedHeaders=([^,]+)", headers["authorization"])[1].split(";")
    when = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
    signed = {name: headers[name] for name in names if name not in ours}
    body = request.body or b""
    options = {"service": service, "region": "eu-west-1", "credentials": CREDENTIALS, "now": when.timestamp()}
    return sign(request.method, parts.path, signed, body, **options)


@settings(max_examples=200)
@given(keys)
def test_a_key_is_quoted_and_signed_as_botocore_does(clients, key):
    request, headers = sent(clients["s3"].get_object, Bucket="models", Key=key)
    endpoint = find_endpoint(AwsSettings(aws_region="eu-west-1"), "s3", "models")
    assert request.url == f"https://{endpoint.host}{endpoint.path}{quote_path('/' + key)}"
    assert as_we_sign(request, headers, "s3")["authorization"] == headers["authorization"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_read_of_an_item_is_signed_as_botocore_does(clients, partition):
    request, headers = sent(clients["dynamodb"].get_item, TableName="registry", Key={"pk": {"S": partition}})
    endpoint = find_endpoint(AwsSettings(aws_region="eu-west-1"), "dynamodb")
    assert request.url == f"https://{endpoint.host}/"
    assert as_we_sign(request, headers, "dynamodb")["authorization"] == headers["authorization"]


@given(
    service=st.sampled_from(["s3", "dynamodb"]),
    request=st.tuples(keys, st.binary(max_size=50), st.sampled_from(["value", " two  blanks ", "tab\there"])),
    credentials=st.builds(Credentials, printable.filter(str.isalnum), printable, st.one_of(st.just(""), printable)),
    region=st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1"]),
    now=moments,
)
def test_any_credentials_time_and_header_are_signed_as_botocore_does(service, request, credentials, region, now):
    key, body, target = request
    now = now.replace(microsecond=0, tzinfo=UTC)
    path = quote_path(f"/{key}") if service == "s3" else "/"
    headers = {"host": "example.com:8443", "x-amz-target": target}
    theirs = AWSRequest("POST", url=f"https://example.com:8443{path}", headers=headers, data=body)
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    known = botocore.credentials.Credentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    with patch("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: now.replace(tzinfo=None)):
        signer(known, service, region).add_auth(theirs)
    options = {"service": service, "region": region, "credentials": credentials, "now": now.timestamp()}
    ours = sign("POST", path, headers, body, **options)
    expected = {name.lower(): value for name, value in theirs.headers.items()}
    assert {name: ours[name] for name in expected} == expected


@pytest.mark.parametrize("service", ["dynamodb", "s3"])
def test_every_region_has_botocores_host(service):
    session = botocore.session.get_session()
    resolver = session._get_internal_component("endpoint_resolver")
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions(service, partition)
    ]
    assert len(regions) > 30
    for region in regions:
        expected = resolver.construct_endpoint(service, region)["hostname"]
        assert find_endpoint(AwsSettings(aws_region=region), service).host == expected


def test_a_bucket_with_a_dot_is_in_the_path():
    settings = AwsSettings(aws_region="eu-west-1")
    assert find_endpoint(settings, "s3", "a.b") == ServiceAddress("s3.eu-west-1.amazonaws.com", "/a.b")
    assert find_endpoint(settings, "s3", "a-b").host == "a-b.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("variables", "service", "expected"),
    [
        ({"aws_endpoint_url": "http://127.0.0.1:4566"}, "dynamodb", ServiceAddress("127.0.0.1:4566", "", False)),
        ({"aws_endpoint_url": "http://127.0.0.1:4566/base/"}, "s3", ServiceAddress("127.0.0.1:4566", "/base/b", False)),
        ({"aws_endpoint_url": "http://a", "aws_endpoint_url_s3": "https://b:443"}, "s3", ServiceAddress("b", "/b")),
        (
            {"aws_endpoint_url": "http://a:80", "aws_endpoint_url_s3": "https://b"},
            "dynamodb",
            ServiceAddress("a", "", False),
        ),
        ({"aws_endpoint_url_dynamodb": "http://[::1]:9"}, "dynamodb", ServiceAddress("[::1]:9", "", False)),
    ],
)
def test_another_address_is_used(variables, service, expected):
    settings = AwsSettings(aws_region="eu-west-1", **variables)
    assert find_endpoint(settings, service, "b" if service == "s3" else "") == expected


def test_another_address_may_be_ignored():
    settings = AwsSettings(
        aws_default_region="eu-west-1", aws_endpoint_url="http://a", aws_ignore_configured_endpoint_urls=True
    )
    assert find_endpoint(settings, "dynamodb").host == "dynamodb.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"aws_region": "eu-west-1", "aws_use_fips_endpoint": True},
        {"aws_region": "eu-west-1", "aws_use_dualstack_endpoint": True},
        {"aws_region": "eu-west-1", "aws_endpoint_url": "127.0.0.1:4566"},
        {"aws_region": "eu-west-1", "aws_endpoint_url": "ftp://127.0.0.1"},
    ],
)
def test_an_endpoint_that_is_not_known_is_a_fault_of_the_deployment(variables):
    with pytest.raises(ConfigurationError):
        find_endpoint(AwsSettings(**variables), "dynamodb")
