"""Build and deployment of the local stack with the SAM CLI, as for AWS."""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace_cli.errors import CliError
from millrace_cli.local.ministack import clean_environment, log_end, temporary_dir
from millrace_cli.local.project import LocalState, Project

DEFAULT_STACK = "millrace"
CONFIG_ENVIRONMENT = "local"

#: Sources of a build and a deployment, relative to the checkout.
DEPLOYED_SOURCES = (
    "template.yaml",
    "samconfig.toml",
    "functions",
    "shared",
    "layers",
    "requirements/layers.txt",
    "statemachines",
)

_NOT_SOURCE = {"__pycache__", ".build", "build", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
_POLL_SECONDS = "0.5"
#: Text of ENOSPC, with which every program reports a full disk.
_NO_SPACE = "No space left on device"


def fingerprint(root: Path, sources: Iterable[str] = DEPLOYED_SOURCES, *extra: str) -> str:
    """Return a SHA-256 of the names and contents of source files.

    Parameters
    ----------
    root : Path
        The checkout.
    sources : iterable of str
        Files and folders in the checkout; missing ones are skipped.
    *extra : str
        Other inputs of the build, such as the interpreter.
    """
    digest = hashlib.sha256()
    for text in extra:
        _update(digest, b"extra", text.encode())
    for source in sources:
        for path in _files(root / source):
            mode = b"x" if path.stat().st_mode & 0o100 else b"-"
            _update(digest, path.relative_to(root).as_posix().encode(), mode, path.read_bytes())
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", *parts: bytes) -> None:
    """Add parts with their lengths, so that different lists of parts have different digests."""
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name not in _NOT_SOURCE and not child.name.endswith((".pyc", ".egg-info")):
                yield from _files(child)


@dataclass(frozen=True, slots=True)
class LocalBuild:
    """Build of ``sam build`` for this machine's interpreter; builds for AWS are in ``.aws-sam``."""

    project: Project

    @property
    def folder(self) -> Path:
        """Build folder, which SAM empties."""
        return self.project.local_dir / "build"

    @property
    def layers(self) -> Path:
        """Folder of built layers by fingerprint, from which the functions' workers import."""
        return self.project.local_dir / "layers"

    @property
    def fingerprint_file(self) -> Path:
        """File with the fingerprint of the build's sources."""
        return self.project.local_dir / "build.fingerprint"

    @property
    def interpreter(self) -> Path:
        """Interpreter that runs the functions: MiniStack's own."""
        return self.project.tool("ministack", "python")

    def current_fingerprint(self) -> str:
        """Return the fingerprint of the present sources."""
        return fingerprint(self.project.root, DEPLOYED_SOURCES, str(self.interpreter.resolve()))

    def is_current(self, expected: str) -> bool:
        """Return True when the build is complete and has the expected fingerprint."""
        try:
            is_expected = self.fingerprint_file.read_text(encoding="utf-8") == expected
        except OSError:
            return False
        return is_expected and (self.folder / "template.yaml").exists() and (self.layers / expected).is_dir()

    def remove_old_layers(self) -> None:
        """Remove the layers of earlier builds; call this while no worker is running."""
        file = self.fingerprint_file
        current = file.read_text(encoding="utf-8") if file.exists() else ""
        for folder in self.layers.glob("*"):
            if folder.name != current:
                shutil.rmtree(folder, ignore_errors=True)


def stack_name(project: Project) -> str:
    """Return the local stack's name from ``samconfig.toml``."""
    try:
        config = tomllib.loads((project.root / "samconfig.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return DEFAULT_STACK
    environment = config.get(CONFIG_ENVIRONMENT, {})
    for section in ("deploy", "global"):
        name = environment.get(section, {}).get("parameters", {}).get("stack_name")
        if name:
            return str(name)
    return DEFAULT_STACK


def build(project: Project, expected: str) -> None:
    """Run ``sam build`` for the local interpreter, unless the last build has the expected fingerprint.

    Raises
    ------
    CliError
        When it fails; has the end of its log.
    """
    local_build = LocalBuild(project)
    if local_build.is_current(expected):
        return
    local_build.fingerprint_file.unlink(missing_ok=True)
    _run_sam(
        project,
        "build",
        ["--build-dir", str(local_build.folder)],
        {"LAYER_PYTHON": str(local_build.interpreter), "UV": str(project.root / ".venv" / "bin" / "uv")},
    )
    _keep_layers(project, local_build, expected)
    local_build.fingerprint_file.write_text(expected, encoding="utf-8")


def deploy(project: Project, state: LocalState) -> None:
    """Run ``sam deploy`` against the local stack.

    Raises
    ------
    CliError
        When it fails; has the end of its log.
    """
    _run_sam(
        project,
        "deploy",
        [
            *("--template-file", str(LocalBuild(project).folder / "template.yaml")),
            # Without this, SAM searches beside the template that it deploys and ignores a missing file.
            *("--config-file", str(project.root / "samconfig.toml")),
            *("--config-env", CONFIG_ENVIRONMENT, "--stack-name", state.stack, "--region", state.region),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"),
            *("--resolve-s3", "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"),
        ],
        {
            "AWS_ENDPOINT_URL": state.endpoint,
            "AWS_CA_BUNDLE": state.authority,
            "AWS_ACCESS_KEY_ID": state.access_key_id,
            "AWS_SECRET_ACCESS_KEY": state.secret_access_key,
            "AWS_DEFAULT_REGION": state.region,
            "SAM_CLI_POLL_DELAY": _POLL_SECONDS,
        },
    )


def _keep_layers(project: Project, local_build: LocalBuild, expected: str) -> None:
    """Copy the layers once for all workers; running workers keep those of an earlier fingerprint."""
    folders = [str(local_build.folder), str(local_build.layers / expected)]
    _run(project, "keep-layers", [sys.executable, "-B", "-m", "layers.local_layers", *folders], {})


def _run_sam(project: Project, command: str, arguments: list[str], settings: dict[str, str]) -> None:
    program = [str(project.tool("sam")), command, *arguments]
    _run(project, f"sam-{command}", program, settings | {"SAM_CLI_TELEMETRY": "0"})


def _run(project: Project, name: str, program: list[str], settings: dict[str, str]) -> None:
    log = project.local_dir / f"{name}.log"
    temporary_dir(project.local_dir).mkdir(parents=True, exist_ok=True)
    environment = clean_environment(os.environ) | settings | {"TMPDIR": str(temporary_dir(project.local_dir))}
    with log.open("wb") as file:
        finished = subprocess.run(  # noqa: S603  # our own pinned programs
            program,
            cwd=project.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if finished.returncode != 0:
        if _NO_SPACE in log_end(log, 200):
            raise CliError(f"{name} failed: the disk is full", "free some space, then: millrace local up")
        raise CliError(f"{name} failed:\n{log_end(log)}", f"read the full log: {log}")
