import subprocess
import sys
import zipfile

import pytest
from millrace_cli.local.deploy import LocalBuild
from millrace_cli.local.project import Project

from layers.local_layers import keep_layers
from layers.lockfile import LayerBuildError

TEMPLATE = "  BaseLayer:\n    Properties:\n      ContentUri: BaseLayer\n  F:\n    CodeUri: functions/f\n"


@pytest.fixture
def build_dir(tmp_path):
    """A build as ``sam build`` leaves it, with one layer that holds one module."""
    folder = tmp_path / "build"
    (folder / "BaseLayer" / "python").mkdir(parents=True)
    (folder / "BaseLayer" / "python" / "kept_module.py").write_text("NAME = 'kept'\n", encoding="utf-8")
    (folder / "template.yaml").write_text(TEMPLATE, encoding="utf-8")
    return folder


def test_a_worker_imports_from_the_kept_layer(build_dir, tmp_path):
    (pointer,) = keep_layers(build_dir, tmp_path / "it's kept")
    with zipfile.ZipFile(pointer) as file:
        file.extractall(tmp_path / "opt")

    # As MiniStack's workers do it.
    site = next((tmp_path / "opt" / "python" / "lib").iterdir()) / "site-packages"
    program = f"import site; site.addsitedir({str(site)!r}); import kept_module; print(kept_module.NAME)"
    printed = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)

    assert printed == "kept\n"
    assert "ContentUri: BaseLayer.zip" in (build_dir / "template.yaml").read_text(encoding="utf-8")
    assert not (build_dir / "BaseLayer").exists()


def test_another_folder_is_another_layer(build_dir, tmp_path):
    (pointer,) = keep_layers(build_dir, tmp_path / "first")
    first = pointer.read_bytes()
    (tmp_path / "first" / "BaseLayer").rename(build_dir / "BaseLayer")
    (build_dir / "template.yaml").write_text(TEMPLATE, encoding="utf-8")
    (pointer,) = keep_layers(build_dir, tmp_path / "second")

    assert pointer.read_bytes() != first


def test_schedules_are_permitted_in_the_group_that_the_local_stack_authorises(build_dir, tmp_path):
    template = build_dir / "template.yaml"
    with template.open("a", encoding="utf-8") as file:
        file.write("  - Fn::Sub: arn:aws:scheduler:r:a:schedule/${RetrainingSchedules}/*\n")

    keep_layers(build_dir, tmp_path / "kept")

    assert "arn:aws:scheduler:r:a:schedule/default/*\n" in template.read_text(encoding="utf-8")


def test_a_folder_without_a_build_is_refused(tmp_path):
    with pytest.raises(LayerBuildError, match="sam build"):
        keep_layers(tmp_path, tmp_path / "kept")


def test_only_the_layers_of_the_last_build_stay(tmp_path):
    build = LocalBuild(Project(tmp_path))
    for name in ("old", "new"):
        (build.layers / name).mkdir(parents=True)
    build.fingerprint_file.write_text("new", encoding="utf-8")

    build.remove_old_layers()

    assert [folder.name for folder in build.layers.iterdir()] == ["new"]


def test_a_build_without_its_layers_is_not_current(tmp_path):
    build = LocalBuild(Project(tmp_path))
    build.folder.mkdir(parents=True)
    (build.folder / "template.yaml").touch()
    build.fingerprint_file.write_text("new", encoding="utf-8")
    assert not build.is_current("new")

    (build.layers / "new").mkdir(parents=True)
    assert build.is_current("new")
