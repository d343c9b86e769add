"""A version as an MLflow model directory that every MLflow loads: no plugin, no ONNX flavour, no pickle.

MLflow's ONNX flavour cannot feed the two matrices of a model. The directory therefore declares ``python_function``
alone, and holds its loader: :mod:`millrace.exports.loader` and the modules of serving that it imports, copied under a
package name that follows from their content.

The documents are JSON, which is YAML: MLflow reads them as such.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from millrace.card import Artifact, describe_artifacts
from millrace.documents import Document
from millrace.manifest import MANIFEST, MODEL, SIGNATURE, Signature
from millrace.schema import TableSchema

#: File that makes a directory an MLflow model.
ML_MODEL = "MLmodel"
#: Release of MLflow whose form the documents have, and of ONNX Runtime that made sure of the numbers.
MLFLOW_VERSION = "3.17.2"
ONNX_RUNTIME_VERSION = "1.31.1"
PYTHON_VERSION = "3.13"

_LIBRARY = Path(__file__).resolve().parent.parent
#: The loader and every module that it imports; not that of explanations, which is imported on demand.
LOADER_MODULES = (
    "__init__",
    "conformal",
    "errors",
    "exports.__init__",
    "exports.loader",
    "features",
    "names",
    "quantities",
    "routing",
    "schema",
    "serving.__init__",
    "serving.array_column",
    "serving.model",
    "serving.request",
    "serving.rows",
    "serving.row_order",
    "serving.scoring",
)
_IMPORT = re.compile(r"^(\s*(?:from|import) )millrace\b", re.MULTILINE)
#: MLflow's types know no missing whole numbers, turn none into a float, and take strings of pandas 3 for none. So its
#: signature names the columns, and the loader reads their values by the rules of the endpoint.
_ANY = "any"


class ExportManifest(Document, frozen=True, kw_only=True, eq=False):
    """``manifest.json`` of an exported directory: the hash of every other file."""

    model: str
    version: int
    created_at: datetime
    artifacts: dict[str, Artifact]


@cache
def loader_files() -> tuple[str, Mapping[str, bytes]]:
    """Return the package of the loader, and its files by their path in the directory."""
    sources = {name: (_LIBRARY / f"{name.replace('.', '/')}.py").read_text("utf-8") for name in LOADER_MODULES}
    digest = sha256(json.dumps(sources).encode()).hexdigest()
    package = f"millrace_model_{digest[:12]}"
    files = {
        f"code/{package}/{name.replace('.', '/')}.py": _IMPORT.sub(rf"\g<1>{package}", text).encode()
        for name, text in sources.items()
    }
    return package, files


def mlflow_files(
    signature: bytes, onnx: bytes, *, model: str, version: int, created_at: datetime, metadata: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return every file of the directory by its path; ``onnx`` is ``model.onnx``, unchanged.

    Parameters
    ----------
    signature : bytes
        ``signature.json`` of the version.
    metadata : mapping of str to JSON
        Further facts, for people.
    """
    package, code = loader_files()
    schema = TableSchema.from_dict(Signature.read(signature).schema)
    found = sha256(f"{model}/{version}/".encode() + sha256(onnx).digest())
    types = {column.name: column.type for column in schema.features}
    document = {
        "flavors": {
            "python_function": {
                "loader_module": f"{package}.exports.loader",
                "code": "code",
                "env": {"virtualenv": "python_env.yaml"},
                "python_version": PYTHON_VERSION,
            }
        },
        "mlflow_version": MLFLOW_VERSION,
        "model_uuid": UUID(bytes=found.digest()[:16]).hex,
        "model_size_bytes": len(onnx),
        "utc_time_created": f"{created_at:%Y-%m-%d %H:%M:%S.%f}",
        "signature": mlflow_signature(schema),
        "metadata": {"millrace": {"model": model, "version": version, **metadata, "columns": types}},
    }
    environment = {"python": PYTHON_VERSION, "dependencies": ["-r requirements.txt"]}
    requirements = f"mlflow\nnumpy\nonnxruntime>={ONNX_RUNTIME_VERSION}\npandas\n"
    files = {
        **code,
        MODEL: onnx,
        SIGNATURE: signature,
        "requirements.txt": requirements.encode(),
        "python_env.yaml": _write(environment),
        ML_MODEL: _write(document),
    }
    artifacts = describe_artifacts(files)
    manifest = ExportManifest(model=model, version=version, created_at=created_at, artifacts=artifacts)
    return {MANIFEST: manifest.write(), **files}


def mlflow_signature(schema: TableSchema) -> dict[str, str | None]:
    """Return the inputs and outputs as MLflow has them: lists in JSON, as text."""
    inputs = [{"name": column.name, "type": _ANY, "required": not column.nullable} for column in schema.features]
    outputs: list[dict[str, Any]]
    if schema.task == "regression":
        outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]
    else:
        label = {"boolean": "boolean", "integer": "long"}.get(schema.target.type, "string")
        label = "string" if schema.target.true_values else label
        outputs = [
            {"name": "label", "type": label, "required": True},
            {"name": "probabilities", "type": "map", "values": {"type": "double"}, "required": True},
            {"name": "decision", "type": label, "required": True},
        ]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None}


def _write(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
