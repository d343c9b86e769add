"""Which stack a command talks to: the local one, or one in an AWS account."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from millrace_cli.errors import CliError
from millrace_cli.local.state import LocalState
from millrace_cli.project import find_project

DEFAULT_AWS_STACK = "millrace"
LOCAL_POLL_SECONDS = 0.4
AWS_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """A deployed stack and the right to use it.

    Parameters
    ----------
    session : boto3.Session
        Holds the credentials and the region.
    stack : str
        The CloudFormation stack's name.
    outputs : mapping of str to str
        The stack's outputs.
    endpoint : str or None, default=None
        URL that stands for every AWS service; None is AWS itself.
    authority : str or None, default=None
        Certificate authority to trust at that endpoint.
    """

    session: Any
    stack: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    authority: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether this is the local stack."""
        return self.endpoint is not None

    @property
    def region(self) -> str:
        """The region of the stack."""
        return str(self.session.region_name)

    @property
    def poll_seconds(self) -> float:
        """How often to ask for news."""
        return LOCAL_POLL_SECONDS if self.is_local else AWS_POLL_SECONDS

    @property
    def credentials(self) -> Credentials:
        """What requests to the API are signed with."""
        credentials: Credentials | None = self.session.get_credentials()
        if credentials is None:
            raise CliError("no AWS credentials found", "name a profile: --profile NAME, or run: aws configure sso")
        return credentials

    def output(self, name: str) -> str:
        """Return a stack output; raises ``CliError`` when the stack has none of that name."""
        try:
            return self.outputs[name]
        except KeyError:
            raise CliError(
                f"stack {self.stack} has no output {name}", "is it a Millrace stack? name another: --stack NAME"
            ) from None

    @property
    def api_url(self) -> str:
        """The base URL of the API."""
        return local_api_url(self.output("ApiUrl"), self.endpoint) if self.endpoint else self.output("ApiUrl")

    def client(self, service: str) -> Any:
        """Return a boto3 client for this stack's account and region."""
        if self.endpoint is None:
            return self.session.client(service)
        return self.session.client(
            service,
            endpoint_url=self.endpoint,
            verify=self.authority,
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )


def local_api_url(api_url: str, endpoint: str) -> str:
    """Return where MiniStack serves what ``api_url`` names on AWS.

    Parameters
    ----------
    api_url : str
        ``https://<api id>.execute-api.<region>.<suffix>/<stage>``, the stack's output.
    endpoint : str
        Of the local stack.

    Raises
    ------
    CliError
        When the output is no such URL.
    """
    parts = urlsplit(api_url)
    api_id, _, service = (parts.hostname or "").partition(".")
    stage = parts.path.strip("/")
    if not service.startswith("execute-api.") or not stage:
        raise CliError(f"{api_url!r} is not the address of a REST API", "deploy again: millrace local up")
    return f"{endpoint}/_aws/execute-api/{api_id}/{stage}"


def resolve_target(profile: str | None, stack: str | None, region: str | None, live: LocalState | None) -> Target:
    """Return the stack that the options name; without options the local one.

    Parameters
    ----------
    live : LocalState or None
        The local stack, when it runs.

    Raises
    ------
    CliError
        When nothing is named and nothing runs here, or the stack cannot be read.
    """
    if profile or stack or region:
        return aws_target(profile, stack or DEFAULT_AWS_STACK, region)
    if live is None:
        raise CliError(
            "the local stack is not running" if find_project() else "no stack is named",
            "start it: millrace local up; or name one on AWS: --profile NAME --stack NAME",
        )
    if not live.deployed:
        raise CliError("the local stack runs, but nothing is deployed to it yet", "run: millrace local up")
    return local_target(live)


def local_target(state: LocalState) -> Target:
    """Return the local stack as a target."""
    session = boto3.Session(
        aws_access_key_id=state.access_key_id,
        aws_secret_access_key=state.secret_access_key,
        region_name=state.region,
    )
    return _with_outputs(Target(session, state.stack, endpoint=state.endpoint, authority=state.authority))


def aws_target(profile: str | None, stack: str, region: str | None) -> Target:
    """Return a stack in an AWS account as a target."""
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        if not session.region_name:
            raise CliError("no AWS region is set", "name one: --region REGION")
        return _with_outputs(Target(session, stack))
    except BotoCoreError as error:
        raise CliError(f"cannot reach AWS: {error}", "check --profile, --region and the credentials") from error


def _with_outputs(target: Target) -> Target:
    try:
        (description,) = target.client("cloudformation").describe_stacks(StackName=target.stack)["Stacks"]
    except ClientError as error:
        fault = error.response["Error"]
        if fault["Code"] == "ValidationError":
            raise CliError(
                f"there is no stack {target.stack} in {target.region}",
                "name it: --stack NAME --region REGION; or deploy: sam build && sam deploy",
            ) from error
        raise CliError(f"cannot read stack {target.stack}: {fault['Message']}", "check --profile") from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}
    return Target(target.session, target.stack, outputs, target.endpoint, target.authority)
