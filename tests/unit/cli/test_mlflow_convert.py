"""`millrace mlflow convert`: what it needs, and what it says; the conversion has its own tests."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from millrace_cli.main import app
from typer.testing import CliRunner


class ParityError(Exception):
    """As the conversion's."""


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age\n41\n")
    return path


@pytest.fixture
def conversion(monkeypatch):
    """Stand in for the user's environment."""
    conversion = SimpleNamespace(ParityError=ParityError)
    proof = SimpleNamespace(rows=1, compared=("the rows", "age = 0"), refused=("age = nan",), largest_difference=1e-7)
    model = SimpleNamespace(SerializeToString=lambda: b"onnx")
    conversion.convert = lambda estimator, table: (model, proof)
    mlflow, sklearn, package = ModuleType("mlflow"), ModuleType("mlflow.sklearn"), ModuleType("millrace_mlflow")
    sklearn.load_model = lambda source: source
    mlflow.sklearn = sklearn
    package.convert = conversion
    for name, module in {"mlflow": mlflow, "mlflow.sklearn": sklearn, "millrace_mlflow": package}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return conversion


def invoke(*arguments):
    return CliRunner().invoke(app, ["mlflow", "convert", *map(str, arguments)])


def test_the_model_is_written_with_its_proof(conversion, rows, tmp_path):
    result = invoke("runs:/r/model", rows, tmp_path / "model.onnx")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "model.onnx").read_bytes() == b"onnx"
    assert "1 rows in 2 variants, largest difference 1.0e-07" in " ".join(result.stderr.split())
    assert "not compared" in result.stderr


def test_models_that_differ_write_nothing(conversion, rows, tmp_path):
    def differ(estimator, table):
        raise ParityError("the rows, row 3: ONNX predicts 1, the estimator 2")

    conversion.convert = differ
    result = invoke("runs:/r/model", rows, tmp_path / "model.onnx")
    assert result.exit_code == 2
    assert "row 3" in result.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_without_mlflow_the_message_names_what_to_install(monkeypatch, rows, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = invoke("runs:/r/model", rows, tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert "integrations/mlflow[convert]" in " ".join(result.stderr.split())
