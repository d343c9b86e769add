"""Small real models for the tests of serving: fitted, exported to ONNX, and laid out as registered versions."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from millrace.conformal import ConformalCalibration, fit_classes, fit_regression
from millrace.errors import ArtifactNotFoundError, ModelNotFoundError, VersionNotFoundError
from millrace.features import build_features
from millrace.routing import AliasPointer
from millrace.schema import Column, TableSchema, Task
from millrace.serving.explain import choose_background, dump_background
from millrace.serving.request import RecordsTable
from millrace.serving.rows import RowReader

CHURN_COLUMNS = (
    Column("customer_id", "text", "identifier"),
    Column("age", "integer", minimum=18, maximum=80),
    Column("balance", "number", nullable=True),
    Column("active", "boolean"),
    Column("subscribed", "boolean", nullable=True, true_values=("yes",), false_values=("no",)),
    Column("plan", "category", categories=("basic", "family", "premium")),
    Column("city", "category", nullable=True, categories=("Lima", "Oslo", "Zürich")),
    Column("signed_up", "datetime", nullable=True, formats=("iso", "%d.%m.%Y")),
    Column("comment", "text", "ignored"),
)

#: A text, which a schema has on demand.
REMARK = Column("remark", "text", nullable=True)

CHURN_RECORD = {
    "age": 41,
    "balance": 120.5,
    "active": True,
    "subscribed": "yes",
    "plan": "family",
    "city": "Oslo",
    "signed_up": "2024-02-03T10:00:00Z",
}


def churn_schema(task: Task = "binary", *, remark: bool = False) -> TableSchema:
    target = {
        "binary": Column("churned", "boolean", "target"),
        "multiclass": Column("grade", "integer", "target"),
        "regression": Column("value", "number", "target"),
    }[task]
    classes = {"binary": ("false", "true"), "multiclass": ("1", "2", "3"), "regression": ()}[task]
    return TableSchema((*CHURN_COLUMNS, *([REMARK] if remark else []), target), task, classes)


@cache
def churn_background(n_rows: int = 12) -> bytes:
    """Return made-up rows of :func:`churn_schema` for explanations to compare with."""
    rng = np.random.default_rng(5)
    records = [
        CHURN_RECORD
        | {
            "age": int(rng.integers(18, 80)),
            "balance": float(rng.normal(100, 50)),
            "active": bool(rng.integers(0, 2)),
            "plan": str(rng.choice(["basic", "family", "premium"])),
            "city": str(rng.choice(["Lima", "Oslo"])),
        }
        for _ in range(n_rows)
    ]
    rows = RowReader(churn_schema()).read(RecordsTable(records))
    return dump_background(choose_background(churn_schema(), rows.features(0, n_rows), 0))


@cache
def churn_calibration(task: Task = "binary", n_rows: int = 200) -> ConformalCalibration:
    """Return a calibration on made-up rows; at 0.9, its sets hold one class, two or all."""
    rng = np.random.default_rng(3)
    if task == "regression":
        predictions = rng.normal(3.5, 1.0, n_rows)
        return fit_regression(predictions + rng.normal(0.0, 0.2 + abs(predictions) / 4), predictions, 0)
    classes = 2 if task == "binary" else 3
    probabilities = rng.dirichlet([1.0] * classes, n_rows)
    return fit_classes([rng.choice(classes, p=row) for row in probabilities], probabilities)


@cache
def churn_onnx(task: Task = "binary", seed: int = 0, *, remark: bool = False) -> bytes:
    """Fit a linear model on made-up rows of :func:`churn_schema` and export it."""
    from millrace.training.candidates import get_candidate  # noqa: PLC0415  # only those who need a model pay for it
    from millrace.training.export import export_onnx  # noqa: PLC0415  # as above
    from millrace.training.preprocessing import FeatureTable  # noqa: PLC0415  # as above

    rng = np.random.default_rng(seed)
    rows = 120
    columns = {
        "age": rng.integers(18, 80, rows).astype(np.float64),
        "balance": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(100, 50, rows)),
        "active": rng.integers(0, 2, rows).astype(np.float64),
        "subscribed": rng.choice([0.0, 1.0, np.nan], rows),
        "plan": rng.choice(np.array(["basic", "family", "premium"]), rows),
        "city": rng.choice(np.array(["", "Lima", "Oslo", "Zürich"]), rows),
        "signed_up": np.datetime64("2020-01-01", "us") + rng.integers(0, 1_500, rows).astype("timedelta64[D]"),
    }
    schema = churn_schema(task, remark=remark)
    if remark:
        columns["remark"] = rng.choice(np.array(["", "was late", "paid at once", "paid late, again"], object), rows)
    features = build_features(schema, columns, rows)
    signal = columns["age"] / 20 + columns["active"] + 2 * (columns["plan"] == "premium") + rng.normal(size=rows)
    target = (
        signal
        if task == "regression"
        else np.digitize(signal, np.quantile(signal, (1 / 3, 2 / 3))[: len(schema.classes) - 1])
    )
    candidate = get_candidate("ridge" if task == "regression" else "logistic_regression", task)
    pipeline = candidate.build(task, features, {}, 0)
    pipeline.fit(FeatureTable(features), target)
    return export_onnx(pipeline, features, task)


def version_artifacts(
    onnx: bytes,
    schema: TableSchema,
    background: bytes | None = None,
    reference: bytes | None = None,
    **signature: object,
) -> dict[str, bytes]:
    """Return a version's artifacts by name, as they are registered; the manifest names the others.

    ``signature`` holds further members of ``signature.json``.
    """
    artifacts = {"model.onnx": onnx, "signature.json": json.dumps({"schema": schema.to_dict(), **signature}).encode()}
    if background is not None:
        artifacts["background.npz"] = background
    if reference is not None:
        artifacts["reference.json"] = reference
    manifest = {"artifacts": {name: {"sha256": sha256(body), "size": len(body)} for name, body in artifacts.items()}}
    return {**artifacts, "manifest.json": json.dumps(manifest).encode()}


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class MemoryModelSource:
    """Implements :class:`millrace.serving.model.ModelSource`; ``failure`` is raised by every read while it is set."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], int] = {}
        self.versions: dict[tuple[str, int], dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, int], str] = {}
        self.scopes: dict[str, Sequence[str]] = {}
        self.routing: dict[str, str] = {}
        self.failure: Exception | None = None
        self.reads: list[str] = []

    def register(self, model: str, version: int, artifacts: dict[str, bytes], alias: str = "champion") -> None:
        self.versions[model, version] = dict(artifacts)
        self.manifests[model, version] = sha256(artifacts["manifest.json"])
        self.aliases[model, alias] = version

    def read_alias(self, model: str, alias: str) -> AliasPointer:
        self._read("alias")
        if (model, alias) not in self.aliases:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        return AliasPointer(self.aliases[model, alias], self.routing.get(model, "") if alias == "champion" else "")

    def manifest_sha256(self, model: str, version: int) -> str:
        self._read("version")
        if (model, version) not in self.manifests:
            raise VersionNotFoundError(f"no version {version}")
        return self.manifests[model, version]

    def artifact(self, model: str, version: int, name: str) -> bytes:
        self._read(name)
        if name not in self.versions[model, version]:
            raise ArtifactNotFoundError(f"{name} is gone")
        return self.versions[model, version][name]

    def earlier_champions(self, model: str, version: int) -> Iterator[int]:
        self._read("earlier")
        yield from (n for name, n in sorted(self.versions, reverse=True) if name == model and n < version)

    def key_models(self, key_id: str) -> Sequence[str] | None:
        self._read("key")
        return self.scopes.get(key_id)

    def _read(self, what: str) -> None:
        self.reads.append(what)
        if self.failure is not None:
            raise self.failure
