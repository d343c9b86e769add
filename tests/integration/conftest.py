"""Integration tests run on moto, in process: no network, no containers."""

import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.client import BaseClient
from botocore.httpsession import URLLib3Session, create_urllib3_context
from botocore.loaders import create_loader
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.aws.signed_client import SignedClient
from millrace.registry.store import Registry
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.fakes.memory_registry import MemoryRegistry
from tests.fakes.throttled_table import ThrottledTable
from tests.integration.application import Application, deploy
from tests.integration.loopback_aws import requests_to_moto

BOTO3_MODELS = str(Path(boto3.__file__).with_name("data"))
MOTO_CONFIG = {"stepfunctions": {"execute_state_machine": True}}


@pytest.fixture(scope="session", autouse=True)
def state_machines_parsed_once() -> None:
    """Keep the definitions and paths that moto has parsed: parsing a machine takes longer than running it."""
    parse = AmazonStateLanguageParser.parse
    tree = cache(lambda definition: parse(definition)[1])
    AmazonStateLanguageParser.parse = staticmethod(  # type: ignore[method-assign]  # moto's, to save time
        lambda definition: (Preprocessor().visit(tree(definition)), tree(definition))
    )
    json_path.parse = result_path.parse = cache(json_path.parse)
    machines = StepFunctionsParserBackend
    machines._validate_definition = staticmethod(cache(machines._validate_definition))  # type: ignore[method-assign]  # as above


@pytest.fixture(scope="session", autouse=True)
def clients_made_once() -> None:
    """Make one client of a service for a session, and share what all of them read: they took half of a test's time."""
    make, lock = boto3.client, threading.RLock()
    loader, certificates = cache(create_loader), create_urllib3_context()

    def client(*arguments: Any, **options: Any) -> Any:
        # moto makes one with the same options for every state of an execution.
        config = getattr(options.get("config"), "_user_provided_options", None)
        key = repr((arguments, options | {"config": config}))
        with lock:
            made = vars(boto3._get_default_session()).setdefault("clients_of_tests", {})
            if key not in made:
                made[key] = make(*arguments, **options)
            return made[key]

    def set_up_loader(session: Any) -> None:
        session._loader = session._session.get_component("data_loader")
        if BOTO3_MODELS not in session._loader.search_paths:
            session._loader.search_paths.append(BOTO3_MODELS)

    boto3.client = client  # type: ignore[assignment]  # of the services that tests name
    boto3.session.Session._setup_loader = set_up_loader  # type: ignore[attr-defined]  # private
    botocore.session.create_loader = loader  # type: ignore[attr-defined]  # imported from where it is defined
    # Nothing leaves the process, so certificates are not needed, and reading them takes longer than a call.
    URLLib3Session._get_ssl_context = lambda _: certificates  # type: ignore[method-assign]  # private


@pytest.fixture(autouse=True)
def signed_requests_to_moto() -> Iterator[None]:
    """Answer requests that serving signs itself like those of botocore."""
    with requests_to_moto():
        yield


@pytest.fixture
def application(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The whole application, freshly deployed on moto."""
    with mock_aws(config=MOTO_CONFIG):
        application = deploy(monkeypatch)
        yield application
        assert application.denied == []


@pytest.fixture
def aws_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of AWS by service and operation, and under ``items`` those of transactions."""
    calls, original = Counter[str](), BaseClient._make_api_call  # type: ignore[attr-defined]  # private, and what counts

    def count(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
        calls[f"{client.meta.service_model.service_name}:{operation}"] += 1
        calls["items"] += len(arguments["TransactItems"]) if operation == "TransactWriteItems" else 0
        return original(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", count)
    send = SignedClient.call

    def count_signed(client: SignedClient, operation: str, *arguments: Any) -> bytes:
        calls[f"{client.service}:{operation}"] += 1
        return send(client, operation, *arguments)

    monkeypatch.setattr(SignedClient, "call", count_signed)
    return calls


@pytest.fixture(params=["memory", "dynamodb"])
def registry(request: pytest.FixtureRequest, isolated_from_aws: None) -> Iterator[Registry]:
    """Both registries, one after the other: they have to behave alike."""
    if request.param == "memory":
        yield MemoryRegistry()
        return
    with mock_aws():
        create_table()
        yield Registry(DynamoRegistryStore(boto3.client("dynamodb"), TABLE_NAME, RUNS_TABLE_NAME))


@pytest.fixture
def throttled_table(monkeypatch: pytest.MonkeyPatch) -> ThrottledTable:
    """Table that refuses the calls that a test names."""
    return ThrottledTable.install(monkeypatch)
