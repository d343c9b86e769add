"""S3, Step Functions and the translation of errors, on moto and on botocore's own stubs."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from millrace import observability, retry
from millrace.aws import clients
from millrace.aws.client_errors import aws_errors
from millrace.aws.object_store import S3ObjectStore
from millrace.aws.pipeline import LambdaConcurrency, StepFunctionsPipeline
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.errors import ArtifactNotFoundError, ConfigurationError, ConflictError, ServiceUnavailableError
from millrace.registry.store import Registry
from moto import mock_aws
from packaging.version import Version

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.registry_builders import (
    MODEL,
    NOW,
    later,
    make_cause,
    make_entry,
    make_run,
    make_version,
    point_alias,
)

BUCKET = "millrace-data"
PIPELINE_ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:millrace-training"
RUN_ID = "20260503T141500-0f3a9c2b7d1e"


@pytest.fixture(params=["memory", "s3"])
def store(request, isolated_from_aws) -> Iterator[MemoryObjectStore | S3ObjectStore]:
    if request.param == "memory":
        yield MemoryObjectStore(BUCKET)
        return
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield clients.object_store(BUCKET)


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", ConfigurationError), ("InternalError", ServiceUnavailableError)]
)
def test_an_object_that_could_not_be_deleted_is_told(isolated_from_aws, code, error):
    client = boto3.client("s3")
    with Stubber(client) as stubber:
        stubber.add_response("delete_objects", {"Errors": [{"Key": "a", "Code": code}]})
        with pytest.raises(error):
            S3ObjectStore(client, BUCKET).delete(["a", "b"])


class TestObjectStore:
    def test_an_object_comes_back_as_it_was_put(self, store):
        store.put("a/b c+%20.json", b"{}", "application/json")
        assert store.get("a/b c+%20.json") == b"{}"
        info = store.head("a/b c+%20.json")
        assert (info.size, dict(info.metadata)) == (2, {})
        assert info.last_modified.tzinfo is not None

    def test_every_version_stays_readable(self, store):
        store.put("key", b"old")
        old = store.head("key").version_id
        store.put("key", b"newer")
        assert store.get("key") == b"newer"
        assert store.get("key", old) == b"old"
        assert store.head("key", old).size == 3

    def test_a_range_is_of_the_content_that_was_listed(self, store):
        store.put("key", b"0123456789")
        (listed,) = store.list("key")
        assert store.get_range("key", 2, 5, etag=listed.etag) == b"234"
        assert store.get_range("key", 8, 99, etag=listed.etag) == b"89"
        assert store.get_range("key", 10, 99, etag=listed.etag) == b""
        first = store.head("key")
        assert first.etag == listed.etag
        store.put("key", b"abcdefghij")
        with pytest.raises(ConflictError, match="replaced"):
            store.get_range("key", 2, 5, etag=listed.etag)
        assert store.get_range("key", 2, 5, etag=listed.etag, version_id=first.version_id) == b"234"
        store.delete(["key"])
        with pytest.raises(ArtifactNotFoundError):
            store.get_range("key", 2, 5, etag=listed.etag)

    def test_what_is_deleted_is_gone_and_the_rest_stays(self, store):
        for number in range(1_002):
            store.put(f"runs/{number:04d}", b"12")
        store.delete([f"runs/{number:04d}" for number in range(1_001)] + ["runs/never-was"])
        assert [listed.key for listed in store.list("runs/")] == ["runs/1001"]
        with pytest.raises(ArtifactNotFoundError):
            store.get("runs/0000")
        store.delete([])

    def test_a_prefix_is_listed_by_key_past_the_first_thousand(self, store):
        for number in range(1_003):
            store.put(f"captures/churn/{number:04d}", b"12")
        store.put("captures/churn2/0", b"1")
        listed = list(store.list("captures/churn/"))
        assert [found.key for found in listed] == [f"captures/churn/{number:04d}" for number in range(1_003)]
        assert {found.size for found in listed} == {2}
        assert listed[0].last_modified.tzinfo is not None
        assert list(store.list("nothing/")) == []

    def test_a_file_goes_up_and_comes_down(self, store, tmp_path):
        (tmp_path / "up").write_bytes(b"first")
        store.upload_file(tmp_path / "up", "key", "text/csv")
        first = store.head("key").version_id
        store.put("key", b"second")
        store.download("key", tmp_path / "newest")
        store.download("key", tmp_path / "older", first)
        assert (tmp_path / "newest").read_bytes() == b"second"
        assert (tmp_path / "older").read_bytes() == b"first"
        with pytest.raises(ArtifactNotFoundError):
            store.download("nothing", tmp_path / "none")

    def test_a_version_is_found_by_its_content(self, store):
        store.put("incoming/a.csv", b"first")
        store.put("incoming/a.csv", b"second")
        store.put("incoming/a.csv.bak", b"first")
        version_id = store.find_version(
            "incoming/a.csv", f'"{hashlib.md5(b"first", usedforsecurity=False).hexdigest()}"'
        )
        assert store.get("incoming/a.csv", version_id) == b"first"
        with pytest.raises(ArtifactNotFoundError):
            store.find_version("incoming/a.csv", "0" * 32)

    def test_versions_are_listed_with_what_was_deleted(self, store):
        for body in (b"first", b"second!"):
            store.put("incoming/churn/may/a.csv", body)
        store.put("incoming/churn/may2/b.csv", b"x")
        store.delete(["incoming/churn/may/a.csv"])
        listed = list(store.list_versions("incoming/churn/may/"))
        assert {version.key for version in listed} == {"incoming/churn/may/a.csv"}
        assert [version.size for version in listed if not version.is_deleted] == [7, 5]
        assert sum(version.is_deleted for version in listed) == 1
        newest = next(version for version in listed if not version.is_deleted)
        assert store.get(newest.key, newest.version_id) == b"second!"

    def test_of_two_who_write_on_a_condition_one_does(self, store):
        assert store.put_if_unchanged("key", b"first", None)
        assert not store.put_if_unchanged("key", b"second", None)
        body, etag = store.get_with_etag("key")
        assert body == b"first"
        assert store.put_if_unchanged("key", b"first and third", etag)
        assert not store.put_if_unchanged("key", b"first and fourth", etag)
        assert not store.put_if_unchanged("nothing", b"fifth", etag)
        assert store.get("key") == b"first and third"
        with pytest.raises(ArtifactNotFoundError):
            store.get_with_etag("nothing")

    def test_a_copy_is_of_the_version_named(self, store):
        store.put("key", b"old")
        old = store.head("key").version_id
        store.put("key", b"new")
        store.copy("key", "copy of new+.bin")
        store.copy("key", "copy-of-old", old)
        assert (store.get("copy of new+.bin"), store.get("copy-of-old")) == (b"new", b"old")

    def test_a_copy_leaves_the_tags_behind(self):
        # Reading and writing tags are permissions of their own, which no function has.
        with mock_aws():
            s3 = boto3.client("s3")
            s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
            s3.put_object(Bucket=BUCKET, Key="key", Body=b"rows", Tagging="team=sales", Metadata={"target": "label"})
            clients.object_store(BUCKET).copy("key", "copy")
            assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == []
            assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"target": "label"}

    @pytest.mark.parametrize(("operation", "code"), [("get_object", "AccessDenied"), ("head_object", "403")])
    def test_a_refused_read_names_the_parameter_for_encrypted_uploads(self, isolated_from_aws, operation, code):
        client = boto3.client("s3")
        read = {"get_object": S3ObjectStore.get, "head_object": S3ObjectStore.head}[operation]
        with Stubber(client) as stubber:
            stubber.add_client_error(operation, code, http_status_code=403)
            with pytest.raises(ConfigurationError, match=r"'incoming/a\.csv'.*UploadKeyArn"):
                read(S3ObjectStore(client, BUCKET), "incoming/a.csv")

    @pytest.mark.parametrize("act", [lambda s: s.get("no"), lambda s: s.head("no"), lambda s: s.copy("no", "to")])
    def test_what_is_not_there_is_not_found(self, store, act):
        with pytest.raises(ArtifactNotFoundError, match="no"):
            act(store)

    def test_a_version_that_never_was_is_not_found(self, store):
        store.put("key", b"body")
        with pytest.raises(ArtifactNotFoundError):
            store.get("key", "never")
        with pytest.raises(ArtifactNotFoundError):
            store.head("key", "never")


def test_a_bucket_that_is_not_there_is_a_wrong_deployment():
    with mock_aws(), pytest.raises(ConfigurationError, match="NoSuchBucket"):
        clients.object_store("nowhere").get("key")


def test_metadata_of_an_upload_is_read():
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_object(Bucket=BUCKET, Key="key", Body=b"x", Metadata={"target": "churned"})
        assert clients.object_store(BUCKET).head("key").metadata == {"target": "churned"}


class TestPipeline:
    @pytest.fixture
    def states(self) -> Iterator[object]:
        with mock_aws():
            states = boto3.client("stepfunctions")
            arn = states.create_state_machine(
                name="millrace-training",
                definition=json.dumps({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 60, "End": True}}}),
                roleArn="arn:aws:iam::123456789012:role/states",
            )["stateMachineArn"]
            assert arn == PIPELINE_ARN
            yield states

    def test_a_run_is_started_once_under_its_own_name(self, states):
        pipeline = clients.training_pipeline(PIPELINE_ARN)
        assert not pipeline.is_running(RUN_ID)
        assert pipeline.start(MODEL, RUN_ID)
        assert pipeline.start(MODEL, RUN_ID)
        (execution,) = states.list_executions(stateMachineArn=PIPELINE_ARN)["executions"]
        assert execution["name"] == RUN_ID
        described = states.describe_execution(executionArn=execution["executionArn"])
        assert json.loads(described["input"]) == {"model": MODEL, "run_id": RUN_ID}
        assert pipeline.is_running(RUN_ID)

    def test_a_run_that_ended_is_not_started_again(self, states):
        pipeline = clients.training_pipeline(PIPELINE_ARN)
        pipeline.start(MODEL, RUN_ID)
        arn = states.list_executions(stateMachineArn=PIPELINE_ARN)["executions"][0]["executionArn"]
        states.stop_execution(executionArn=arn)
        assert not pipeline.is_running(RUN_ID)

    def test_an_execution_that_exists_already_is_no_error(self):
        client = boto3.client("stepfunctions")
        with Stubber(client) as stub:
            stub.add_client_error("start_execution", "ExecutionAlreadyExists", http_status_code=400)
            stub.add_response("describe_execution", execution("SUCCEEDED"))
            assert not StepFunctionsPipeline(client, PIPELINE_ARN).start(MODEL, RUN_ID)
            stub.assert_no_pending_responses()

    def test_a_pipeline_that_is_not_there_is_a_wrong_deployment(self, states):
        with pytest.raises(ConfigurationError):
            clients.training_pipeline(PIPELINE_ARN + "-gone").start(MODEL, RUN_ID)


def execution(status):
    arn = f"{PIPELINE_ARN.replace(':stateMachine:', ':execution:')}:{RUN_ID}"
    return {
        "executionArn": arn,
        "stateMachineArn": PIPELINE_ARN,
        "name": RUN_ID,
        "status": status,
        "startDate": datetime(2026, 5, 3, tzinfo=UTC),
    }


class TestConcurrency:
    """moto does not know the call."""

    def test_the_executions_that_are_not_reserved_are_read(self):
        client = boto3.client("lambda")
        with Stubber(client) as stub:
            limit = {"ConcurrentExecutions": 1_000, "UnreservedConcurrentExecutions": 950}
            stub.add_response("get_account_settings", {"AccountLimit": limit})
            assert LambdaConcurrency(client).unreserved() == 950

    def test_a_busy_lambda_may_be_asked_again(self):
        client = boto3.client("lambda")
        with Stubber(client) as stub:
            stub.add_client_error("get_account_settings", "TooManyRequestsException", http_status_code=429)
            with pytest.raises(ServiceUnavailableError):
                LambdaConcurrency(client).unreserved()


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "status"),
        [("ThrottlingException", 400), ("SlowDown", 503), ("InternalServerError", 500), ("AnythingElse", 502)],
    )
    def test_throttling_and_faults_of_aws_can_be_tried_again(self, code, status):
        error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutItem")
        with pytest.raises(ServiceUnavailableError) as caught, aws_errors("DynamoDB"):
            raise error
        assert caught.value.retryable
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize(
        "error", [EndpointConnectionError(endpoint_url="https://x"), ReadTimeoutError(endpoint_url="https://x")]
    )
    def test_silence_can_be_tried_again(self, error):
        with pytest.raises(ServiceUnavailableError), aws_errors("S3"):
            raise error

    def test_what_is_forbidden_is_a_wrong_deployment(self):
        with pytest.raises(ConfigurationError, match="AccessDenied"), aws_errors("S3"):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")

    def test_a_fault_of_ours_passes_through(self):
        with pytest.raises(ClientError), aws_errors("DynamoDB"):
            raise ClientError({"Error": {"Code": "ValidationException"}}, "PutItem")


class TestContention:
    """Transactions that meet others; moto never makes them meet."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(retry.time, "sleep", lambda _: None)

    @staticmethod
    def cancelled(client, monkeypatch, codes, times):
        """Let the first ``times`` transactions be cancelled with these codes."""
        transact = client.transact_write_items
        left = [times]

        def cancel(**arguments):
            if not left[0]:
                return transact(**arguments)
            left[0] -= 1
            raise ClientError(
                {
                    "Error": {"Code": "TransactionCanceledException"},
                    "CancellationReasons": [{"Code": code} for code in codes],
                },
                "TransactWriteItems",
            )

        monkeypatch.setattr(client, "transact_write_items", cancel)

    def claim(self, monkeypatch, codes, times):
        with mock_aws():
            create_table()
            client = boto3.client("dynamodb")
            self.cancelled(client, monkeypatch, codes, times)
            cause = make_cause()
            return Registry(DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME)).claim_cause(
                cause, make_run(cause), make_entry("e", at=NOW)
            )

    @pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
    def test_one_that_met_another_is_tried_again(self, monkeypatch, code):
        assert self.claim(monkeypatch, ["None", code, "None"], times=3).outcome == "started"

    def change_item(self, monkeypatch, times):
        """Change one item, which the first ``times`` attempts find in another's transaction."""
        with mock_aws():
            create_table()
            client = boto3.client("dynamodb")
            registry = Registry(DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME))
            cause = make_cause()
            registry.claim_cause(cause, make_run(cause), make_entry("e", at=NOW))
            update, left = client.update_item, [times]

            def conflict(**arguments):
                if not left[0]:
                    return update(**arguments)
                left[0] -= 1
                raise ClientError({"Error": {"Code": "TransactionConflictException"}}, "UpdateItem")

            monkeypatch.setattr(client, "update_item", conflict)
            registry.update_run(MODEL, make_run(cause).run_id, stage="training")
            return registry.get_run(MODEL, make_run(cause).run_id).stage

    def test_a_single_change_that_met_a_transaction_is_tried_again(self, monkeypatch):
        assert self.change_item(monkeypatch, times=3) == "training"

    def test_a_single_change_that_always_does_gives_up_and_may_be_asked_again(self, monkeypatch):
        with pytest.raises(ServiceUnavailableError):
            self.change_item(monkeypatch, times=1_000)

    def test_one_whose_condition_failed_decides_anew(self, monkeypatch):
        assert self.claim(monkeypatch, ["None", "ConditionalCheckFailed"], times=2).outcome == "started"

    @pytest.mark.parametrize("code", ["TransactionConflict", "ConditionalCheckFailed"])
    def test_one_that_always_does_gives_up_and_may_be_asked_again(self, monkeypatch, code):
        with pytest.raises(ServiceUnavailableError):
            self.claim(monkeypatch, [code], times=1000)

    def test_one_that_is_wrong_is_not_repeated(self, monkeypatch):
        with pytest.raises(ClientError):
            self.claim(monkeypatch, ["ValidationError"], times=1)


