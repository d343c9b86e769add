"""The web pages of an installed MLflow: found without importing it, in whatever environment it is."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace_cli.errors import RefusedError

_BUILD = Path("server", "js", "build")
_INDEX = "index.html"
_TIMEOUT_SECONDS = 20
#: Printed by another interpreter: the folder of its package. The working directory may have a folder of that name.
_FIND = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; import importlib.util as util; "
    "found = util.find_spec('mlflow'); print(*(found and found.submodule_search_locations or ()), sep='\\n')"
)
_SEARCHED = "this command's environment, the active one, and those of `mlflow` and `python3` on the PATH"


@dataclass(frozen=True, slots=True)
class InstalledPages:
    """The pages of one installation: the folder of the build, and MLflow's version."""

    folder: Path
    version: str


def find_pages(python: Path | None = None) -> InstalledPages:
    """Return the web pages of the MLflow of ``python``; by default of the first environment that has them.

    Raises
    ------
    RefusedError
        When ``python`` does not run, or there is no MLflow, or none with web pages: ``mlflow-skinny`` has none.
    """
    without_pages = []
    if python and (printed := _run(python)) is None:
        raise RefusedError(
            f"{python} is no Python that runs", "name the one that has MLflow: millrace ui --mlflow-python PYTHON"
        )
    for package in [_read_folder(printed)] if python else _packages():
        if package is None:
            continue
        if (package / _BUILD / _INDEX).is_file():
            return InstalledPages(package / _BUILD, _read_version(package))
        without_pages.append(package)
    if without_pages:
        raise RefusedError(
            f"the MLflow in {without_pages[0]} has no web pages: mlflow-skinny leaves them out",
            f"install the whole of it there: {f'{python} -m ' if python else ''}pip install mlflow",
        )
    if python:
        raise RefusedError(f"{python} has no MLflow", f"install it: {python} -m pip install mlflow")
    raise RefusedError(
        f"no MLflow is installed: {_SEARCHED} have none",
        "install it: pip install mlflow; or name the Python that has it: millrace ui --mlflow-python PYTHON",
    )


def _packages() -> Iterator[Path | None]:
    """Yield the folder of MLflow in each environment that the user may mean; None where there is none."""
    found = importlib.util.find_spec("mlflow")
    yield Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None
    seen = {Path(sys.executable)}
    for python in _interpreters():
        if python not in seen and python.is_file():
            seen.add(python)
            yield _read_folder(_run(python))


def _interpreters() -> Iterator[Path]:
    scripts, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if folder := os.environ.get(variable):
            yield Path(folder, scripts, name)
    if program := shutil.which("mlflow"):
        # pipx and uv put a link to the environment's own script on the PATH.
        yield Path(program).resolve().with_name(name)
    for each in ("python3", "python"):
        if program := shutil.which(each):
            yield Path(program)


def _run(python: Path) -> str | None:
    """Return what another interpreter prints of its MLflow, which it does not import; None where it does not run."""
    try:
        done = subprocess.run(  # noqa: S603  # the user's own interpreter, which the user named or activated
            [python, "-c", _FIND], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _read_folder(printed: str | None) -> Path | None:
    first = (printed or "").partition("\n")[0].strip()
    return Path(first) if first else None


def _read_version(package: Path) -> str:
    try:
        text = (package / "version.py").read_text(encoding="utf-8")
    except OSError:
        return "of an unknown version"
    found = re.search(r"""^VERSION\s*=\s*["']([^"']+)""", text, re.MULTILINE)
    return found[1] if found else "of an unknown version"
