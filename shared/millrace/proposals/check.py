"""The check of a logged model, in a function without rights: files by presigned address in, a wrapped graph out.

Whatever is wrong with the model is a verdict and no error. Nothing is unpickled: an ONNX file is a list of operators,
and those that are not on a list are refused before the graph is opened.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from millrace.contracts import CheckedModel, LoggedModelCheck
from millrace.errors import ArtifactIntegrityError, InvalidInputError, first_line
from millrace.features import FeatureMatrix
from millrace.proposals.graph_rules import MAX_MODEL_BYTES, read_graph
from millrace.proposals.mlmodel_file import MAX_MLMODEL_BYTES, MLMODEL, MlmodelFile
from millrace.proposals.probes import MAX_EXAMPLE_BYTES, ProbeRows, read_example
from millrace.proposals.wrapping import GraphOutputs, find_inputs, find_outputs, order_classes, wrap_graph
from millrace.schema import TableSchema
from millrace.serving.model import CHUNK_ROWS, OnnxModel

#: Largest difference of a probability, or of a value as a share of its size; as between an estimator and its export.
TOLERANCE = 1e-4
#: Probabilities of a row may miss one by this much.
SUM_TOLERANCE = 1e-3
MAX_SCHEMA_BYTES = 50_000_000
#: Rows that are scored alone, too; and rows that are scored at once, as many as serving does.
SINGLE_ROWS, MANY_ROWS = 5, CHUNK_ROWS

#: From an address and the most bytes that are read to the bytes.
Fetch = Callable[[str, int], bytes]
Store = Callable[[str, bytes], None]


@dataclass(frozen=True)
class LoggedFiles:
    """The files of a logged model, each read when it is needed."""

    request: LoggedModelCheck
    fetch: Fetch

    def read(self, name: str, most: int) -> bytes:
        """Return a file; raises ``InvalidInputError`` when there is none, or it is larger than ``most`` bytes."""
        for file in self.request.files:
            if file.name == name:
                if file.size > most:
                    raise InvalidInputError(f"{name} has {file.size:,} bytes; at most {most:,} are read")
                return self.fetch(file.url, most)
        raise InvalidInputError(f"the logged model has no file {name}")


def check_logged_model(request: LoggedModelCheck, fetch: Fetch, store: Store) -> CheckedModel:
    """Check a logged model, wrap its graph, prove that both predict the same, and store the wrapped one.

    A model that cannot be taken is ``refused`` with the reason. Faults of the network are errors.
    """
    schema = TableSchema.from_dict(json.loads(fetch(request.schema_url, MAX_SCHEMA_BYTES)))
    try:
        checked, body = _check(LoggedFiles(request, fetch), schema)
    except InvalidInputError as error:
        # A name in one of its files may be no text.
        return CheckedModel(outcome="refused", reason=error.message.encode("utf-8", "replace").decode())
    store(request.target_url, body)
    return checked


def _check(files: LoggedFiles, schema: TableSchema) -> tuple[CheckedModel, bytes]:
    taken, more = len(files.request.files), files.request.more_files
    if more:
        raise InvalidInputError(
            f"the logged model has {taken + more} files beside MLflow's folders; at most {taken} are taken: save its "
            "tensors in one file"
        )
    mlmodel = MlmodelFile.parse(files.read(MLMODEL, MAX_MLMODEL_BYTES))
    source = files.read(mlmodel.model_file, MAX_MODEL_BYTES)
    model = read_graph(source, _Tensors(files))
    inputs, outputs = find_inputs(model, mlmodel.columns, schema), find_outputs(model, schema)
    rows = read_example(files.read(mlmodel.example_file, MAX_EXAMPLE_BYTES), schema)
    complete = rows.complete_rows(inputs)
    if not len(complete):
        raise InvalidInputError(
            "no row of the input example has all the whole numbers that the graph takes: log it with inputs of "
            "decimals, or with an example of complete rows"
        )
    original = _Original.open(model.SerializeToString(), outputs)
    scores, labels = original.run(rows.feed(inputs, complete), len(complete))
    order: list[int] = []
    if schema.task != "regression":
        scores = _read_probabilities(scores, outputs, schema)
        classes = mlmodel.classes or outputs.classes or _find_classes(scores, labels)
        order = order_classes(classes, schema)
        scores = scores[:, order]
        _check_labels(labels, scores, [classes[place] for place in order])
    elif np.size(scores) != len(complete):
        raise InvalidInputError(f"the graph has {np.size(scores) // len(complete)} values a row; a regression has one")
    body = wrap_graph(model, inputs, outputs, order, schema)
    if len(body) > MAX_MODEL_BYTES:
        raise InvalidInputError(f"the wrapped graph has {len(body):,} bytes; at most {MAX_MODEL_BYTES:,} are taken")
    try:
        wrapped = OnnxModel.load(body, schema)
    except ArtifactIntegrityError as error:
        raise InvalidInputError(f"ONNX Runtime cannot open the wrapped graph: {first_line(error)}") from error
    difference = _compare(wrapped, rows, complete, scores)
    checked = CheckedModel(
        outcome="accepted",
        sha256=hashlib.sha256(body).hexdigest(),
        source_sha256=hashlib.sha256(source).hexdigest(),
        size=len(body),
        columns=[name for one in inputs for name in one.columns],
        max_difference=difference,
        rows=len(complete),
        example_rows=rows.example_rows,
    )
    return checked, body


class _Tensors(Mapping[str, bytes]):
    """The other files of a logged model, for tensors that lie outside its graph: as many bytes as a model may have."""

    def __init__(self, files: LoggedFiles) -> None:
        self._files = files
        self._read: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._read:
            if name not in list(self):
                raise KeyError(name)
            left = MAX_MODEL_BYTES - sum(map(len, self._read.values()))
            self._read[name] = self._files.read(name, left)
        return self._read[name]

    def __iter__(self) -> Any:
        return iter([file.name for file in self._files.request.files])

    def __len__(self) -> int:
        return len(self._files.request.files)


@dataclass(frozen=True)
class _Original:
    """A user's graph in ONNX Runtime, with the outputs that are read."""

    session: Any
    outputs: GraphOutputs

    @classmethod
    def open(cls, body: bytes, outputs: GraphOutputs) -> "_Original":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no base class of their own
            raise InvalidInputError(f"ONNX Runtime cannot open the graph: {first_line(error)}") from error
        return cls(session, outputs)

    def run(self, feed: Mapping[str, npt.NDArray[Any]], rows: int) -> tuple[Any, npt.NDArray[Any] | None]:
        """Return the scores, as an array or as dictionaries, and the labels, if the graph has them."""
        names = [self.outputs.maps or self.outputs.scores]
        names += [self.outputs.label] if self.outputs.label else []
        try:
            scores, *labels = self.session.run(names, feed)
        except Exception as error:  # as above
            raise InvalidInputError(
                f"the graph fails on its input example, or on rows that the schema allows: {first_line(error)}"
            ) from error
        if any(np.shape(one)[:1] != (rows,) for one in (scores, *labels)):
            raise InvalidInputError("the graph does not predict row by row: it returns another number of rows")
        if any(np.size(label) != rows for label in labels):
            raise InvalidInputError("the graph does not return one label a row")
        return scores, np.asarray(labels[0]).reshape(-1) if labels else None


