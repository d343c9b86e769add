"""The layers: one lock, no overlap, inside Lambda's limits, and enough for every handler.

The tests marked ``layers`` build the real ones, out of the cache when nothing has changed.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from layers import lockfile, slimming
from layers.build_layer import build_cached, build_folder, build_shared, iter_files
from layers.lockfile import LAYERS, LayerBuildError
from layers.targets import RUNTIME_VERSION, Target, choose_target, install
from tests.template.handler_imports import imported_modules, third_party_packages
from tests.template.template_file import ROOT, functions, layer_names, load_template, resources

# Lambda quotas: "250 MB (the unzipped size, including layers)", https://docs.aws.amazon.com/lambda/latest/dg/
MOST_BYTES = 262_144_000
#: Room for the next release of a dependency.
SPARE_BYTES = 5_000_000

# What the Lambda runtime ships beside the standard library, and layers may lean on.
RUNTIME_PACKAGES = ("boto3", "botocore", "s3transfer", "urllib3", "jmespath", "dateutil", "six.py")

MINISTACK_PYTHON = ROOT / ".millrace" / "tools" / "ministack" / "bin" / "python"

IMPORT_HANDLER = """
import importlib, importlib.util, json, os, sys
request = json.load(sys.stdin)
sys.path[:] = [*request["before"], *sys.path, *request["after"]]
sys.dont_write_bytecode = True
handler = importlib.import_module("app").lambda_handler
absent = [name for name in request["packages"] if importlib.util.find_spec(name) is None]
print(json.dumps({"callable": callable(handler), "absent": absent, "loaded": sorted(sys.modules)}))
"""


class TestLists:
    def test_every_layer_of_packages_is_in_the_template(self):
        declared = {name.removesuffix("Layer").lower() for name in resources("AWS::Serverless::LayerVersion")}
        assert declared == {*LAYERS, "shared"}
        assert {path.parent.name for path in (ROOT / "layers").glob("*/requirements.txt")} == set(LAYERS)

    def test_no_package_is_in_two_layers(self):
        names = [name for layer in LAYERS for name in lockfile.read_names(requirements_of(layer))]
        assert len(names) == len(set(names))

    def test_layers_hold_the_whole_lock_but_what_is_excused(self):
        shipped = {name for layer in LAYERS for name in lockfile.read_names(requirements_of(layer))}
        excused = set(lockfile.read_names(ROOT / "layers" / "not_shipped.txt"))
        assert shipped.isdisjoint(excused)
        assert shipped | excused == set(lockfile.read_lock())

    def test_each_exception_has_a_reason(self):
        for line in (ROOT / "layers" / "not_shipped.txt").read_text(encoding="utf-8").splitlines():
            assert re.search(r"#\s*\w+ \w+", line), line

    @pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
    def test_every_pin_has_hashes(self, path):
        lock = lockfile.read_lock(path)
        assert lock
        assert [name for name, block in lock.items() if "--hash=sha256:" not in block] == []

    @pytest.mark.parametrize(
        "path",
        [*sorted((ROOT / "requirements").glob("*.*")), *sorted((ROOT / "layers").glob("*/requirements.txt"))],
        ids=lambda path: path.relative_to(ROOT).as_posix(),
    )
    def test_no_list_names_an_index(self, path):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"://|--(?:extra-)?index|--find-links|--trusted-host", text) == []

    def test_layers_are_built_for_the_runtime_of_the_template(self):
        everyone = load_template()["Globals"]["Function"]
        assert everyone["Runtime"] == f"python{RUNTIME_VERSION}"
        assert everyone["Architectures"] == ["x86_64"]

    def test_sam_never_reuses_a_layer_by_its_folder_alone(self):
        # SAM's cache looks at layers/ only: not at the lock, nor at LAYER_PYTHON. The layers' own cache looks at all.
        config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
        for environment in config.values():
            if isinstance(environment, dict):
                assert not environment.get("build", {}).get("parameters", {}).get("cached", False)


class TestLockReader:
    def test_reads_a_block_a_package(self, tmp_path):
        lock = tmp_path / "lock.txt"
        lock.write_text("one==1 \\\n    --hash=sha256:aa\n    # via two\nTwo_b==2 \\\n    --hash=sha256:bb\n")
        assert lockfile.read_lock(lock) == {
            "one": "one==1 \\\n    --hash=sha256:aa\n",
            "two-b": "Two_b==2 \\\n    --hash=sha256:bb\n",
        }

    def test_says_when_the_lock_is_missing(self, tmp_path):
        with pytest.raises(LayerBuildError, match="is missing"):
            lockfile.read_lock(tmp_path / "lock.txt")

    @pytest.mark.parametrize("line", ["numpy==2", "-r other.txt", "numpy>=2", "--index-url elsewhere"])
    def test_refuses_more_than_a_name(self, tmp_path, line):
        path = tmp_path / "requirements.txt"
        path.write_text(f"{line}\n")
        with pytest.raises(LayerBuildError, match="not a bare package name"):
            lockfile.read_names(path)

    def test_refuses_a_package_that_is_not_locked(self):
        with pytest.raises(LayerBuildError, match="does not hold: pyarrow"):
            lockfile.layer_lock("arrow", {"numpy": "numpy==2\n"})

    def test_refuses_an_interpreter_that_does_not_run(self, tmp_path):
        with pytest.raises(LayerBuildError, match="not a working Python"):
            choose_target(str(tmp_path / "python"))


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("numpy/__init__.py", False),
        ("numpy/tests/test_a.py", True),
        ("numpy/testing/__init__.py", False),
        ("numpy/__init__.pyi", True),
        ("numpy-2.4.6.dist-info/METADATA", False),
        ("numpy-2.4.6.dist-info/RECORD", True),
        ("numpy-2.4.6.dist-info/licenses/METADATA", True),
        ("pyarrow/libarrow_python.so.2600", False),
        ("pyarrow/libarrow_python.so.2600.1.0", True),
        ("pyarrow/libarrow_python.so", True),
        ("pyarrow/_flight.cpython-313-x86_64-linux-gnu.so", True),
        ("pyarrow/libarrow_substrait.so.2600", False),
        ("onnxruntime/capi/libonnxruntime.so.1.31.1", True),
        ("onnxruntime/capi/libonnxruntime_providers_shared.so", False),
        ("bin/onnxruntime_test", True),
        ("narwhals/_pandas_like/dataframe.py", True),
        ("narwhals/_compliant/dataframe.py", False),
        ("onnx/reference/ops/op_add.py", True),
        ("scipy/stats/_unuran/unuran_wrapper.py", True),
        ("numpy/random/lib/libnpyrandom.a", True),
        (".lock", True),
        ("millrace/reports/templates/page.html", False),
        ("millrace/reports/templates/model_card.md", False),
        ("millrace/reports/templates/style.css", False),
        ("millrace/reports/templates/page.js", False),
    ],
)
def test_leaves_out_what_no_import_reaches(path, left_out):
    assert slimming.is_left_out(PurePosixPath(path)) is left_out


class TestHandlerImports:
    def test_counts_imports_inside_functions(self):
        assert imported_modules("def f():\n    import numpy.linalg\n    from a.b import c\n") == {
            "numpy.linalg",
            "a.b",
            "a.b.c",
        }

    def test_skips_imports_for_type_checkers(self):
        assert imported_modules("if TYPE_CHECKING:\n    import pandas\n") == set()

    def test_follows_the_library(self, tmp_path):
        (tmp_path / "millrace" / "data").mkdir(parents=True)
        (tmp_path / "millrace" / "__init__.py").write_text("")
        (tmp_path / "millrace" / "data" / "__init__.py").write_text("import pyarrow\n")
        (tmp_path / "millrace" / "data" / "read.py").write_text("import json, pandas\n")
        handler = tmp_path / "app.py"
        handler.write_text("from millrace.data.read import read\n")
        assert third_party_packages(handler, tmp_path) == {"pyarrow", "pandas"}


def requirements_of(layer):
    return ROOT / "layers" / layer / "requirements.txt"


def package_layers(properties):
    """Return the names of a function's layers of packages, without the shared one."""
    return [name.removesuffix("Layer").lower() for name in layer_names(properties) if name != "SharedLayer"]


