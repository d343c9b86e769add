"""A second deployment reaches what serves: a changed library and a changed parameter are both seen in responses.

MiniStack updates a stack as CloudFormation does in what matters here: a version whose description or layers change is
replaced, the alias ``live`` moves to it, and the old version is deleted. What it does not imitate: SAM's transform runs
in the real SAM CLI on both, but the layers are pointers to folders (``layers/local_layers.py``), so their bytes differ
from those on AWS. ``tests/template/test_updates.py`` covers every parameter and every layer by translation alone.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import millrace
import pytest
from millrace_cli.errors import ApiError
from millrace_cli.local import deploy as sam
from millrace_cli.local.project import Project

from layers.local_layers import write_pointer
from tests.e2e.conftest import DeployedStack
from tests.serving_models import CHURN_RECORD

pytestmark = pytest.mark.e2e

MODEL = "redeployed"
NEXT_VERSION = f"{millrace.__version__}.dev1"


@pytest.fixture
def changed(stack: DeployedStack, tmp_path: Path) -> Project:
    """Return a copy of the deployed checkout with another version of the library and another parameter."""
    deployed = sam.LocalBuild(stack.project)
    project = Project(tmp_path / "checkout", stack.project.local_name)
    copied = sam.LocalBuild(project)
    shutil.copytree(deployed.folder, copied.folder)
    for folder in ("functions", "statemachines"):
        shutil.copytree(stack.project.root / folder, project.root / folder)
    (project.root / ".millrace" / "tools").symlink_to(stack.project.root / ".millrace" / "tools")

    library = tmp_path / "library"
    bytecode = shutil.ignore_patterns("__pycache__")  # never compared with its source
    shutil.copytree(deployed.layers / stack.state.deployed / "SharedLayer" / "python", library, ignore=bytecode)
    module = library / "millrace" / "__init__.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(f'"{millrace.__version__}"', f'"{NEXT_VERSION}"'), encoding="utf-8")
    write_pointer(library, copied.folder / "SharedLayer.zip")

    settings = (stack.project.root / "samconfig.toml").read_text(encoding="utf-8")
    settings, count = re.subn(
        r"(parameter_overrides = \"DeletionProtection=false)", r"\1 ErrorDetail=reduced", settings
    )
    assert count == 1
    (project.root / "samconfig.toml").write_text(settings, encoding="utf-8")
    return project


@pytest.fixture
def restored(stack: DeployedStack) -> Iterator[None]:
    """Deploy the checkout again afterwards: the other tests use the same stack."""
    yield
    sam.deploy(stack.project, stack.state)
    assert stack.api.get("/v2")["version"] == millrace.__version__


def observe(stack: DeployedStack) -> dict[str, Any]:
    """Return what a client sees of the library and of the parameter, and the function versions behind it."""
    library = stack.api.get("/v2")["version"]
    with pytest.raises(ApiError) as refusal:
        stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": [CHURN_RECORD | {"age": "old"}]})
    assert refusal.value.status == 400
    function = stack.resource("PredictFunction")
    listed = stack.client("lambda").list_versions_by_function(FunctionName=function)["Versions"]
    versions = {entry["Version"] for entry in listed} - {"$LATEST"}
    live = stack.client("lambda").get_alias(FunctionName=function, Name="live")["FunctionVersion"]
    return {"library": library, "names columns": "age" in str(refusal.value), "versions": versions, "live": live}


def test_a_changed_library_and_a_changed_parameter_are_both_in_responses(
    stack: DeployedStack, changed: Project, restored: None
) -> None:
    stack.serve_churn(MODEL)
    before = observe(stack)
    assert (before["library"], before["names columns"]) == (millrace.__version__, True)

    sam.deploy(changed, stack.state)

    after = observe(stack)
    assert (after["library"], after["names columns"]) == (NEXT_VERSION, False)
    assert after["live"] != before["live"]
    assert after["versions"] == {after["live"]}
    assert stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": [CHURN_RECORD]})["predictions"]
