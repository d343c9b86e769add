"""End-to-end tests: the real SAM CLI deploys the template to MiniStack, with IAM enforced.

One stack serves the whole session, apart from the one that ``millrace local up`` starts for a developer.
"""

import csv
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.entities import Cause, LedgerEntry, ModelVersion, Run
from millrace.layout import version_key
from millrace.manifest import Manifest
from millrace.registry.store import Registry
from millrace_cli.api import ApiClient
from millrace_cli.local import stack as local_stack
from millrace_cli.local.ministack import is_port_free, temporary_dir, workers_dir
from millrace_cli.local.project import LocalState, Project, require_project
from millrace_cli.run_progress import Snapshot, follow_causes
from millrace_cli.target import Target, local_target
from millrace_cli.upload import Upload, upload_table

from tests.registry_builders import point_alias
from tests.serving_models import churn_background, churn_onnx, churn_schema, sha256, version_artifacts

#: Generous: the machine may be busy with other tests.
PATIENCE_SECONDS = 240.0
COLUMNS = ["age", "plan", "joined", "active", "label"]


def port_from(first: int) -> int:
    """Return a free port; another process of the suite may start a stack at the same time, and both find 4566 free."""
    return next(port for port in range(first, first + 100) if is_port_free(port))


def wait_until(what: str, condition: Callable[[], Any], pause: float = 0.3) -> Any:
    """Ask until a condition holds, and return what it gave; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(pause)
    return found


@dataclass(frozen=True)
class DeployedStack:
    """The stack under test and the ways into it."""

    project: Project
    state: LocalState
    target: Target
    api: ApiClient

    def client(self, service: str) -> Any:
        """Return a boto3 client with the administrator's credentials."""
        return self.target.client(service)

    def resource(self, logical_id: str) -> str:
        """Return the physical id of a resource of the template."""
        described = self.client("cloudformation").describe_stack_resource(
            StackName=self.target.stack, LogicalResourceId=logical_id
        )
        return str(described["StackResourceDetail"]["PhysicalResourceId"])

    def upload(self, model: str, file: Path, **options: Any) -> Upload:
        """Put a table into the drop zone; S3's own event does the rest."""
        return upload_table(self.client("s3"), self.target.output("DataBucketName"), model, file, **options)

    def replace_champions(self, model: str, **spec: Any) -> None:
        """Give a model a small search, and a gate by which any newer data replaces a champion that is not beaten by it.

        Of few rows the gate is seldom certain, and it keeps the champion where models are as good.
        """
        self.search_little(model, gate={"refresh_days": 0, "margin": 1.0}, **spec)

    def search_little(self, model: str, **spec: Any) -> None:
        """Give a model a spec of two trials, no refit: what is proved here is the loop, not what the search finds."""
        training = {"trials": 2, "refit": "never", "ensemble": "never"}
        self.api.put(f"/models/{model}/spec", {"spec": {"training": training, **spec}, "reason": "a quick test"})

    def wait_for(self, upload: Upload) -> Snapshot:
        """Wait until the run that an upload caused has finished."""
        for snapshots in follow_causes(
            self.api, {upload.model: upload.cause_id}, poll_seconds=0.5, timeout_seconds=PATIENCE_SECONDS
        ):
            (snapshot,) = snapshots
        return snapshot

    @property
    def registry(self) -> Registry:
        """The stack's registry, with the administrator's credentials."""
        tables = self.target.output("RegistryTableName"), self.target.output("RunsTableName")
        return Registry(DynamoRegistryStore(self.client("dynamodb"), *tables))

    def serve_churn(self, model: str) -> None:
        """Register the churn model of the serving tests as champion, without a training run."""
        now = datetime.now(UTC)
        run = Run(model, "20260503T120000-0f3a9c2b7d1e", ("cause",), "manual", now)
        cause = Cause("cause", model, "manual", now)
        self.registry.claim_cause(cause, run, _entry(model, "run_requested", now))
        self.register_churn(model, 1)
        point_alias(self.registry, "champion", 1, model, now)

    def register_churn(self, model: str, number: int, *, seed: int = 0, onnx: bytes | None = None) -> None:
        """Register a churn model as a version that no alias points to; with other bytes as its model, if given."""
        now = datetime.now(UTC)
        version = ModelVersion(
            model=model,
            version=number,
            semantic_version=f"1.0.{number - 1}",
            run_id="20260503T120000-0f3a9c2b7d1e",
            trial_id="trial",
            candidate="logistic_regression",
            task="binary",
            metrics={},
            dataset_ids=(),
            schema_version=1,
            manifest_sha256="",
            created_at=now,
        )
        artifacts = version_artifacts(onnx or churn_onnx(seed=seed), churn_schema(), churn_background())
        artifacts["manifest.json"] = Manifest.of(version, artifacts, None).write()
        for name, body in artifacts.items():
            self.client("s3").put_object(
                Bucket=self.target.output("ModelsBucketName"), Key=version_key(model, number, name), Body=body
            )
        version = replace(version, manifest_sha256=sha256(artifacts["manifest.json"]))
        self.registry.put_version(version, _entry(model, "model_registered", now, f"registered-{number}"))


def _entry(model: str, action: str, now: datetime, entry_id: str = "") -> LedgerEntry:
    return LedgerEntry(model, entry_id or action, now, "test", action, "")


@pytest.fixture(scope="session")
def stack() -> Iterator[DeployedStack]:
    """Start MiniStack, deploy, and leave nothing behind: no process, no temporary file."""
    project = Project(require_project().root, local_name="e2e")
    local_stack.down(project)  # what a killed session left
    result = local_stack.up(project, None, print)
    target = local_target(result.state)
    with ApiClient.for_target(target) as api:
        yield DeployedStack(project, result.state, target, api)
    assert local_stack.down(project) > 0
    assert local_stack.live_state(project) is None
    left = [workers_dir(project.local_dir), temporary_dir(project.local_dir)]
    assert not [folder for folder in left if folder.exists()]


def make_table(path: Path, n_rows: int = 200, seed: int = 1) -> Path:
    """Write a table whose label follows from age and plan, with noise and gaps."""
    generator = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for _ in range(n_rows):
            age, plan = generator.randint(18, 80), generator.choice(["basic", "plus", "pro"])
            score = (age - 49) / 12 + (1.5 if plan == "pro" else -0.5) + generator.gauss(0, 0.6)
            joined = f"20{generator.randint(10, 25)}-{generator.randint(1, 12):02d}-{generator.randint(1, 28):02d}"
            shown_age = "" if generator.random() < 0.05 else age
            writer.writerow([shown_age, plan, joined, generator.choice(["yes", "no"]), int(score > 0)])
    return path


def read_features(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return a table's rows as a client would send them, and their labels."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row.pop("label")) for row in rows]
    return [{**row, "age": int(row["age"]) if row["age"] else None} for row in rows], labels
