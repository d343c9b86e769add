"""Signatures of requests (Signature Version 4) and where requests go, for the few calls of serving.

botocore would take most of a cold start for them: ``docs/decisions/0097-serving-signs-its-own-requests.md``. The
signature is that of :class:`botocore.auth.SigV4Auth`, and for S3 of ``S3SigV4Auth``, for requests without a query
string; a property test compares them.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote, urlsplit

from millrace.errors import ConfigurationError

Service = Literal["dynamodb", "s3"]

#: Of names in a host; a bucket with another character, such as a dot, has no certificate of its own.
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
#: The domain of regions that begin so; any other region's is the first partition's.
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """Settings of AWS's own clients that serving follows; Lambda sets the region and the credentials."""

    aws_region: str = ""
    aws_default_region: str = ""
    aws_access_key_id: str = ""
    aws_secret_access_key: str = ""
    aws_session_token: str = ""
    #: Where Lambda gives credentials to a process that began from a snapshot, instead of the three above.
    aws_container_credentials_full_uri: str = ""
    aws_container_authorization_token: str = ""
    aws_container_authorization_token_file: str = ""
    #: Other addresses than AWS's own: of every service, or of one.
    aws_endpoint_url: str = ""
    aws_endpoint_url_dynamodb: str = ""
    aws_endpoint_url_s3: str = ""
    aws_ignore_configured_endpoint_urls: bool = False
    aws_use_fips_endpoint: bool = False
    aws_use_dualstack_endpoint: bool = False
    aws_ca_bundle: str = ""  # file with the certificates of authorities, in place of the system's

    @property
    def region(self) -> str:
        """Return the region; raises ``ConfigurationError`` when there is none."""
        if region := self.aws_region or self.aws_default_region:
            return region
        raise ConfigurationError("missing environment variables: AWS_REGION")


class Credentials(NamedTuple):
    """Keys that sign a request; ``token`` is empty for keys that do not expire."""

    access_key: str
    secret_key: str
    token: str = ""


class ServiceAddress(NamedTuple):
    """Address that takes requests: ``path`` is before that of every request, and has no slash at its end."""

    host: str  # with the port, unless that is the scheme's own
    path: str = ""
    is_secure: bool = True


def find_endpoint(settings: AwsSettings, service: Service, bucket: str = "") -> ServiceAddress:
    """Return the endpoint of DynamoDB, or that of a bucket; raises ``ConfigurationError`` for one that is not known."""
    own = {"dynamodb": settings.aws_endpoint_url_dynamodb, "s3": settings.aws_endpoint_url_s3}[service]
    in_path = f"/{quote(bucket, safe='')}" if bucket else ""
    if (url := own or settings.aws_endpoint_url) and not settings.aws_ignore_configured_endpoint_urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"malformed environment variables: the endpoint {url!r} is no HTTP address")
        is_secure = parts.scheme == "https"
        host = parts.netloc.rpartition("@")[2].removesuffix(":443" if is_secure else ":80")
        return ServiceAddress(host, parts.path.rstrip("/") + in_path, is_secure)
    if settings.aws_use_fips_endpoint or settings.aws_use_dualstack_endpoint:
        raise ConfigurationError(
            "predictions use neither FIPS nor dual-stack endpoints by name: set AWS_ENDPOINT_URL_DYNAMODB and "
            "AWS_ENDPOINT_URL_S3 to their addresses"
        )
    region = settings.region
    domain = next((name for start, name in _DOMAINS.items() if region.startswith(start)), "amazonaws.com")
    host = f"{service}.{region}.{domain}"
    if bucket and _HOST_CHARACTERS.issuperset(bucket):
        return ServiceAddress(f"{bucket}.{host}")
    return ServiceAddress(host, in_path)


def quote_path(path: str) -> str:
    """Return a path as it is sent and signed: S3 keeps dots and double slashes as they are."""
    return quote(path, safe="/-_.~")


def sign(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: Service,
    region: str,
    credentials: Credentials,
    now: float,
) -> dict[str, str]:
    """Return the headers of a request with its signature.

    Parameters
    ----------
    path : str
        As :func:`quote_path` returns it, without a query string.
    headers : mapping of str to str
        By names in small letters: the host, and what else is signed.
    now : float
        Seconds since the epoch.
    """
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    day = timestamp[:8]
    digest = hashlib.sha256(body).hexdigest()
    signed = {**headers, "x-amz-date": timestamp}
    if service == "s3":
        signed["x-amz-content-sha256"] = digest
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    lines = [f"{name}:{' '.join(signed[name].split())}" for name in names]
    canonical = "\n".join([method, path, "", *lines, "", ";".join(names), digest])
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature}"
    )
    return signed
