"""Signature Version 4 for requests to API Gateway, as AWS verifies it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

#: Host of a REST API: its region is the one to sign for.
_HOST = re.compile(r"[a-z0-9]+\.execute-api\.([a-z0-9-]+)\.")
_FALLBACK_REGION = "us-east-1"


class MissingCredentialsError(RuntimeError):
    """AWS credentials to sign with were not found."""


class RequestSigner:
    """Signs a prepared request of the `requests` library.

    Parameters
    ----------
    session : boto3.Session, optional
        Has the credentials, which are read for each request, so that refreshed ones are used.
    """

    def __init__(self, session: Any = None) -> None:
        self._session = session or boto3.Session()

    def __call__(self, request: Any) -> Any:
        """Sign a request; raises ``MissingCredentialsError`` where there is nothing to sign with."""
        credentials = self._session.get_credentials()
        if credentials is None:
            raise MissingCredentialsError("no AWS credentials found: set AWS_PROFILE, or run `aws configure sso`")
        address, mark, query = request.url.partition("?")
        # A blank in a query is written as +; AWS verifies %20. A plus sign is %2B already.
        request.url = address + mark + query.replace("+", "%20")
        if hasattr(request.body, "read"):
            request.body = request.body.read()
        host = urlsplit(request.url).netloc
        signed = AWSRequest(request.method, request.url, headers={"host": host}, data=request.body or b"")
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", self._region(host)).add_auth(signed)
        request.headers.update({name: value for name, value in signed.headers.items() if name.lower() != "host"})
        return request

    def _region(self, host: str) -> str:
        match = _HOST.match(host)
        return match[1] if match else self._session.region_name or _FALLBACK_REGION
