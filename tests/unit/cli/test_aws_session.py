import subprocess
import sys

import pytest
from millrace_cli.aws_session import key_session, make_client
from millrace_cli.errors import CliError
from millrace_cli.target import Target, aws_target


def test_a_session_has_its_own_key_and_region(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    target = Target(key_session("AKIA", "secret", "eu-north-1"), "millrace")
    assert target.credentials.access_key == "AKIA"
    assert target.region == "eu-north-1"
    assert make_client(target.session, "sts").meta.region_name == "eu-north-1"


def test_the_client_of_s3_sends_files_in_parts():
    target = Target(key_session("AKIA", "secret", "eu-north-1"), "millrace")
    s3 = target.client("s3")
    assert all(hasattr(s3, method) for method in ("upload_file", "download_file", "copy"))
    assert s3.meta.region_name == "eu-north-1"
    assert s3._request_signer._credentials.access_key == "AKIA"
    assert target.client("s3") is s3
    assert make_client(target.session, "s3") is not s3


def test_a_command_that_sends_no_files_does_not_import_boto3():
    script = "import sys, millrace_cli.commands.models; print('boto3' in sys.modules)"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "False\n"


def test_a_profile_that_is_not_there_and_a_missing_region_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CliError, match="nobody"):
        aws_target("nobody", "millrace", None)
    with pytest.raises(CliError, match="no AWS region is set"):
        aws_target(None, "millrace", None)
