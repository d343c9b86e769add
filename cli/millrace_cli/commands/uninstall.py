"""`millrace uninstall`: delete a stack, and what it keeps as far as the options say."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError, WaiterError
from millrace.cost.prices import US_EAST_1

from millrace_cli.errors import CliError
from millrace_cli.options import StackSession, uses_stack
from millrace_cli.output import Document, Steps, err, facts_table, say
from millrace_cli.target import Target

#: Prices of a gigabyte for a month: S3 Standard; DynamoDB with its backups of the last 35 days.
_STORAGE = {"bucket": ("s3_gb_month",), "table": ("dynamodb_gb_month", "dynamodb_backup_gb_month")}
_MOST_ROUNDS = 20
_MOST_POLLS = 1_800
_GONE = frozenset({"404", "NoSuchBucket", "NotFound", "ResourceNotFoundException"})
#: Remains that no option deletes.
_ELSEWHERE = (
    "the bucket of the stack aws-sam-cli-managed-default, which all SAM stacks share: the folder of this stack",
    "API keys that were made for the stack, which open nothing any more and cost nothing",
    "metrics in CloudWatch, which expire after 15 months and cost nothing; traces in X-Ray, after 30 days",
)


class Kept(StrEnum):
    """A store that outlives the stack."""

    DATA = "data"
    MODELS = "models"
    REGISTRY = "registry"
    RUNS = "runs"
    TRACKING = "tracking"


#: Resource of the stack; the output of that name and `Name` has its name, too.
_LOGICAL_IDS = {
    Kept.DATA: "DataBucket",
    Kept.MODELS: "ModelsBucket",
    Kept.REGISTRY: "RegistryTable",
    Kept.RUNS: "RunsTable",
    Kept.TRACKING: "TrackingTable",
}
_TABLES = frozenset({Kept.REGISTRY, Kept.RUNS, Kept.TRACKING})


@dataclass(frozen=True, slots=True)
class Store:
    """A bucket or table that outlives the stack, with its size: objects of every version, or items."""

    part: Kept
    name: str
    entries: int
    size: int  # in bytes

    @property
    def kind(self) -> str:
        """``bucket`` or ``table``."""
        return "table" if self.part in _TABLES else "bucket"

    def describe(self) -> dict[str, Any]:
        """Return the store as JSON, with what keeping it costs."""
        cost = sum(US_EAST_1[price].cost(self.size / 1e9) for price in _STORAGE[self.kind])
        facts = {"name": self.name, "kind": self.kind, "entries": self.entries, "bytes": self.size}
        return {"store": self.part.value, **facts, "usd_a_month": round(cost, 2)}


class Uninstallation:
    """One stack, by its id, so that what outlives it is found after it was deleted."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stacks = target.client("cloudformation")
        (self._stack,) = self._stacks.describe_stacks(StackName=target.stack)["Stacks"]
        pages = self._stacks.get_paginator("list_stack_resources").paginate(StackName=self.stack_id)
        self._resources = [resource for page in pages for resource in page["StackResourceSummaries"]]

    @property
    def name(self) -> str:
        """Name of the stack."""
        return str(self._stack["StackName"])

    @property
    def stack_id(self) -> str:
        """ARN of the stack."""
        return str(self._stack["StackId"])

    @property
    def is_deleted(self) -> bool:
        """True when the stack was deleted before."""
        return bool(self._stack["StackStatus"] == "DELETE_COMPLETE")

    def stores(self) -> list[Store]:
        """Return the stores that exist."""
        outputs = {output["OutputKey"]: output["OutputValue"] for output in self._stack.get("Outputs", [])}
        ids = {resource["LogicalResourceId"]: resource.get("PhysicalResourceId") for resource in self._resources}
        names = {part: ids.get(name) or outputs.get(f"{name}Name") for part, name in _LOGICAL_IDS.items()}
        found = [self._measure(part, name) for part, name in names.items()]
        return [store for store in found if store is not None]

    def running(self) -> list[str]:
        """Return the ARNs of executions that run."""
        pages = self._target.client("stepfunctions").get_paginator("list_executions")
        return [
            execution["executionArn"]
            for machine in self._of_type("AWS::StepFunctions::StateMachine")
            for page in pages.paginate(stateMachineArn=machine, statusFilter="RUNNING")
            for execution in page["executions"]
        ]

    def schedules(self) -> list[tuple[str, str]]:
        """Return group and name of the stack's schedules, and of those of its models."""
        client = self._target.client("scheduler")
        of_models = [
            (group, schedule["Name"])
            for group in self._of_type("AWS::Scheduler::ScheduleGroup")
            for page in client.get_paginator("list_schedules").paginate(GroupName=group)
            for schedule in page["Schedules"]
        ]
        return [("default", name) for name in self._of_type("AWS::Scheduler::Schedule")] + of_models

    def remove_schedules(self) -> None:
        """Delete every schedule, so that none starts anything."""
        client = self._target.client("scheduler")
        for group, name in self.schedules():
            _ignore_missing(client.delete_schedule, GroupName=group, Name=name)

    def stop_executions(self) -> int:
        """Stop every execution, and those that start because of it: causes that waited; return their number.

        Raises ``CliError`` while others go on starting some.
        """
        client, stopped = self._target.client("stepfunctions"), 0
        for _ in range(_MOST_ROUNDS):
            running = self.running()
            if not running:
                return stopped
            for arn in running:
                client.stop_execution(executionArn=arn, error="Uninstalled", cause="the stack is being uninstalled")
            stopped += len(running)
        raise CliError("executions keep starting", "stop uploads and requests for training, and run the command again")

    def delete_stack(self) -> None:
        """Delete the stack and wait until it is gone; raises ``CliError`` when CloudFormation cannot delete it."""
        self._stacks.delete_stack(StackName=self.stack_id)
        try:
            self._stacks.get_waiter("stack_delete_complete").wait(
                StackName=self.stack_id,
                WaiterConfig={"Delay": int(self._target.poll_seconds) or 1, "MaxAttempts": 1_800},
            )
        except WaiterError as error:
            raise CliError(
                f"CloudFormation did not delete the stack {self.name}: {'; '.join(self._failures()) or error}",
                "resolve the cause and run the command again",
            ) from error

    def delete(self, store: Store) -> None:
        """Delete a bucket with every version in it, or the table; again is the same as once."""
        if store.kind == "table":
            client = self._target.client("dynamodb")
            _ignore_missing(client.update_table, TableName=store.name, DeletionProtectionEnabled=False)
            _ignore_missing(client.delete_table, TableName=store.name)
            return
        client = self._target.client("s3")
        for page in client.get_paginator("list_object_versions").paginate(Bucket=store.name):
            objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in _versions(page)]
            if objects:
                response = client.delete_objects(Bucket=store.name, Delete={"Objects": objects, "Quiet": True})
                if faults := response.get("Errors"):
                    raise CliError(f"s3://{store.name}/{faults[0]['Key']} was not deleted: {faults[0].get('Message')}")
        _ignore_missing(client.delete_bucket, Bucket=store.name)

    def _of_type(self, resource_type: str) -> list[str]:
        return [
            str(resource["PhysicalResourceId"])
            for resource in self._resources
            if resource["ResourceType"] == resource_type and resource.get("PhysicalResourceId")
        ]

    def _measure(self, part: Kept, name: str | None) -> Store | None:
        """Return a store with its size; None when it does not exist (any more)."""
        if not name:
            return None
        try:
            if part in _TABLES:
                table = self._target.client("dynamodb").describe_table(TableName=name)["Table"]
                return Store(part, name, table["ItemCount"], table["TableSizeBytes"])
            pages = self._target.client("s3").get_paginator("list_object_versions").paginate(Bucket=name)
            sizes = [entry.get("Size", 0) for page in pages for entry in _versions(page)]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        return Store(part, name, len(sizes), sum(sizes))

    def _failures(self) -> list[str]:
        events = self._stacks.describe_stack_events(StackName=self.stack_id)["StackEvents"]
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for event in events
            if event.get("ResourceStatus") == "DELETE_FAILED"
        ]


