"""Checks of a stack's first day: from the first upload to the deletion of the model, as a user would do them.

Every check runs on the local stack too, except those that name what the local stack cannot show.
"""

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import millrace
from botocore.exceptions import ClientError, WaiterError
from millrace.layout import captures_prefix
from rich.console import Console

from millrace_cli.api import connect
from millrace_cli.errors import ApiError
from millrace_cli.http_client import HttpClient
from millrace_cli.job_progress import follow_job
from millrace_cli.run_progress import Snapshot
from millrace_cli.score_files import put_source
from millrace_cli.verification.context import (
    Check,
    CheckError,
    NotApplicable,
    Verification,
    make_rows,
    restore_parameters,
    write_table,
)

TRAINING_ROWS, PLAIN_ROWS, BATCH_ROWS = 400, 10, 1_000
#: Limits of a request, from ``docs/serving.md``.
MAX_ROWS, MAX_BODY_BYTES = 10_000, 4_500_000
#: S3 sends no events of a new bucket for about five minutes; the upload is repeated meanwhile.
EVENT_SECONDS, TRAINING_SECONDS = 900.0, 3600.0
CAPTURE_SECONDS, METRIC_SECONDS, SWAP_SECONDS = 600.0, 900.0, 60.0
DELETION_SECONDS = 1800.0
_TIME_ZONE = "Europe/Berlin"
_SPEC = {"training": {"trials": 2}, "capture": {"sampling_rate": 1.0, "max_rows": MAX_ROWS}}
_SCHEDULE = {"schedule": "cron(0 3 * * ? *)", "time_zone": _TIME_ZONE}
_REASON = "verification of the stack"


def _check_stack(verification: Verification) -> str:
    (stack,) = verification.target.client("cloudformation").describe_stacks(StackName=verification.target.stack)[
        "Stacks"
    ]
    if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise CheckError(f"the stack is in {stack['StackStatus']}")
    library = verification.api.get("/v2")["version"]
    if library != millrace.__version__:
        raise CheckError(f"version {library} of the library serves, not {millrace.__version__}")
    return f"{stack['StackStatus']}, version {library} of the library serves"


def _check_unsigned(verification: Verification) -> str:
    with _anonymous(verification, verification.target.api_url) as client:
        status = client.request("GET", "/models").status_code
    if status != HTTPStatus.FORBIDDEN:
        raise CheckError(f"an unsigned request got HTTP {status}")
    return "an unsigned request got HTTP 403"


def _check_event(verification: Verification) -> str:
    verification.api.put(f"/models/{verification.model}/spec", {"spec": _SPEC, "reason": _REASON})
    table = write_table(verification.folder / "table.csv", TRAINING_ROWS)
    verification.progress = verification.follow_upload(verification.model, table, EVENT_SECONDS + TRAINING_SECONDS)
    began = time.monotonic()
    for (snapshot,) in verification.progress:
        seconds = time.monotonic() - began
        if snapshot.cause_status != "unseen":
            repeated = (
                f"; uploaded again {verification.repeated_uploads} times" if verification.repeated_uploads else ""
            )
            return f"received after {seconds:.0f} s{repeated}"
        if seconds > EVENT_SECONDS:
            break
    raise CheckError(f"the stack did not receive an upload within {EVENT_SECONDS:.0f} seconds")


def _check_training(verification: Verification) -> str:
    snapshot = _last(verification.progress or iter(()))
    if snapshot.status != "succeeded":
        raise CheckError(f"run {snapshot.run_id} ended as {snapshot.status}: {_reasons(snapshot)}")
    version = (snapshot.run or {}).get("version")
    serving = verification.api.get(f"/models/{verification.model}")["aliases"].get("champion")
    if serving != version:
        raise CheckError(f"run {snapshot.run_id} registered version {version}, but the champion is {serving}")
    return f"version {version} serves"