def size_of(folder):
    return sum(path.stat().st_size for _, path in iter_files(folder))


@pytest.fixture(scope="module")
def runtime_layers(tmp_path_factory):
    """Build every layer for the Lambda runtime; the shared one anew."""
    target = choose_target("")
    shared = tmp_path_factory.mktemp("lambda") / "shared"
    build_shared(shared, target)
    return {**{layer: build_cached(layer, target) for layer in LAYERS}, "shared": shared}


@pytest.mark.layers
class TestRuntimeLayers:
    @pytest.mark.parametrize("logical_id", sorted(functions()))
    def test_function_and_its_layers_fit_into_lambda(self, runtime_layers, logical_id):
        properties = functions()[logical_id]
        sizes = {layer: size_of(runtime_layers[layer]) for layer in ["shared", *package_layers(properties)]}
        sizes["function"] = size_of(ROOT / properties["CodeUri"])
        assert sum(sizes.values()) <= MOST_BYTES - SPARE_BYTES, sizes

    def test_no_file_is_in_two_layers(self, runtime_layers):
        owners = {}
        for layer, folder in runtime_layers.items():
            for relative, _ in iter_files(folder):
                assert owners.setdefault(relative, layer) == layer, relative

    def test_no_distribution_is_in_two_layers(self, runtime_layers):
        names = [path.name for folder in runtime_layers.values() for path in folder.glob("*.dist-info")]
        assert names
        assert len(names) == len(set(names))

    def test_binaries_are_for_the_runtime(self, runtime_layers):
        tag = f"cpython-{RUNTIME_VERSION.replace('.', '')}-x86_64-linux-gnu"
        others = [
            relative
            for folder in runtime_layers.values()
            for relative, _ in iter_files(folder)
            if ".cpython-" in relative.name and relative.suffix == ".so" and tag not in relative.name
        ]
        assert others == []

    def test_a_second_build_is_the_same_and_keeps_its_times(self, runtime_layers, tmp_path):
        target = choose_target("")
        build_folder("onnx", tmp_path / "python", target)
        built = {relative: path.stat() for relative, path in iter_files(tmp_path / "python")}
        cached = {relative: path.stat() for relative, path in iter_files(runtime_layers["onnx"])}
        assert built.keys() == cached.keys()
        assert {relative: stat.st_mtime for relative, stat in built.items()} == {
            relative: stat.st_mtime for relative, stat in cached.items()
        }

    def test_bytecode_is_loaded_without_asking_the_source(self, runtime_layers):
        compiled = [path for _, path in iter_files(runtime_layers["base"]) if path.suffix == ".pyc"]
        if choose_target("").compiler is None:
            assert compiled == []
            return
        # PEP 552: flags 0b01 in bytes 4 to 8 say "hash-based, not checked".
        assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}