@uses_stack
def uninstall(
    session: StackSession,
    *,
    delete: Annotated[
        list[Kept] | None,
        typer.Option("--delete", help="Delete this store, too; may be repeated. By default, all of them are kept."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted and kept, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Uninstall without confirmation.")] = False,
) -> None:
    """Delete a stack: stop its executions, remove its schedules, and delete or keep its data, models and tables.

    Shows what would be deleted, and requires the stack's name as confirmation. Run the command again to complete an
    interrupted one, or to delete what was kept: with the stack's id as --stack once the stack is gone.
    """
    installed, chosen = Uninstallation(session.target), set(delete or ())
    stores = installed.stores()
    plan = _plan(installed, stores, chosen)
    if dry_run:
        session.show(plan, _draw_plan)
        return
    if not yes:
        err.print(_draw_plan(plan))
        _confirm(installed.name)
    say(f"to go on after an interruption: --stack {installed.stack_id}")
    with Steps(err) as steps:
        if not installed.is_deleted:
            steps.begin("removing schedules")
            installed.remove_schedules()
            steps.begin("stopping executions")
            installed.stop_executions()
            steps.begin(f"deleting the stack {installed.name}")
            installed.delete_stack()
        for store in stores:
            if store.part in chosen:
                steps.begin(f"deleting the {store.kind} {store.name}")
                installed.delete(store)
    left = [store.describe() for store in installed.stores()]
    session.show({"stack": installed.stack_id, "left": left, "elsewhere": list(_ELSEWHERE)}, _draw_left)


def _plan(installed: Uninstallation, stores: Iterable[Store], chosen: set[Kept]) -> dict[str, Any]:
    gone = installed.is_deleted
    return {
        "stack": installed.stack_id,
        "name": installed.name,
        "is_deleted": gone,
        "executions": 0 if gone else len(installed.running()),
        "schedules": 0 if gone else len(installed.schedules()),
        "delete": [store.describe() for store in stores if store.part in chosen],
        "keep": [store.describe() for store in stores if store.part not in chosen],
    }


def _draw_plan(plan: Document) -> Any:
    rows = [("stack", f"{plan['name']}{' (deleted before)' if plan['is_deleted'] else ''}")]
    rows += [("stops", f"{plan['executions']} executions"), ("removes", f"{plan['schedules']} schedules")]
    rows += [("deletes for good", _describe(store)) for store in plan["delete"]]
    rows += [("keeps", _describe(store)) for store in plan["keep"]]
    return facts_table(rows)


def _draw_left(document: Document) -> Any:
    rows = [("left", _describe(store)) for store in document["left"]]
    return facts_table([*rows, *(("left elsewhere", where) for where in document["elsewhere"])])


def _describe(store: Document) -> str:
    entries = "items" if store["kind"] == "table" else "objects and versions"
    size = f"{store['entries']} {entries}, {store['bytes'] / 1e6:,.1f} MB, about {store['usd_a_month']:.2f} USD a month"
    return f"{store['kind']} {store['name']}: {size} (--delete {store['store']})"


def _confirm(name: str) -> None:
    if not _is_interactive():
        raise CliError("uninstalling needs a confirmation in a terminal", "uninstall without confirmation: --yes")
    if typer.prompt("Type the stack's name to uninstall it", err=True) != name:
        raise CliError(f"{name} was not uninstalled: the typed name differs")


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _versions(page: Document) -> Iterator[Document]:
    yield from page.get("Versions", [])
    yield from page.get("DeleteMarkers", [])


def _ignore_missing(call: Any, **arguments: Any) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _GONE:
            raise