def _check_rejection(verification: Verification) -> str:
    table = write_table(verification.folder / "without-rows.csv", 0)
    snapshot = _last(verification.follow_upload(verification.rejected_model, table, EVENT_SECONDS))
    if snapshot.status != "rejected":
        raise CheckError(f"run {snapshot.run_id} ended as {snapshot.status}: {_reasons(snapshot)}")
    pipeline = verification.target.output("TrainingPipelineArn").replace(":stateMachine:", ":execution:")
    states = verification.target.client("stepfunctions")

    def ended() -> Any:
        execution = states.describe_execution(executionArn=f"{pipeline}:{snapshot.run_id}")
        return None if execution["status"] == "RUNNING" else execution

    execution = verification.wait("the execution's end", SWAP_SECONDS, ended)
    if execution.get("error") != "DatasetRejected":
        raise CheckError(
            f"the execution ended as {execution['status']} with {execution.get('error')!r}, not with 'DatasetRejected'"
        )
    return f"rejected: {_reasons(snapshot)}"


def _check_plain(verification: Verification) -> str:
    verification.predict(make_rows(PLAIN_ROWS))
    return f"{PLAIN_ROWS} predictions"


def _check_gzip(verification: Verification) -> str:
    rows = make_rows(PLAIN_ROWS)
    if verification.predict(rows, compress=True) != verification.predict(rows):
        raise CheckError("the predictions differ from those of the same rows without gzip")
    return "the same predictions as without gzip"


def _check_large(verification: Verification) -> str:
    verification.predict(make_rows(MAX_ROWS), size=MAX_BODY_BYTES)
    return f"{MAX_ROWS:,} predictions for a body of {MAX_BODY_BYTES:,} bytes"


def _check_batch(verification: Verification) -> str:
    target, model = verification.target, verification.model
    table, bucket = write_table(verification.folder / "batch.csv", BATCH_ROWS), target.output("DataBucketName")
    key = put_source(target.client("s3"), bucket, model, str(table), Console(quiet=True))
    job_id = verification.api.post(f"/models/{model}/batches", {"source": key, "reason": _REASON})["job_id"]
    *_, last = follow_job(
        verification.api, model, job_id, poll_seconds=target.poll_seconds, timeout_seconds=TRAINING_SECONDS
    )
    if last.job["status"] != "succeeded":
        raise CheckError(f"job {job_id} {last.job['status']}: {'; '.join(last.job['reasons'])}")
    return f"{last.job['summary']['rows']:,} rows scored"


def _check_captures(verification: Verification) -> str:
    s3, bucket = verification.target.client("s3"), verification.target.output("DataBucketName")
    expected = dict(verification.predicted)
    found: Counter[str] = Counter()

    def arrived() -> bool:
        found.clear()
        found.update(_captured_rows(s3, bucket, verification.model, verification.began))
        return all(found[prediction_id] >= rows for prediction_id, rows in expected.items())

    try:
        verification.wait("captured rows", CAPTURE_SECONDS, arrived)
    except CheckError as error:
        arrived_rows = sum(found[prediction_id] for prediction_id in expected)
        raise CheckError(f"{error.message}: {arrived_rows:,} of {sum(expected.values()):,} arrived") from None
    malformed = [
        entry["Key"]
        for entry in _list_objects(s3, bucket, "captures/_malformed/")
        if entry["LastModified"] >= verification.began
    ]
    if malformed:
        raise CheckError(f"captured lines that cannot be read: s3://{bucket}/{malformed[0]}")
    return f"{sum(expected.values()):,} rows arrived, none of them malformed"


def _check_feedback(verification: Verification) -> str:
    (prediction_id, rows) = next(iter(verification.predicted.items()))
    reports = [{"prediction_id": f"{prediction_id}-{row}", "outcome": row % 2} for row in range(rows)]
    verification.api.post(f"/models/{verification.model}/feedback", {"feedback": reports})

    def is_joined() -> bool:
        coverage = verification.api.get(f"/models/{verification.model}/feedback", {"hours": "24"})
        return int(coverage["labelled"]) >= rows

    verification.wait("the coverage to count the feedback", CAPTURE_SECONDS, is_joined)
    return f"{rows} predictions have their ground truth"


