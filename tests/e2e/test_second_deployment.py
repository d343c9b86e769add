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


def checkout(stack: DeployedStack, root: Path, error_detail: str) -> Project:
    """Return a copy of the deployed checkout with a value of the parameter."""
    project = Project(root, stack.project.local_name)
    shutil.copytree(sam.LocalBuild(stack.project).folder, sam.LocalBuild(project).folder)
    for folder in ("functions", "statemachines"):
        shutil.copytree(stack.project.root / folder, root / folder)
    (root / ".millrace" / "tools").symlink_to(stack.project.root / ".millrace" / "tools")
    settings = (stack.project.root / "samconfig.toml").read_text(encoding="utf-8")
    settings, count = re.subn(
        r"(parameter_overrides = \"DeletionProtection=false)", rf"\1 ErrorDetail={error_detail}", settings
    )
    assert count == 1
    (root / "samconfig.toml").write_text(settings, encoding="utf-8")
    return project


@pytest.fixture
def changed(stack: DeployedStack, tmp_path: Path) -> Project:
    """Return a copy of the deployed checkout with another version of the library and another parameter."""
    project, library = checkout(stack, tmp_path / "checkout", "reduced"), tmp_path / "library"
    built = sam.LocalBuild(stack.project).layers / stack.state.deployed / "SharedLayer" / "python"
    bytecode = shutil.ignore_patterns("__pycache__")  # never compared with its source
    shutil.copytree(built, library, ignore=bytecode)
    module = library / "millrace" / "__init__.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(f'"{millrace.__version__}"', f'"{NEXT_VERSION}"'), encoding="utf-8")
    write_pointer(library, sam.LocalBuild(project).folder / "SharedLayer.zip")
    return project


@pytest.fixture
def restored(stack: DeployedStack, tmp_path: Path) -> Iterator[None]:
    """Deploy the checkout again afterwards: the other tests use the same stack.

    A parameter that a deployment does not name keeps its value, so the default is named.
    """
    yield
    sam.deploy(checkout(stack, tmp_path / "restored", "full"), stack.state)
    seen = observe(stack)
    assert (seen["library"], seen["names columns"]) == (millrace.__version__, True)


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