@pytest.fixture(scope="module")
def local_layers(tmp_path_factory):
    """Build every layer for the interpreter that runs functions here."""
    python = MINISTACK_PYTHON if MINISTACK_PYTHON.exists() else Path(sys.executable)
    target = choose_target(str(python))
    shared = tmp_path_factory.mktemp("local") / "shared"
    build_shared(shared, target)
    return {**{layer: build_cached(layer, target) for layer in LAYERS}, "shared": shared, "python": python}


@pytest.fixture(scope="module")
def runtime_packages(tmp_path_factory):
    """Return a folder with nothing but what the Lambda runtime ships."""
    folder = tmp_path_factory.mktemp("runtime")
    installed = Path(sysconfig.get_path("purelib"))
    for name in RUNTIME_PACKAGES:
        (folder / name).symlink_to(installed / name)
    # The hooks of SnapStart are on Lambda alone.
    (folder / "snapshot_restore_py.py").write_text("register_before_snapshot = print\n")
    return folder


def import_handler(properties, local_layers, runtime_packages):
    """Import a handler in a process that sees its own layers only, in Lambda's order; returns what it said."""
    folder = ROOT / properties["CodeUri"]
    layers = [str(local_layers[layer]) for layer in ["shared", *package_layers(properties)]]
    request = {
        "before": [str(folder), *layers],
        "after": [str(runtime_packages)],
        "packages": sorted(third_party_packages(folder / "app.py", ROOT / "shared")),
    }
    return subprocess.run(
        [str(local_layers["python"]), "-I", "-S", "-W", "error::ImportWarning", "-c", IMPORT_HANDLER],
        input=json.dumps(request),
        env={"PATH": os.defpath, "LAMBDA_TASK_ROOT": str(folder), "AWS_LAMBDA_FUNCTION_NAME": folder.name},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.layers
class TestLocalLayers:
    @pytest.mark.parametrize("logical_id", sorted(functions()))
    def test_handler_imports_from_exactly_its_own_layers(self, local_layers, runtime_packages, logical_id):
        done = import_handler(functions()[logical_id], local_layers, runtime_packages)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["callable"]
        assert said["absent"] == [], "imported later, and in none of its layers"

    def test_time_zones_come_with_the_layer(self, local_layers):
        code = (
            "import sys, zoneinfo; sys.path.insert(0, sys.argv[1]); zoneinfo.reset_tzpath([]); "
            "zoneinfo.ZoneInfo('Europe/Berlin')"
        )
        python, base = str(local_layers["python"]), str(local_layers["base"])
        done = subprocess.run([python, "-I", "-S", "-c", code, base], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_predict_starts_without_the_libraries_of_training(self, local_layers, runtime_packages):
        done = import_handler(functions()["PredictFunction"], local_layers, runtime_packages)
        assert done.returncode == 0, done.stderr
        roots = {name.partition(".")[0] for name in json.loads(done.stdout)["loaded"]}
        assert roots.isdisjoint({"pandas", "sklearn", "scipy", "skl2onnx", "pyarrow", "pydantic"})

    def test_a_handler_without_its_layer_does_not_import(self, local_layers, runtime_packages, tmp_path):
        (tmp_path / "app.py").write_text("import onnxruntime\nlambda_handler = print\n")
        bare = {"CodeUri": str(tmp_path), "Layers": [{"Ref": "SharedLayer"}, {"Ref": "BaseLayer"}]}
        done = import_handler(bare, local_layers, runtime_packages)
        assert done.returncode != 0
        assert "No module named 'onnxruntime'" in done.stderr


def interpreters(*versions):
    """Return the interpreters of these versions that this machine has, under pyenv or on the path."""
    found = {version: shutil.which(f"python{version}") for version in versions}
    for version in versions:
        for path in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}")):
            found[version] = str(path)
    return [
        pytest.param(path, id=version, marks=[] if path else pytest.mark.skip("absent"))
        for version, path in found.items()
    ]


class TestBuilderPythons:
    """`sam build` runs the builder with any `python3` of the machine."""

    def build(self, python, arguments=(), **environment):
        return subprocess.run(
            [python, "-B", "-m", "layers.build_layer", *arguments],
            cwd=ROOT,
            env={"PATH": os.defpath, "HOME": str(Path.home()), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def test_the_syntax_is_that_of_the_oldest_python(self):
        for path in sorted((ROOT / "layers").glob("*.py")):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))

    @pytest.mark.parametrize("python", interpreters("3.6", "3.7", "3.8"))
    def test_an_older_python_is_refused_in_one_line(self, python):
        done = self.build(python)
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert "Python 3.9 or newer" in line
        assert "make deploy" in line

    @pytest.mark.parametrize("python", interpreters("3.9", "3.10", "3.11", "3.12", "3.13"))
    def test_a_newer_python_builds(self, python, tmp_path):
        done = self.build(python, ["shared", "--output", str(tmp_path)])
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "millrace" / "__init__.py").is_file()
        done = self.build(python, ["base", "--output", str(tmp_path)], LAYER_PYTHON=str(tmp_path))
        assert done.stderr == f"layer base: LAYER_PYTHON={tmp_path} is not a working Python interpreter\n"

    @pytest.mark.layers
    @pytest.mark.parametrize("python", interpreters("3.9", "3.13"))
    def test_its_own_pip_installs_for_the_runtime(self, python, tmp_path):
        (tmp_path / "lock.txt").write_text(lockfile.layer_lock("report"), encoding="utf-8")
        program = (
            "import pathlib, sys; from layers import targets; targets._find_uv = lambda: None; "
            "targets.install(*map(pathlib.Path, sys.argv[1:]), targets.Target('lambda', None, None))"
        )
        arguments = ["-c", program, tmp_path / "lock.txt", tmp_path / "python"]
        subprocess.run([python, "-B", *arguments], cwd=ROOT, check=True, timeout=120)
        assert (tmp_path / "python" / "jinja2" / "__init__.py").is_file()

    def test_a_python_without_pip_is_told_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr("layers.targets._find_uv", lambda: None)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
        with pytest.raises(LayerBuildError, match=r"has no pip.*ensurepip.*make deploy"):
            install(tmp_path / "requirements.txt", tmp_path, Target("lambda", None, None))

    def test_without_the_runtimes_python_the_build_says_what_it_costs(self, monkeypatch, capsys):
        monkeypatch.setattr("layers.targets.find_compiler", lambda: None)
        assert choose_target("").bytecode_tag == "source"
        (line,) = capsys.readouterr().err.splitlines()
        assert f"install Python {RUNTIME_VERSION}" in line

    def test_make_deploy_brings_the_python_that_compiles(self):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"RUNTIME_VERSION := {RUNTIME_VERSION}\n" in makefile
        assert "python install --quiet $(RUNTIME_VERSION)" in makefile.partition("\ndeploy:")[2].partition("\n\n")[0]
