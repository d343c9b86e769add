"""Deployed stacks that commands use: the local one, or one in an AWS account."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from millrace_cli.aws_session import key_session, make_client
from millrace_cli.errors import CliError, MissingObjectError
from millrace_cli.local.project import LocalState, find_project, interruption, restart_command

DEFAULT_AWS_STACK = "millrace"
LOCAL_POLL_SECONDS = 0.4
AWS_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Deployed stack, with credentials.

    Parameters
    ----------
    session : botocore Session
        Session with the credentials and the region.
    stack : str
        Name of the CloudFormation stack.
    outputs : mapping of str to str
        Outputs of the stack, by name.
    endpoint : str or None, default=None
        URL of every AWS service; None for AWS itself.
    authority : str or None, default=None
        Path of the certificate authority to trust at that endpoint.
    """

    session: Session
    stack: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    authority: str | None = None
    #: Clients by service, made once: threads may share a client, and not the session that makes it.
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def is_local(self) -> bool:
        """True for the local stack."""
        return self.endpoint is not None

    @property
    def region(self) -> str:
        """Region of the stack."""
        return str(self.session.get_config_variable("region"))

    @property
    def poll_seconds(self) -> float:
        """Seconds between two polls."""
        return LOCAL_POLL_SECONDS if self.is_local else AWS_POLL_SECONDS

    @property
    def credentials(self) -> Credentials:
        """Credentials for signing; raises ``CliError`` when there are none."""
        credentials: Credentials | None = self.session.get_credentials()
        if credentials is None:
            raise CliError("no AWS credentials found", "name a profile: --profile NAME; or run: aws configure sso")
        return credentials

    def output(self, name: str) -> str:
        """Return an output of the stack; raises ``CliError`` when there is none of that name."""
        try:
            return self.outputs[name]
        except KeyError:
            raise CliError(f"stack {self.stack} has no output {name}", "name a Millrace stack: --stack NAME") from None

    @property
    def api_url(self) -> str:
        """Base URL of the API."""
        return self._url("ApiUrl")

    @property
    def key_api_url(self) -> str:
        """Base URL of the API that accepts API keys; raises ``CliError`` when the stack has none."""
        return self._url("KeyApiUrl")

    def _url(self, output: str) -> str:
        return local_api_url(self.output(output), self.endpoint) if self.endpoint else self.output(output)

    def client(self, service: str) -> Any:
        """Return the client for this stack's account and region, for any thread; that of S3 is boto3's."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def _make_client(self, service: str) -> Any:
        local: dict[str, Any] = {}
        if self.endpoint is not None:
            config = Config(proxies={}, s3={"addressing_style": "path"})
            local = {"endpoint_url": self.endpoint, "verify": self.authority, "config": config}
        return make_client(self.session, service, **local)


def local_api_url(api_url: str, endpoint: str) -> str:
    """Return the URL at which MiniStack serves an API.

    Parameters
    ----------
    api_url : str
        Output of the stack: ``https://<api id>.execute-api.<region>.<suffix>/<stage>``.
    endpoint : str
        Endpoint of the local stack.

    Raises
    ------
    CliError
        When ``api_url`` is not of that form.
    """
    parts = urlsplit(api_url)
    api_id, _, service = (parts.hostname or "").partition(".")
    stage = parts.path.strip("/")
    if not service.startswith("execute-api.") or not stage:
        raise CliError(f"{api_url!r} is not the URL of a REST API", "deploy again: millrace local up")
    return f"{endpoint}/_aws/execute-api/{api_id}/{stage}"


def resolve_target(profile: str | None, stack: str | None, region: str | None, live: LocalState | None) -> Target:
    """Return the stack that the options name; without options, the local one.

    Parameters
    ----------
    live : LocalState or None
        State of the running local stack; None when it does not run.

    Raises
    ------
    CliError
        When no stack is named and none runs here, or the stack cannot be read.
    """
    if profile or stack or region:
        return aws_target(profile, stack or DEFAULT_AWS_STACK, region)
    if live is None:
        project = find_project()
        raise CliError(
            "the local stack is not running" + interruption(project) if project else "no stack is named",
            f"start it: {restart_command(project)}; or name a stack on AWS: --profile NAME --stack NAME",
        )
    if not live.deployed:
        raise CliError("the local stack is running, but nothing is deployed to it", "run: millrace local up")
    return local_target(live)


def local_target(state: LocalState) -> Target:
    """Return the local stack as a target."""
    session = key_session(state.access_key_id, state.secret_access_key, state.region)
    return _with_outputs(Target(session, state.stack, endpoint=state.endpoint, authority=state.authority))


def aws_target(profile: str | None, stack: str, region: str | None) -> Target:
    """Return a stack in an AWS account as a target."""
    try:
        session = Session(profile=profile)
        if region:
            session.set_config_variable("region", region)
        if not session.get_config_variable("region"):
            raise CliError("no AWS region is set", "name one: --region REGION")
        return _with_outputs(Target(session, stack))
    except BotoCoreError as error:
        raise CliError(f"cannot reach AWS: {error}", "check --profile, --region and the credentials") from error


def read_object(target: Target, bucket: str, key: str) -> bytes:
    """Read an object of one of the stack's buckets.

    Raises
    ------
    MissingObjectError
        When there is no such object, or the caller may not read it.
    CliError
        When S3 returns another error.
    """
    try:
        body: bytes = target.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise read_fault(error, bucket, key) from error
    return body


def read_fault(error: ClientError, bucket: str, key: str) -> CliError:
    """Return the error for an object that S3 did not return."""
    details = error.response["Error"]
    message = f"cannot read s3://{bucket}/{key}: {details.get('Message', details['Code'])}"
    if details["Code"] in ("NoSuchKey", "404", "AccessDenied"):
        hint = "it may have expired (prepared data: 30 days), or the caller may need s3:GetObject"
        return MissingObjectError(message, hint)
    return CliError(message)


def _with_outputs(target: Target) -> Target:
    try:
        (description,) = target.client("cloudformation").describe_stacks(StackName=target.stack)["Stacks"]
    except ClientError as error:
        details = error.response["Error"]
        if details["Code"] == "ValidationError":
            raise CliError(
                f"there is no stack {target.stack} in {target.region}",
                "name another: --stack NAME --region REGION; or deploy: sam build && sam deploy",
            ) from error
        raise CliError(f"cannot read stack {target.stack}: {details['Message']}", "check --profile") from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}
    return Target(target.session, target.stack, outputs, target.endpoint, target.authority)
