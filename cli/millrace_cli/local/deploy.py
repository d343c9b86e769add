"""Building and deploying with the real SAM CLI, as for AWS, against the local stack."""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from millrace_cli.errors import CliError
from millrace_cli.local.fingerprint import DEPLOYED_SOURCES, fingerprint
from millrace_cli.local.ministack import clean_environment, log_end, temporary_dir
from millrace_cli.local.state import LocalState
from millrace_cli.project import Project

DEFAULT_STACK = "millrace"
CONFIG_ENVIRONMENT = "local"

_BUILT_MARK = "fingerprint"
_POLL_SECONDS = "0.5"


@dataclass(frozen=True, slots=True)
class LocalBuild:
    """Where ``sam build`` puts what it builds for this machine's interpreter; AWS builds stay in ``.aws-sam``."""

    project: Project

    @property
    def folder(self) -> Path:
        """The build folder, which SAM empties."""
        return self.project.local_dir / "build"

    @property
    def layers(self) -> Path:
        """The folder of built layers, by fingerprint: the functions' workers import from them."""
        return self.project.local_dir / "layers"

    @property
    def mark(self) -> Path:
        """The file that says of which sources the build is."""
        return self.project.local_dir / "build.fingerprint"

    @property
    def interpreter(self) -> Path:
        """The interpreter that runs the functions: MiniStack's own."""
        return self.project.tool("ministack", "python")

    def wanted(self) -> str:
        """Return the fingerprint that a build of the present sources has."""
        return fingerprint(self.project.root, DEPLOYED_SOURCES, str(self.interpreter.resolve()))

    def is_current(self, wanted: str) -> bool:
        """Tell whether what is built is what would be built now."""
        try:
            is_wanted = self.mark.read_text(encoding="utf-8") == wanted
        except OSError:
            return False
        return is_wanted and (self.folder / "template.yaml").exists() and (self.layers / wanted).is_dir()

    def remove_old_layers(self) -> None:
        """Remove the layers of earlier builds, once nothing runs that may still import from them."""
        current = self.mark.read_text(encoding="utf-8") if self.mark.exists() else ""
        for folder in self.layers.glob("*"):
            if folder.name != current:
                shutil.rmtree(folder, ignore_errors=True)


def stack_name(project: Project) -> str:
    """Return the local stack's name, as ``samconfig.toml`` has it."""
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


def build(project: Project, wanted: str) -> None:
    """Run ``sam build`` for the local interpreter, unless the last build is of the same sources.

    Raises
    ------
    CliError
        When it fails; shows the end of its log.
    """
    local_build = LocalBuild(project)
    if local_build.is_current(wanted):
        return
    local_build.mark.unlink(missing_ok=True)
    _run_sam(
        project,
        "build",
        ["--build-dir", str(local_build.folder)],
        {"LAYER_PYTHON": str(local_build.interpreter), "UV": str(project.root / ".venv" / "bin" / "uv")},
    )
    _keep_layers(project, local_build, wanted)
    local_build.mark.write_text(wanted, encoding="utf-8")


def deploy(project: Project, state: LocalState) -> None:
    """Run ``sam deploy`` against the local stack.

    Raises
    ------
    CliError
        When it fails; shows the end of its log.
    """
    _run_sam(
        project,
        "deploy",
        [
            *("--template-file", str(LocalBuild(project).folder / "template.yaml")),
            # SAM looks for it beside the template that it deploys, and goes on without when there is none.
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


def _keep_layers(project: Project, local_build: LocalBuild, wanted: str) -> None:
    """Let the workers share one copy of each layer; the fingerprint keeps it apart from what still runs."""
    folders = [str(local_build.folder), str(local_build.layers / wanted)]
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
        raise CliError(f"{name} failed:\n{log_end(log)}", f"the whole log: {log}")
