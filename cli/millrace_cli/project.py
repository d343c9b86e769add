"""Where things are in the checkout that the local stack deploys."""

from dataclasses import dataclass
from pathlib import Path

from millrace_cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout of Millrace.

    Parameters
    ----------
    root : Path
        The folder with ``template.yaml``.
    local_name : str, default="local"
        Which of the checkout's local stacks; the tests have one of their own.
    """

    root: Path
    local_name: str = "local"

    @property
    def local_dir(self) -> Path:
        """Everything that the local stack writes."""
        return self.root / ".millrace" / self.local_name

    @property
    def demo_dir(self) -> Path:
        """The tables that the demonstration makes."""
        return self.root / ".millrace" / "demo"

    def tool(self, environment: str, program: str | None = None) -> Path:
        """Return a tool's program from its own environment.

        Raises
        ------
        CliError
            When the environment was not made.
        """
        path = self.root / ".millrace" / "tools" / environment / "bin" / (program or environment)
        if not path.exists():
            raise CliError(f"{environment} is not installed for this checkout", f"run: make -C {self.root} tools")
        return path


def find_project(start: Path | None = None) -> Project | None:
    """Return the checkout around ``start`` (the working directory), else the one this command came from."""
    places = [start or Path.cwd(), Path(__file__).resolve().parent]
    for place in places:
        for folder in (place, *place.parents):
            if (folder / "template.yaml").exists() and (folder / "shared" / "millrace").is_dir():
                return Project(folder)
    return None


def require_project() -> Project:
    """Return the checkout; raises ``CliError`` when there is none."""
    project = find_project()
    if project is None:
        raise CliError("there is no Millrace checkout here", "run this inside the folder that has template.yaml")
    return project