class TestRivals:
    """Callers that read at the same moment and both believe they are first: only conditions tell them apart."""

    @pytest.fixture
    def blind(self, monkeypatch) -> Iterator[Registry]:
        """A registry whose next reads find nothing, as if they came before the rival's write."""
        with mock_aws():
            create_table()
            registry = Registry(DynamoRegistryStore(boto3.client("dynamodb"), TABLE_NAME, RUNS_TABLE_NAME))
            monkeypatch.setattr(retry.time, "sleep", lambda _: None)
            yield registry

    @staticmethod
    def read_nothing(registry, monkeypatch, times):
        get, left = registry.store.get, [times]

        def get_later(key):
            left[0] -= 1
            return None if left[0] >= 0 else get(key)

        monkeypatch.setattr(registry.store, "get", get_later)

    def test_a_cause_that_a_rival_claimed_is_a_duplicate(self, blind, monkeypatch):
        cause = make_cause()
        blind.claim_cause(cause, make_run(cause), make_entry("rival"))
        blind.release_run(MODEL, make_run(cause).run_id, None, None)
        self.read_nothing(blind, monkeypatch, times=2)
        assert blind.claim_cause(cause, make_run(cause), make_entry("mine")).outcome == "duplicate"
        assert [entry.entry_id for entry in blind.list_ledger(MODEL)] == ["rival"]
        assert blind.get_state(MODEL).active_run_id is None

    def test_a_turn_that_a_rival_took_is_waited_for(self, blind, monkeypatch):
        first, second = make_cause("1.csv"), make_cause("2.csv")
        blind.claim_cause(first, make_run(first), make_entry("rival"))
        self.read_nothing(blind, monkeypatch, times=2)
        assert blind.claim_cause(second, make_run(second), make_entry("mine")).outcome == "deferred"
        state = blind.get_state(MODEL)
        assert (state.active_run_id, state.pending_causes) == (make_run(first).run_id, 1)

    def test_a_run_that_ended_meanwhile_is_not_waited_for(self, blind, monkeypatch):
        first, second = make_cause("1.csv"), make_cause("2.csv")
        blind.claim_cause(first, make_run(first), make_entry("rival"))
        transact = blind.store.transact

        def release_first(actions):
            monkeypatch.setattr(blind.store, "transact", transact)
            blind.release_run(MODEL, make_run(first).run_id, None, None)
            return transact(actions)

        monkeypatch.setattr(blind.store, "transact", release_first)
        assert blind.claim_cause(second, make_run(second), make_entry("mine")).outcome == "started"
        assert blind.get_state(MODEL).pending_causes == 0