def _find_classes(scores: npt.NDArray[np.float64], labels: npt.NDArray[Any] | None) -> tuple[Any, ...]:
    """Return the classes in the order of the scores, as the graph's labels show them."""
    if labels is not None:
        best = scores.argmax(axis=1)
        found = [set(labels[best == place].tolist()) for place in range(scores.shape[1])]
        if all(len(one) == 1 for one in found):
            return tuple(next(iter(one)) for one in found)
    raise InvalidInputError(
        "the graph does not name its classes: log it with metadata={'classes': [...]}, the model's classes in the "
        "order of the probabilities"
    )


def _read_probabilities(scores: Any, outputs: GraphOutputs, schema: TableSchema) -> npt.NDArray[np.float64]:
    """Return probabilities of shape (n_rows, n_classes); raises ``InvalidInputError`` where they are none."""
    try:
        if outputs.maps:
            scores = [[row[label] for label in outputs.classes] for row in scores]
        found = np.asarray(scores, dtype=np.float64)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError("the graph's scores are no matrix") from error
    if found.shape[1:] != (len(schema.classes),):
        raise InvalidInputError(f"the graph has no probability for each of the {len(schema.classes)} classes")
    known = found[np.isfinite(found).all(axis=1)]
    is_share = (known >= -SUM_TOLERANCE).all() and (np.abs(known.sum(axis=1) - 1.0) <= SUM_TOLERANCE).all()
    if not len(known) or not is_share:
        raise InvalidInputError("the graph's scores are no probabilities: export it with predict_proba")
    return found


