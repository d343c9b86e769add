"""The package `integrations/mlflow` as if it were installed, for processes of MLflow's clients."""

import tomllib
from pathlib import Path

from tests.template.template_file import ROOT

FOLDER = ROOT / "integrations" / "mlflow"


def plugin_path(folder: Path) -> str:
    """Return a search path on which MLflow finds the package and its entry points; ``folder`` gets its metadata."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"]
    (metadata / "METADATA").write_text("".join(lines), encoding="utf-8")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())])
        for group, entries in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups) + "\n", encoding="utf-8")
    return f"{FOLDER}:{folder}"