def _check_key(verification: Verification) -> str:
    if "KeyApiUrl" not in verification.target.outputs:
        raise NotApplicable("the stack has no API keys (ApiAccess=IAM)")
    key = verification.target.client("apigateway").get_api_key(
        apiKey=verification.target.output("ApiKeyId"), includeValue=True
    )["value"]
    body = {"dataframe_records": make_rows(1)}
    statuses = []
    with _anonymous(verification, verification.target.key_api_url) as client:
        for headers in ({"x-api-key": key}, {"x-api-key": "x" * 40}, {}):
            response = client.request("POST", f"/models/{verification.model}/invocations", json=body, headers=headers)
            statuses.append(response.status_code)
    if statuses != [HTTPStatus.OK, HTTPStatus.FORBIDDEN, HTTPStatus.FORBIDDEN]:
        raise CheckError(f"HTTP {statuses[0]} with the key, {statuses[1]} with another, {statuses[2]} without one")
    return "HTTP 200 with the key, 403 with another or without one"


def _check_time_zone(verification: Verification) -> str:
    spec = _SPEC | {"retraining": _SCHEDULE}
    verification.api.put(f"/models/{verification.model}/spec", {"spec": spec, "reason": _REASON})
    schedule = verification.target.client("scheduler").get_schedule(
        GroupName=verification.resource("RetrainingSchedules"), Name=verification.model
    )
    if schedule.get("ScheduleExpressionTimezone") != _TIME_ZONE:
        raise CheckError(f"the schedule's time zone is {schedule.get('ScheduleExpressionTimezone')}")
    return f"{schedule['ScheduleExpression']} in {_TIME_ZONE}"


def _check_parameters(verification: Verification) -> str:
    client, function = verification.target.client("lambda"), verification.resource("PredictFunction")
    before = client.get_function_configuration(FunctionName=function, Qualifier="live")
    memory = before["MemorySize"] + 64
    verification.update_parameters({"PredictMemorySize": str(memory), "LogLevel": "ERROR", "ModelMetrics": "true"})
    verification.parameters_changed_at = datetime.now(UTC)
    after = client.get_function_configuration(FunctionName=function, Qualifier="live")
    if after["MemorySize"] != memory:
        raise CheckError(f"the alias live still has {after['MemorySize']} MB, and not {memory}")
    return f"live went from version {before['Version']} to {after['Version']}, with {memory} MB"


def _check_log_level(verification: Verification) -> str:
    verification.predict(make_rows(PLAIN_ROWS))
    *_, prediction_id = verification.predicted
    logs, group = verification.target.client("logs"), verification.resource("PredictLogGroup")
    since = int((verification.parameters_changed_at or verification.began).timestamp() * 1_000)

    def find_line() -> str | None:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
        lines = (event["message"] for page in pages for event in page["events"])
        return next((line for line in lines if prediction_id in line and "PredictionLatency" in line), None)

    verification.wait("the line with the request's metrics", CAPTURE_SECONDS, find_line)
    return "a request's metrics are in the log at LogLevel=ERROR"


def _check_metrics(verification: Verification) -> str:
    cloudwatch = verification.target.client("cloudwatch")
    name = {"Namespace": "Millrace", "MetricName": "PredictionLatency"}
    since = verification.parameters_changed_at or verification.began

    def count() -> float:
        now = datetime.now(UTC)
        found = 0.0
        for page in cloudwatch.get_paginator("list_metrics").paginate(**name, RecentlyActive="PT3H"):
            for metric in page["Metrics"]:
                points = cloudwatch.get_metric_statistics(
                    **name,
                    Dimensions=metric["Dimensions"],
                    StartTime=since.replace(second=0, microsecond=0),
                    EndTime=now + timedelta(minutes=1),
                    Period=60,
                    Statistics=["SampleCount"],
                )["Datapoints"]
                found += sum(point["SampleCount"] for point in points)
        return found

    requests = verification.wait("CloudWatch's metrics", METRIC_SECONDS, count)
    return f"CloudWatch counted {requests:.0f} requests at LogLevel=ERROR"


