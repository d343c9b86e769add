"""Loader of an exported version: MLflow's ``python_function``, with the code that serves online.

It lies inside the exported directory, with the modules that it imports, under a package name of its own: neither
Millrace nor another exported version in the same process gets in its way. Values of a pandas data frame become those of
a JSON request, so rows are read, checked and scored as online.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from millrace.errors import ArtifactNotFoundError, InvalidInputError, VersionNotFoundError
from millrace.routing import AliasPointer
from millrace.serving.model import LoadedModel, load_version
from millrace.serving.request import ColumnsTable
from millrace.serving.scoring import Scores, score

_MANIFEST = "manifest.json"
#: Fields that the message about refused rows lists.
_LISTED_FIELDS = 5


class DirectorySource:
    """The version in a directory, as a :class:`millrace.serving.model.ModelSource`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def artifact(self, model: str, version: int, name: str) -> bytes:  # noqa: ARG002 - it holds one version
        """Return a file's bytes."""
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(f"{name} is not in {self._directory}") from error

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the hash of the manifest as it is: the directory is all that there is."""
        return sha256(self.artifact(model, version, _MANIFEST)).hexdigest()

    def read_alias(self, model: str, alias: str) -> AliasPointer:  # noqa: ARG002 - the interface's
        """Raise: a directory has no aliases."""
        raise VersionNotFoundError("an exported version has no aliases")

    def earlier_champions(self, model: str, version: int) -> Iterator[int]:  # noqa: ARG002 - the interface's
        """Yield nothing."""
        yield from ()

    def key_models(self, key_id: str) -> Sequence[str] | None:  # noqa: ARG002 - the interface's
        """Return None: nothing has a key."""
        return None


class PythonFunction:
    """A version that predicts the rows of pandas data frames."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def predict(self, model_input: Any) -> Any:
        """Predict every row; raises ``InvalidInputError`` when the endpoint would refuse one.

        Returns
        -------
        DataFrame or ndarray
            Of a classification ``label``, ``probabilities`` by class and ``decision``; of a regression the values.
        """
        names = [str(name) for name in model_input.columns]
        columns = {name: [plain_value(value) for value in model_input[name].tolist()] for name in names}
        if len(model_input) == 0:
            raise InvalidInputError("the data frame has no rows")
        try:
            rows = self._loaded.reader.read(ColumnsTable(columns, len(model_input)))
        except InvalidInputError as error:
            listed = "; ".join(f"{fault.field}: {fault.message}" for fault in error.fields[:_LISTED_FIELDS])
            raise InvalidInputError(f"{error.message}: {listed}", error.fields) from error
        return _as_output(score(self._loaded, rows), model_input)


def plain_value(value: Any) -> Any:
    """Return a value of a data frame as JSON has it: None for every kind of missing value, dates as strings."""
    if value is None or type(value).__name__ == "NAType" or value != value:  # noqa: PLR0124 - NaN and NaT alone
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    item = getattr(value, "item", None)  # NumPy's numbers
    return value if item is None else item()


def _as_output(scores: Scores, model_input: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - with pandas below
    import pandas as pd  # noqa: PLC0415 - MLflow's, not the library's

    if scores.values is not None:
        return np.array(scores.values, dtype=np.float64)
    by_class = [None if row is None else dict(zip(scores.classes, row, strict=True)) for row in scores.probabilities]
    columns = {"label": scores.labels, "probabilities": by_class, "decision": scores.decisions}
    return pd.DataFrame(columns, index=model_input.index)


def _load_pyfunc(path: str) -> PythonFunction:
    """Load the directory: MLflow calls this."""
    directory = Path(path)
    manifest = json.loads((directory / _MANIFEST).read_bytes())
    return PythonFunction(load_version(DirectorySource(directory), manifest["model"], manifest["version"]))
