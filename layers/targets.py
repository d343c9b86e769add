"""The interpreters that layers are built for, and the tools that install and compile for them."""

from __future__ import annotations  # for Python 3.9

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from layers.lockfile import ROOT, LayerBuildError

# The runtime of template.yaml. Amazon Linux 2023 has glibc 2.34, so wheels for 2.28 and older load.
RUNTIME_VERSION = "3.13"
_GLIBC_MINOR = 28

_PROBE = "import json, sys; print(json.dumps([sys.version_info[:2], sys.implementation.cache_tag, sys.platform]))"


@dataclass(frozen=True)  # no slots: Python 3.9 does not know them
class Target:
    """An interpreter to build for.

    Parameters
    ----------
    name : str
        Folder name of its builds, such as ``lambda-3.13-x86_64`` or ``local-cpython-311``.
    python : Path or None
        The interpreter itself; None for the Lambda runtime, which is elsewhere.
    compiler : Path or None
        An interpreter here of the same version, which can make its bytecode; None when there is none.
    """

    name: str
    python: Path | None
    compiler: Path | None

    @property
    def bytecode_tag(self) -> str:
        """Say whether builds hold bytecode; part of the cache key."""
        return "bytecode" if self.compiler else "source"


def choose_target(layer_python: str) -> Target:
    """Return the Lambda runtime, or the interpreter at the given path.

    Raises
    ------
    LayerBuildError
        When the path is not a working interpreter.
    """
    if not layer_python:
        compiler = find_compiler()
        if compiler is None:
            sys.stderr.write(
                f"no Python {RUNTIME_VERSION} here: the layer carries no bytecode, so cold starts take about three "
                f"times as long; install Python {RUNTIME_VERSION}, or run `make deploy`, which does it with uv\n"
            )
        return Target(f"lambda-{RUNTIME_VERSION}-x86_64", python=None, compiler=compiler)
    python = Path(layer_python)
    probed = _probe(python)
    if probed is None:
        raise LayerBuildError(f"LAYER_PYTHON={layer_python} is not a working Python interpreter")
    return Target(f"local-{probed[1]}-{probed[2]}", python=python, compiler=python)


@cache
def _probe(python: Path) -> tuple[str, str, str] | None:
    """Ask an interpreter for its version, cache tag and platform; None when it does not run."""
    try:
        done = _run([str(python), "-I", "-c", _PROBE])
        version, tag, platform = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return f"{version[0]}.{version[1]}", str(tag), str(platform)


def find_compiler() -> Path | None:
    """Find an interpreter of the Lambda runtime's version, because bytecode is made by its own version only."""
    found = shutil.which(f"python{RUNTIME_VERSION}")
    candidates = [Path(sys.executable), *([Path(found)] if found else [])]
    if uv := _find_uv():
        found = _run([str(uv), "python", "find", "--no-project", RUNTIME_VERSION], check=False).stdout.strip()
        candidates += [Path(found)] if found else []
    for home in (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"):
        candidates += sorted(home.glob(f"*{RUNTIME_VERSION}.*/bin/python{RUNTIME_VERSION}"))
    for candidate in candidates:
        probed = _probe(candidate)
        if probed is not None and probed[0] == RUNTIME_VERSION:
            return candidate
    return None


def install(requirements: Path, folder: Path, target: Target) -> None:
    """Install pinned and hashed wheels into a folder, with uv when it is there, else with pip.

    Raises
    ------
    LayerBuildError
        When the installer fails; the message ends with what it said.
    """
    uv = _find_uv()
    if uv is None and _run([sys.executable, "-m", "pip", "--version"], check=False).returncode != 0:
        raise LayerBuildError(
            f"{sys.executable} has no pip, and there is no uv; install one, such as with "
            f"`{sys.executable} -m ensurepip` or the system's package python3-pip, or run `make deploy`"
        )
    command = [*(_uv_command(uv, target) if uv else _pip_command(target))]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(folder)]
    command += ["--requirement", str(requirements)]
    try:
        _run(command)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise LayerBuildError(f"installing failed: {said.strip()[-2000:]}") from error


def _find_uv() -> Path | None:
    """Find uv where ``UV`` names it, else in the project's environment, else on the path."""
    candidates = [os.environ.get("UV", ""), str(ROOT / ".venv" / "bin" / "uv"), shutil.which("uv") or ""]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def _uv_command(uv: Path, target: Target) -> list[str]:
    command = [str(uv), "pip", "install", "--quiet", "--link-mode", "hardlink"]
    if target.python is not None:
        return [*command, "--python", str(target.python)]
    platform = f"x86_64-manylinux_2_{_GLIBC_MINOR}"
    return [*command, "--python-platform", platform, "--python-version", RUNTIME_VERSION]


def _pip_command(target: Target) -> list[str]:
    command = [sys.executable, "-m", "pip"]
    if target.python is not None:
        return [*command, "--python", str(target.python), "install", "--quiet", "--no-compile"]
    command += ["install", "--quiet", "--no-compile", "--implementation", "cp", "--python-version", RUNTIME_VERSION]
    # pip compares some packages' Requires-Python with its own interpreter; the lock is for the runtime's.
    command += ["--ignore-requires-python"]
    # pip takes a platform by its word and does not add the older ones, as uv does.
    for minor in range(_GLIBC_MINOR, 4, -1):
        command += ["--platform", f"manylinux_2_{minor}_x86_64"]
    for alias in ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"):
        command += ["--platform", alias]
    return command


def compile_bytecode(folder: Path, target: Target) -> None:
    """Compile every module beside its source, as bytecode that is loaded without looking at the source.

    Unchecked, because a layer is never edited, and its files carry no real time. Tracebacks name the files as Lambda
    unpacks them.

    Raises
    ------
    LayerBuildError
        When the compiler cannot run.
    """
    if target.compiler is None:
        return
    command = [str(target.compiler), "-I", "-m", "compileall", "-q", "-j", str(os.cpu_count() or 1)]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", "/opt/python", str(folder)]
    try:
        # A module that this version cannot parse (a template, say) only stays without bytecode.
        _run(command, check=False)
    except OSError as error:
        raise LayerBuildError(f"compiling failed: {error}") from error


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True)  # noqa: S603 - arguments are our own