def test_the_first_client_logs_the_version_of_boto3(capsys, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "clients")
    monkeypatch.delitem(vars(observability), "logger", raising=False)
    monkeypatch.setattr(clients, "logger", observability.logger)
    with mock_aws():
        clients.object_store("one")
        clients.object_store("two")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["boto3"] == boto3.__version__
    assert Version(boto3.__version__) >= Version("1.35.69")  # the first with conditional writes to S3


def test_clients_are_built_once_and_forgotten_on_request():
    with mock_aws():
        first = clients.object_store("one")
        assert clients.object_store("one") is first
        assert clients.object_store("two") is not first
        clients.clear_clients()
        assert clients.object_store("one") is not first


def test_what_an_alias_pointed_to_at_a_moment_is_one_query_for_one_item(isolated_from_aws):
    with mock_aws():
        create_table()
        client = boto3.client("dynamodb")
        registry = Registry(DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME))
        cause = make_cause()
        registry.claim_cause(cause, make_run(cause), make_entry(cause.cause_id))
        for number in (1, 2):
            registry.put_version(make_version(number), make_entry(f"v{number}"))
        for minute in range(20):
            point_alias(registry, "champion", 1 + minute % 2, at=later(minute))
        asked = []

        def remember(params, model, **_):
            asked.append((model.name, params))

        client.meta.events.register("before-parameter-build.dynamodb.*", remember)
        move = registry.alias_move_at(MODEL, "champion", later(7.5))
    assert (move.to_version, move.occurred_at) == (2, later(7))
    ((operation, parameters),) = asked
    assert (operation, parameters["Limit"], parameters["ScanIndexForward"]) == ("Query", 1, False)
