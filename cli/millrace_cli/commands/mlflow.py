"""`millrace mlflow`: conversion of models for MLflow's registry."""

from pathlib import Path
from typing import Annotated

import typer

from millrace_cli.errors import CliError, RefusedError
from millrace_cli.output import say

app = typer.Typer(no_args_is_help=True, help="Convert models for MLflow's registry.")


@app.command("convert")
def convert(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="Directory or URI of a scikit-learn model that MLflow logged: yours.")
    ],
    example: Annotated[
        Path,
        typer.Argument(metavar="ROWS", help="CSV file with rows as it was fitted on.", exists=True, dir_okay=False),
    ],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file to write.", dir_okay=False)],
) -> None:
    """Convert a scikit-learn model to ONNX on this machine, and prove that both predict the same."""
    try:
        import mlflow.sklearn  # noqa: PLC0415 - of the user's environment, not of this project
        import pandas as pd  # noqa: PLC0415 - as above
        from millrace_mlflow import convert as conversion  # noqa: PLC0415 - as above
    except ImportError as error:
        remedy = 'run it where the model was trained, with: pip install "./integrations/mlflow[convert]"'
        raise CliError(f"the conversion needs {error.name}", remedy) from error
    estimator, rows = mlflow.sklearn.load_model(source), pd.read_csv(example)
    try:
        model, proof = conversion.convert(estimator, rows)
    except conversion.ParityError as error:
        raise RefusedError(
            f"the models differ: {error}", "register another estimator, or report the difference"
        ) from error
    output.write_bytes(model.SerializeToString())
    compared = f"{proof.rows} rows in {len(proof.compared)} variants"
    say(f"wrote {output}: {compared}, largest difference {proof.largest_difference:.1e}")
    if proof.refused:
        say(f"not compared, because the estimator refuses them: {', '.join(proof.refused)}")