def _check_labels(labels: Any, probabilities: npt.NDArray[np.float64], classes: list[Any]) -> None:
    """Compare the graph's own labels with the classes of the largest probability, but for ties."""
    if labels is None:
        return
    ordered = np.sort(probabilities, axis=1)
    is_clear = ordered[:, -1] - ordered[:, -2] > TOLERANCE
    best = np.asarray([str(one) for one in classes])[probabilities.argmax(axis=1)]
    own = np.asarray([str(one) for one in labels.tolist()])
    names = {str(one) for one in classes}
    # Labels of another kind than the classes, as numbers for strings, say nothing about their order.
    if names >= set(own.tolist()) and (best != own)[is_clear].any():
        raise InvalidInputError("the graph's labels are not the classes of its largest probabilities")


def _compare(wrapped: OnnxModel, rows: ProbeRows, complete: npt.NDArray[np.int64], expected: Any) -> float:
    """Return the largest difference of the two graphs; raises ``InvalidInputError`` where it is one."""
    features = rows.features()
    actual = _run(wrapped, features)
    wanted = np.asarray(expected, dtype=np.float64).reshape(actual[complete].shape)
    blank = np.setdiff1d(np.arange(rows.n_rows), complete)
    if not np.isnan(actual[blank]).all() or not np.array_equal(np.isfinite(actual[complete]), np.isfinite(wanted)):
        raise InvalidInputError("the wrapped graph has predictions where the logged one has none, or the reverse")
    known = np.isfinite(wanted).reshape(len(wanted), -1).all(axis=1)
    one, other = actual[complete][known], wanted[known]
    size = np.ones_like(other) if other.ndim > 1 else np.maximum(np.abs(other), np.std(other) or 1.0)
    difference = float((np.abs(one - other) / size).max(initial=0.0))
    if difference > TOLERANCE:
        raise InvalidInputError(
            f"the logged graph, and the same graph on rows as requests are read, differ by up to {difference:.2g}: "
            "a value needs more digits than 32 bits, or is read otherwise"
        )
    _check_alone(wrapped, features, actual)
    return difference


def _check_alone(wrapped: OnnxModel, features: FeatureMatrix, actual: npt.NDArray[np.float64]) -> None:
    """Raise ``InvalidInputError`` where a row's prediction depends on other rows, or many rows at once are too much.

    Sizes grow with the number of rows alone, so the memory of as many as are ever scored at once is known after this.
    """
    n_rows = len(actual)
    samples = [np.array([row]) for row in range(min(SINGLE_ROWS, n_rows))]
    for sample in [*samples, np.arange(MANY_ROWS)[::-1] % n_rows]:
        predicted = _run(wrapped, features.take(sample))
        if not np.allclose(predicted, actual[sample], atol=TOLERANCE, rtol=TOLERANCE, equal_nan=True):
            raise InvalidInputError("a row's prediction depends on the other rows of its request")


def _run(wrapped: OnnxModel, features: FeatureMatrix) -> npt.NDArray[np.float64]:
    try:
        return wrapped.run(features).astype(np.float64)
    except Exception as error:  # as above
        raise InvalidInputError(
            f"the graph fails on {len(features)} rows as requests are read: {first_line(error)}"
        ) from error
