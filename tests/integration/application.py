"""The whole application on moto: the shipped state machine file, and the shipped handlers called in process.

moto interprets ``statemachines/training.asl.json`` itself; where it would run a Lambda function in a
container, the handler of that name is called instead, with the environment variables the template gives it.
"""

import importlib.util
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from millrace.aws.signed_client import BucketReader, DynamoDbReader
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl

from tests import schedule_environment
from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.integration.executions import wait_for_machine
from tests.template.table_access import is_granted, may_use_object

PROJECT = Path(__file__).resolve().parents[2]
DATA_BUCKET = "millrace-data"
MODELS_BUCKET = "millrace-models"
ACCOUNT = "123456789012"
REGION = "eu-west-1"
PIPELINE_NAME = "millrace-training"
MONITORING_NAME = "millrace-monitoring"
MONITORING_ARN = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{MONITORING_NAME}"
RETRAINING_NAME = "millrace-retraining"
RETRAINING_ARN = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{RETRAINING_NAME}"
SCORING_NAME = "millrace-scoring"
SCORING_ARN = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{SCORING_NAME}"
TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:millrace-alarms"
PIPELINE_ARN = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{PIPELINE_NAME}"
APPROVAL_TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:approvals"

Handler = Callable[[Mapping[str, Any], Any], Any]


def load_handler(function: str) -> Handler:
    """Import ``functions/<function>/app.py`` afresh and return its ``lambda_handler``."""
    path = PROJECT / "functions" / function / "app.py"
    spec = importlib.util.spec_from_file_location(f"functions_{function}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = module.lambda_handler
    return handler


def lambda_context(function: str) -> SimpleNamespace:
    """Return what Lambda passes as ``context``, as far as Powertools reads it."""
    return SimpleNamespace(
        function_name=function,
        memory_limit_in_mb=16_384,  # of the whole test process, in which every function runs
        invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}",
        aws_request_id="00000000-0000-0000-0000-000000000000",
        get_remaining_time_in_millis=lambda: 900_000,
    )


