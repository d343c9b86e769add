"""The linters: cfn-lint with the state machines inlined, SAM's own validation, checkov.

cfn-lint is in the project's environment; SAM and checkov are tools of their own, which ``make test`` installs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.template.template_file import ROOT, TEMPLATE, load_template, walk

TOOLS = ROOT / ".millrace" / "tools"
CFN_LINT = Path(sys.executable).with_name("cfn-lint")
REGION = "eu-west-1"
LEAST_REASON = 20
# Its rules come with it; what it would download are texts for people who are signed in to its maker.
OFFLINE = ("--skip-download",)


def run(command, **environment):
    """Run a linter without credentials; returns what it said with its exit code."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(ROOT)), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def tool(name):
    """Return an installed tool. Without one the test is skipped on a laptop, and fails where everything must run."""
    path = TOOLS / name / "bin" / name
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed; `make tools` does it")
        pytest.skip(f"{name} is not installed; `make tools` does it")
    return path


def inline_state_machines(template):
    """Return the template with each state machine as CloudFormation's own type, its definition inside.

    No linter reads the file that DefinitionUri names, nor understands the string that SAM makes of it.
    """
    inlined = json.loads(json.dumps(template))
    for body in inlined["Resources"].values():
        if body["Type"] != "AWS::Serverless::StateMachine":
            continue
        properties = body["Properties"]
        text = (ROOT / properties["DefinitionUri"]).read_text(encoding="utf-8")
        # cfn-lint's schema knows the ARNs of the commercial partition only.
        definition = json.loads(text.replace("${Partition}", "aws"))
        body["Type"] = "AWS::StepFunctions::StateMachine"
        body["Properties"] = {
            "Definition": definition,
            "DefinitionSubstitutions": {
                name: value for name, value in properties["DefinitionSubstitutions"].items() if name != "Partition"
            },
            "RoleArn": properties["Role"],
            "StateMachineName": properties["Name"],
        }
    return inlined


def cfn_lint(template, folder):
    """Lint a template; returns its findings as one text."""
    path = Path(folder, "template.json")
    path.write_text(json.dumps(template), encoding="utf-8")
    done = run([CFN_LINT, "--regions", REGION, "--format", "parseable", "--", path])
    assert not done.stderr, done.stderr
    return done.stdout


class TestCfnLint:
    def test_template_with_its_state_machines_is_clean(self, tmp_path):
        assert cfn_lint(inline_state_machines(load_template()), tmp_path) == ""

    def test_a_fault_in_a_state_machine_is_seen(self, tmp_path):
        resources = inline_state_machines(load_template())["Resources"]
        [machine, *_] = [body for body in resources.values() if body["Type"] == "AWS::StepFunctions::StateMachine"]
        definition = machine["Properties"]["Definition"]
        definition["States"][definition["StartAt"]]["Type"] = "Tusk"
        properties = {"Definition": definition, "RoleArn": "arn:aws:iam::123456789012:role/states"}
        template = {"Resources": {"Machine": {"Type": machine["Type"], "Properties": properties}}}
        assert "Tusk" in cfn_lint(template, tmp_path)


def test_sam_and_cfn_lint_find_the_template_as_written_valid():
    done = run([tool("sam"), "validate", "--lint", "--template", TEMPLATE, "--region", REGION], SAM_CLI_TELEMETRY="0")
    assert done.returncode == 0, done.stdout + done.stderr


def test_checkov_finds_no_risk():
    done = run([tool("checkov"), "--file", TEMPLATE, "--framework", "cloudformation", "--compact", "--quiet", *OFFLINE])
    assert done.returncode == 0, done.stdout + done.stderr


class TestSuppressions:
    def test_each_stands_beside_its_resource_with_a_reason(self):
        skips = [skip for part in walk(load_template()) if isinstance(part, dict) for skip in skips_of(part)]
        assert skips
        for skip in skips:
            assert set(skip) == {"id", "comment"}, skip
            assert len(skip["comment"]) >= LEAST_REASON, skip

    def test_no_linter_is_told_to_look_away_elsewhere(self):
        assert "cfn-lint" not in json.dumps(load_template())
        for name in (".checkov.yaml", ".checkov.yml", ".cfnlintrc", ".cfnlintrc.yaml", ".cfnlintrc.yml"):
            assert not (ROOT / name).exists(), name
        assert "checkov:skip=" not in TEMPLATE.read_text(encoding="utf-8")


def skips_of(part):
    checkov = part.get("checkov", {})
    return checkov.get("skip", []) if isinstance(checkov, dict) else []