def _check_restore(verification: Verification) -> str:
    restore_parameters(verification)
    verification.predict(make_rows(PLAIN_ROWS))
    return "the parameters are as before, and predictions are served"


def _check_deletion(verification: Verification) -> str:
    verification.api.delete(f"/models/{verification.model}", {"reason": _REASON})

    def is_gone() -> bool:
        try:
            verification.predict(make_rows(1))
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return True
        return False

    verification.wait("the model to stop serving", SWAP_SECONDS, is_gone)
    try:
        verification.target.client("scheduler").get_schedule(
            GroupName=verification.resource("RetrainingSchedules"), Name=verification.model
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return "the model does not serve, and its schedule is gone"
    raise CheckError("the model's schedule is still there")


def _delete_stack(verification: Verification) -> str:
    cloudformation, stack = verification.target.client("cloudformation"), verification.target.stack
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = [entry for page in pages for entry in page["StackResourceSummaries"]]
    _stop_executions(verification)
    cloudformation.delete_stack(StackName=stack)
    delay = 1 if verification.target.is_local else 10
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=stack, WaiterConfig={"Delay": delay, "MaxAttempts": int(DELETION_SECONDS) // delay}
        )
    except WaiterError as error:
        raise CheckError(f"the stack was not deleted: {error}") from error
    names = {
        kind: {entry["PhysicalResourceId"] for entry in resources if entry["ResourceType"] == kind}
        for kind in ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Lambda::Function")
    }
    buckets = {bucket["Name"] for bucket in verification.target.client("s3").list_buckets()["Buckets"]}
    tables = set(_pages(verification, "dynamodb", "list_tables", "TableNames"))
    functions = {entry["FunctionName"] for entry in _pages(verification, "lambda", "list_functions", "Functions")}
    if extra := functions & names["AWS::Lambda::Function"]:
        raise CheckError(f"functions are left: {', '.join(sorted(extra))}")
    if lost := (names["AWS::S3::Bucket"] - buckets) | (names["AWS::DynamoDB::Table"] - tables):
        raise CheckError(f"data were deleted with the stack: {', '.join(sorted(lost))}")
    kept = [f"s3://{name}" for name in sorted(names["AWS::S3::Bucket"])]
    return f"deleted; kept, as documented: {', '.join([*kept, *sorted(names['AWS::DynamoDB::Table'])])}"


def _stop_executions(verification: Verification) -> None:
    """Stop running executions: CloudFormation would wait for them, for an approval up to two weeks."""
    states = verification.target.client("stepfunctions")
    for output in ("TrainingPipelineArn", "MonitoringPipelineArn", "ScoringPipelineArn"):
        pages = states.get_paginator("list_executions").paginate(
            stateMachineArn=verification.target.output(output), statusFilter="RUNNING"
        )
        for execution in [entry for page in pages for entry in page["executions"]]:
            states.stop_execution(executionArn=execution["executionArn"], cause="the stack is deleted")


def _pages(verification: Verification, service: str, method: str, key: str) -> Iterator[Any]:
    for page in verification.target.client(service).get_paginator(method).paginate():
        yield from page[key]


def _last(progress: Iterator[list[Snapshot]]) -> Snapshot:
    *_, (snapshot,) = progress
    return snapshot


def _reasons(snapshot: Snapshot) -> str:
    return "; ".join((snapshot.run or {}).get("reasons") or ()) or snapshot.reason or "no reason"


def _anonymous(verification: Verification, url: str) -> HttpClient:
    return connect(verification.target, url)


def _list_objects(s3: Any, bucket: str, prefix: str) -> Iterator[Any]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def _captured_rows(s3: Any, bucket: str, model: str, since: datetime) -> Iterator[str]:
    """Yield the prediction id of each captured row, without the row's number."""
    hour, now = since, datetime.now(UTC)
    prefixes = []
    while hour <= now + timedelta(hours=1):
        prefixes.append(captures_prefix(model, hour))
        hour += timedelta(hours=1)
    for prefix in prefixes:
        for entry in _list_objects(s3, bucket, prefix):
            body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            for record in map(json.loads, gzip.decompress(body).splitlines()):
                if "prediction_id" in record:  # others count a request
                    yield str(record["prediction_id"]).rpartition("-")[0]


CHECKS: tuple[Check, ...] = (
    Check(
        "stack",
        _check_stack,
        "deploy again with this checkout: make deploy; CloudFormation's events name the resource that failed",
    ),
    Check("unsigned request", _check_unsigned, "the API must have IAM authorisation on every method: deploy again"),
    Check(
        "upload event",
        _check_event,
        "see the queue UndeliveredEventsQueue and the log of request_training; in the first ten minutes of a stack, "
        "run the checks again",
        ("stack",),
    ),
    Check(
        "training",
        _check_training,
        "the execution in Step Functions names the state that failed, and its function's log the reason",
        ("upload event",),
    ),
    Check(
        "rejected upload",
        _check_rejection,
        "see the state PublishRejection of the execution: the pipeline's role may lack events:PutEvents",
        ("upload event",),
    ),
    Check("prediction", _check_plain, "the log of predict, by correlation_id", ("training",)),
    Check(
        "prediction, gzip",
        _check_gzip,
        "API Gateway unpacks the body and keeps its header: the log of predict has the reason",
        ("prediction",),
        only_aws="MiniStack passes a compressed body on as text, which destroys it",
    ),
    Check(
        "prediction, 10,000 rows",
        _check_large,
        "413: lower the documented limit; 429 or 504: raise PredictMemorySize; otherwise the log of predict",
        ("prediction",),
    ),
    Check(
        "batch job",
        _check_batch,
        "the role of the scoring pipeline must be allowed to start itself: ScoringPipelineChildrenPolicy in "
        "template.yaml, which no emulator checks; or the log of plan_scoring or score_part",
        ("prediction",),
    ),
    Check(
        "captures",
        _check_captures,
        "the log of deliver_captures and its dead-letter queue; captures/_malformed/ has the lines that were cut",
        ("prediction",),
    ),
    Check("feedback", _check_feedback, "the log of record_feedback", ("captures",)),
    Check("API key", _check_key, "the usage plan must hold the key and the stage of the key API", ("prediction",)),
    Check(
        "time zone",
        _check_time_zone,
        "change_models needs the time zone's data (tzdata) and scheduler:CreateSchedule: see its log",
        ("upload event",),
    ),
    Check(
        "parameters",
        _check_parameters,
        "the alias live must move with every change: see VersionDescription of PredictFunction in template.yaml",
        ("stack",),
    ),
    Check(
        "log level",
        _check_log_level,
        "lines with metrics need the level FATAL and a timestamp in RFC 3339, or Lambda drops them at LogLevel=ERROR",
        ("parameters", "prediction"),
    ),
    Check(
        "metrics",
        _check_metrics,
        "the embedded metric format of the lines in the log of predict",
        ("log level",),
        only_aws="MiniStack makes no metrics of log lines",
    ),
    Check(
        "parameters restored",
        _check_restore,
        "deploy again with the parameters as they were",
        ("parameters", "prediction"),
    ),
    Check(
        "deletion",
        _check_deletion,
        "the log of change_models; run: millrace delete MODEL --reason 'verification'",
        ("training",),
    ),
)

#: Not among the others: it is run on request, after everything else is removed.
STACK_DELETION = Check(
    "stack deletion",
    _delete_stack,
    "CloudFormation's events name the resource that could not be deleted; delete the stack again when it is gone",
)