class Handlers(dict[str, Handler]):
    """Handlers by function, each loaded when it is first asked for: a test calls a few of them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def __missing__(self, function: str) -> Handler:
        with self._lock:
            if function not in self:
                self[function] = load_handler(function)
            return self[function]


class WorkerDiedError(Exception):
    """Stands for a worker that Lambda killed: the class name is all that Step Functions sees of it."""


@dataclass
class Application:
    """A deployed application; every handler may be replaced or wrapped through ``handlers``."""

    handlers: dict[str, Handler]
    clock_step: int = 0
    invocations: list[tuple[str, Any]] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)  # what functions tried and their policies do not grant
    _caller: threading.local = field(default_factory=threading.local)
    _seen_events: set[str] = field(default_factory=set)

    # -- what users do -----------------------------------------------------------------------------------------
    def upload(self, model: str, name: str, body: bytes, deliveries: int = 1, **metadata: str) -> list[dict[str, Any]]:
        """Put a file into the drop zone and deliver its event, as often as told."""
        event = self.put(f"incoming/{model}/{name}", body, **metadata)
        return [self.trigger(event) for _ in range(deliveries)]

    def trigger(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Deliver an event to ``request_training``; returns what became of its one cause."""
        [result] = self.call("request_training", event)["results"]
        return dict(result)

    def put(self, key: str, body: bytes, **metadata: str) -> dict[str, Any]:
        """Put an object and return the event that S3 would send for it."""
        version = boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=key, Body=body, Metadata=metadata)["VersionId"]
        self.clock_step += 1
        occurred_at = datetime(2026, 5, 3, 12, 0, self.clock_step % 60, tzinfo=UTC)
        return {
            "version": "0",
            "id": f"event-{self.clock_step}",
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": occurred_at.isoformat().replace("+00:00", "Z"),
            "region": REGION,
            "account": ACCOUNT,
            "resources": [f"arn:aws:s3:::{DATA_BUCKET}"],
            "detail": {
                "bucket": {"name": DATA_BUCKET},
                "object": {"key": key, "size": len(body), "version-id": version},
                "reason": "PutObject",
            },
        }

    def get(self, path: str, resource: str, parameters: Mapping[str, str], query: Mapping[str, str] | None = None):
        """Read from the management API; returns status and body."""
        response = self.call(
            "manage_models",
            {
                "resource": resource,
                "path": path,
                "httpMethod": "GET",
                "headers": {"Accept": "application/json"},
                "multiValueHeaders": {},
                "queryStringParameters": dict(query or {}) or None,
                "multiValueQueryStringParameters": None,
                "pathParameters": dict(parameters) or None,
                "requestContext": {"requestId": "r", "resourcePath": resource, "httpMethod": "GET", "stage": "v1"},
                "body": None,
                "isBase64Encoded": False,
            },
        )
        return response["statusCode"], json.loads(response["body"])

    def change(self, path: str, resource: str, parameters: Mapping[str, str], body: object) -> tuple[int, Any]:
        """Ask the management API to change something, as ann; returns status and body."""
        response = self.call(
            "change_models",
            {
                "resource": resource,
                "path": path,
                "httpMethod": "POST",
                "headers": {"Content-Type": "application/json"},
                "multiValueHeaders": {},
                "pathParameters": dict(parameters),
                "requestContext": {"requestId": "r", "resourcePath": resource, "identity": {"userArn": "ann"}},
                "body": json.dumps(body),
                "isBase64Encoded": False,
            },
        )
        return response["statusCode"], json.loads(response["body"])

    def predict(self, model: str, body: object) -> tuple[int, Any]:
        """Ask for predictions; returns status and body."""
        response = self.call(
            "predict",
            {
                "resource": "/models/{model}/invocations",
                "path": f"/models/{model}/invocations",
                "httpMethod": "POST",
                "headers": {"Content-Type": "application/json"},
                "pathParameters": {"model": model},
                "requestContext": {"requestId": "r"},
                "body": json.dumps(body),
                "isBase64Encoded": False,
            },
        )
        return response["statusCode"], json.loads(response["body"])

    # -- what AWS does -----------------------------------------------------------------------------------------
    def call(self, function: str, event: Mapping[str, Any]) -> Any:
        """Call a function as Lambda would: JSON in, JSON out."""
        event = json.loads(json.dumps(event))
        self.invocations.append((function, event))
        outer, self._caller.name = getattr(self._caller, "name", None), function
        try:
            return json.loads(json.dumps(self.handlers[function](event, lambda_context(function))))
        finally:
            self._caller.name = outer

    def authorize(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        """Refuse a request to DynamoDB or S3 that the policy of the calling function does not grant, as IAM would."""
        function = getattr(self._caller, "name", None)
        if function is None:  # the test itself
            return
        logical_id = "".join(word.capitalize() for word in function.split("_")) + "Function"
        if model.service_model.service_name == "dynamodb":
            for action, request in _dynamodb_requests(model.name, params):
                table = {TABLE_NAME: "RegistryTable", RUNS_TABLE_NAME: "RunsTable"}[request["TableName"]]
                partition = {"pk": request.get("ExpressionAttributeValues", {}).get(":partition")}
                key = (request.get("Key") or request.get("Item") or partition)["pk"]["S"]
                if not is_granted(logical_id, f"dynamodb:{action}", table, key):
                    self._deny(f"{function}: {action} on {key} of {table}")
            return
        for action, bucket, key in _s3_requests(model.name, params):
            resource = {DATA_BUCKET: "DataBucket", MODELS_BUCKET: "ModelsBucket"}[bucket]
            if not may_use_object(logical_id, f"s3:{action}", resource, key):
                self._deny(f"{function}: {action} on {key} of {resource}")

    def _deny(self, what: str) -> None:
        self.denied.append(what)
        raise PermissionError(what)

    def wait_until_quiet(self, seconds: float = 120.0) -> dict[str, str]:
        """Wait until no execution is running; returns the status of each by name."""
        return wait_for_machine(PIPELINE_ARN, seconds)

    def execution(self, run_id: str) -> dict[str, Any]:
        """Describe a run's execution."""
        arn = PIPELINE_ARN.replace(":stateMachine:", ":execution:") + f":{run_id}"
        return dict(boto3.client("stepfunctions").describe_execution(executionArn=arn))

    def published_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what was published on the event bus, in order: detail type, and detail without the stack's name.

        Events are delivered at least once: two functions that end at the same time may both publish what waits in
        the outbox. As consumers do, the test counts an ``event_id`` once.
        """
        queue = boto3.client("sqs")
        url = queue.get_queue_url(QueueName="published")["QueueUrl"]
        events: list[tuple[str, dict[str, Any]]] = []
        while messages := queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                event = json.loads(message["Body"])
                assert event["detail"].pop("stack") == "millrace"
                event_id = event["detail"].get("event_id")
                if event_id is None or event_id not in self._seen_events:
                    events.append((event["detail-type"], event["detail"]))
                self._seen_events.add(event_id)
                queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return events

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """List a bucket."""
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, bucket: str, key: str) -> Any:
        """Read a JSON document."""
        return json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def _dynamodb_requests(operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if operation == "BatchGetItem":
        for table, request in params["RequestItems"].items():
            yield from ((operation, {"TableName": table, "Key": key}) for key in request["Keys"])
        return
    if operation != "TransactWriteItems":
        yield operation, params
        return
    actions = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
    for item in params["TransactItems"]:
        for kind, request in item.items():
            yield actions[kind], request


def _s3_requests(operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if operation in ("GetObject", "HeadObject"):
        yield "GetObjectVersion" if params.get("VersionId") else "GetObject", params["Bucket"], params["Key"]
    elif operation in ("PutObject", "CreateMultipartUpload", "CopyObject"):
        yield "PutObject", params["Bucket"], params["Key"]
    elif operation == "DeleteObjects":
        yield from (("DeleteObject", params["Bucket"], item["Key"]) for item in params["Delete"]["Objects"])
    if operation == "CopyObject":
        # boto3 has made one string of it before.
        bucket, _, source = unquote(params["CopySource"]).partition("/")
        key, version, _ = source.partition("?versionId=")
        yield "GetObjectVersion" if version else "GetObject", bucket, key


def function_names() -> list[str]:
    """Return every function's folder name."""
    return sorted(path.parent.name for path in (PROJECT / "functions").glob("*/app.py"))


def pipeline_definition(file_name: str = "training.asl.json") -> str:
    """Return a shipped state machine file with the template's substitutions made."""

    def substitute(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.endswith("FunctionArn"):
            function = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("FunctionArn")).lower()
            return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
        return {"Partition": "aws", "EventBusName": "default", "StackName": "millrace"}[name]

    text = (PROJECT / "statemachines" / file_name).read_text()
    return re.sub(r"\$\{(\w+)\}", substitute, text)


def deploy(monkeypatch: pytest.MonkeyPatch) -> Application:
    """Create the buckets, the table, the functions and the pipeline on moto, which must be mocked already."""
    for name, value in {
        "REGISTRY_TABLE": TABLE_NAME,
        "RUNS_TABLE": RUNS_TABLE_NAME,
        "DATA_BUCKET": DATA_BUCKET,
        "MODELS_BUCKET": MODELS_BUCKET,
        "TRAINING_PIPELINE_ARN": PIPELINE_ARN,
        "MONITORING_PIPELINE_ARN": MONITORING_ARN,
        "SCORING_PIPELINE_ARN": SCORING_ARN,
        "ALARM_TOPIC_ARN": TOPIC_ARN,
        "STACK_NAME": "millrace",
        "APPROVAL_TOPIC_ARN": APPROVAL_TOPIC_ARN,
        # A test changes what is served and asks at once.
        "ALIAS_REFRESH_SECONDS": "0",
        **schedule_environment.ENVIRONMENT,
    }.items():
        monkeypatch.setenv(name, value)
    # What these tests are about happens to any number of trials.
    monkeypatch.setattr("millrace.training.planning.DEFAULT_TRIALS", 3)
    monkeypatch.setattr("millrace.training.search_plan.MAX_FOLDED_ROWS", 0)
    # Nobody waits before a step is tried again.
    monkeypatch.setattr(retrier_decl, "time", SimpleNamespace(sleep=lambda _: None))
    # moto does not know this call.
    monkeypatch.setattr("millrace.aws.pipeline.LambdaConcurrency.unreserved", lambda _: 1_000)
    session = boto3.session.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    monkeypatch.setattr("millrace.aws.clients._session", lambda: session)
    application = Application(Handlers())
    for service in ("dynamodb", "s3"):
        session.events.register(f"before-parameter-build.{service}", application.authorize)
    _authorize_serving(application, monkeypatch)
    _create_storage()
    schedule_environment.create_groups()
    _create_functions(application, monkeypatch)
    _create_pipeline()
    return application


def _authorize_serving(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse requests that serving signs itself like those of botocore."""
    get_item, get_object = DynamoDbReader.get_item, BucketReader.get_object

    def read_item(client: DynamoDbReader, **request: Any) -> Any:
        application.authorize(request, _operation("dynamodb", "GetItem"))
        return get_item(client, **request)

    def read_object(client: BucketReader, key: str) -> bytes:
        application.authorize({"Bucket": MODELS_BUCKET, "Key": key}, _operation("s3", "GetObject"))
        return get_object(client, key)

    monkeypatch.setattr(DynamoDbReader, "get_item", read_item)
    monkeypatch.setattr(BucketReader, "get_object", read_object)


def _operation(service: str, name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, service_model=SimpleNamespace(service_name=service))


def _create_storage() -> None:
    s3 = boto3.client("s3")
    for bucket in (DATA_BUCKET, MODELS_BUCKET):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    create_table()
    boto3.client("sns").create_topic(Name="approvals")
    queue_url = boto3.client("sqs").create_queue(QueueName="published")["QueueUrl"]
    queue = boto3.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    boto3.client("sns").create_topic(Name=TOPIC_ARN.rpartition(":")[2])
    events = boto3.client("events")
    events.put_rule(Name="published", EventPattern=json.dumps({"source": ["millrace"]}))
    events.put_targets(Rule="published", Targets=[{"Id": "queue", "Arn": queue["Attributes"]["QueueArn"]}])


def _role(service: str) -> str:
    policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]}
    role = boto3.client("iam").create_role(RoleName=service, AssumeRolePolicyDocument=json.dumps(policy))
    return str(role["Role"]["Arn"])


def _create_functions(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    role = _role("lambda.amazonaws.com")
    for name in function_names():
        boto3.client("lambda").create_function(
            FunctionName=name, Runtime="python3.13", Role=role, Handler="app.lambda_handler", Code={"ZipFile": b"-"}
        )

    def invoke(function: Any, body: Any, _request_headers: Any, response_headers: Any) -> bytes:
        try:
            return json.dumps(application.call(function.function_name, json.loads(body))).encode()
        except Exception as error:  # noqa: BLE001  # Lambda reports every error, whatever its class
            response_headers["x-amz-function-error"] = "Unhandled"
            return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()

    monkeypatch.setattr("moto.awslambda.models.LambdaFunction.invoke", invoke)


def _create_pipeline() -> None:
    role = _role("states.amazonaws.com")
    for name, file_name in (
        (PIPELINE_NAME, "training.asl.json"),
        (MONITORING_NAME, "monitoring.asl.json"),
        (RETRAINING_NAME, "retraining.asl.json"),
        (SCORING_NAME, "scoring.asl.json"),
    ):
        boto3.client("stepfunctions").create_state_machine(
            name=name, definition=pipeline_definition(file_name), roleArn=role
        )
