"""The structure of the library: unique names, no cycles, modules of a size that one can read."""

import ast
import re
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "shared" / "millrace"
MOST_LINES = 600

#: A port and its adapter, or a spec's part and the stage that it configures, may share a module's name.
SHARED_MODULE_NAMES: dict[str, str] = {}


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module of the library, parsed, by its dotted name."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def is_package(name: str) -> bool:
    return (LIBRARY.parent / name.replace(".", "/")).is_dir()


def plain_modules() -> dict[str, ast.Module]:
    return {name: tree for name, tree in modules().items() if not is_package(name)}


def imports_of(tree: ast.Module) -> set[str]:
    """Return the library's modules that a module imports: anywhere in it, also for type checkers."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return {name for name in found if name in modules()}


def test_no_two_modules_share_a_name():
    places = defaultdict(list)
    for name in plain_modules():
        places[name.rpartition(".")[2]].append(name)
    shared = {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED_MODULE_NAMES}
    assert shared == {}
    assert all(len(places[name]) > 1 for name in SHARED_MODULE_NAMES), "an exception that is not needed"


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for name, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_two_public_functions_share_a_name():
    places = defaultdict(list)
    for name, tree in modules().items():
        if ".protocols." in name:  # each protocol has the same three
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_modules_import_each_other_in_a_ring():
    graph = {name: imports_of(tree) - {name} for name, tree in plain_modules().items()}
    graph = {name: {other for other in found if other in graph} for name, found in graph.items()}
    assert rings(graph) == []


def test_no_packages_import_each_other_in_a_ring():
    graph: dict[str, set[str]] = defaultdict(set)
    for name, tree in plain_modules().items():
        package = name.split(".")[1]
        graph[package] |= {other.split(".")[1] for other in imports_of(tree) if "." in other} - {package}
    assert rings({package: {other for other in found if other in graph} for package, found in graph.items()}) == []


def test_the_table_of_the_architecture_is_true():
    """Each module and package of the library stands in it, each package with those that it imports."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 3 and re.fullmatch(r"(`\w+/?`(, )?)+", row[0])]
    listed = {name for row in rows for name in re.findall(r"`(\w+)", row[0])}
    assert {name.split(".")[1] for name in modules() if "." in name} <= listed
    imported = {row[0].strip("`/"): set(re.findall(r"\w+", row[2])) for row in rows if "/" in row[0]}
    actual: dict[str, set[str]] = {package.split(".")[1]: set() for package in packages() if package.count(".") == 1}
    for name, tree in plain_modules().items():
        package = name.split(".")[1]
        if package in actual:
            actual[package] |= {other.split(".")[1] for other in imports_of(tree) if "." in other} & actual.keys() - {
                package
            }
    assert {package: imported[package] for package in actual} == actual


def rings(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            position = stack.index(node)
            ring, stack[position:] = stack[position:], []
            if len(ring) > 1:
                found.append(sorted(ring))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


#: The most names in a package's face: more, and it is not one package.
MOST_PUBLIC_NAMES = 10


@cache
def packages() -> list[str]:
    folders = (path.parent.relative_to(LIBRARY.parent) for path in LIBRARY.rglob("*/__init__.py"))
    return sorted(".".join(folder.parts) for folder in folders)


def public_names(package: str) -> list[str]:
    """Return a package's ``__all__``: names that it defines, and modules that other packages may import from."""
    for node in modules()[package].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


@cache
def names_from_outside() -> dict[str, dict[str, set[str]]]:
    """Return the names of each package that code outside of it imports, and the files that do."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(path for top in ("shared", "cli", "functions") for path in (ROOT / top).rglob("*.py")):
        place = ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts) if top_of(path) == "shared" else ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for package in packages():
                    if node.module != package and not node.module.startswith(f"{package}."):
                        continue
                    if place.startswith(f"{package}."):
                        continue
                    inner = node.module.removeprefix(package).lstrip(".")
                    for name in [inner.partition(".")[0]] if inner else [alias.name for alias in node.names]:
                        found[package][name].add(str(path.relative_to(ROOT)))
    return found


def top_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("package", packages())
def test_others_import_from_the_face_of_a_package(package):
    used = names_from_outside()[package]
    assert {name: files for name, files in used.items() if name not in public_names(package)} == {}


@pytest.mark.parametrize("package", packages())
def test_the_face_of_a_package_is_small_and_used(package):
    names = public_names(package)
    assert 1 <= len(names) <= MOST_PUBLIC_NAMES
    assert set(names) <= set(names_from_outside()[package]), "nobody outside the package needs it"


@pytest.mark.parametrize("package", packages())
def test_the_face_of_a_package_names_what_there_is(package):
    module = import_module(package)
    for name in public_names(package):
        assert hasattr(module, name) or import_module(f"{package}.{name}")


def test_a_ring_is_found():
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


@pytest.mark.parametrize("name", sorted(plain_modules()))
def test_a_module_can_be_read_in_one_sitting(name):
    path = LIBRARY.parent / (name.replace(".", "/") + ".py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


#: A suppression with its codes, and the reason after them.
SUPPRESSION = re.compile(
    r"#\s*(?:noqa|type: ?ignore|pragma: no cover|nosec)\b[:\[]?[ A-Za-z0-9,-]*?[\]A-Z0-9]*(?:\s+(?:#|-)\s*(.*))?$"
)
SKIPPED = re.compile(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b(?!.*(?:reason=|\(f?\"))")


def unexplained(line: str) -> bool:
    suppression = SUPPRESSION.search(line)
    return bool((suppression and not re.search(r"\w{2}", suppression[1] or "")) or SKIPPED.search(line))


@pytest.mark.parametrize(
    ("line", "is_unexplained"),
    [
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: S603", True),
        ("x = 1  # noqa: S603, S607", True),
        ("x = 1  # noqa: S603 -", True),
        ("x = 1  # noqa: S603 - our own", False),
        ("x = 1  # noqa: S603, S607  # our own", False),
        ("x = f()  # type: ignore", True),
        ("x = f()  # type: ignore[arg-type]", True),
        ("x = f()  # type: ignore[arg-type]  # the stub is wrong", False),
        ("if x:  # pragma: no cover", True),
        ("if x:  # pragma: no cover - only on Windows", False),
        ("@pytest.mark.skip", True),
        ("@pytest.mark.xfail(strict=True)", True),
        ('@pytest.mark.skipif(x, reason="no libc")', False),
        ('pytest.skip("not installed")', False),
    ],
)  # fmt: skip
def test_a_suppression_without_a_reason_is_found(line, is_unexplained):
    assert unexplained(line) == is_unexplained


def test_every_suppression_has_its_reason_on_its_line():
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("shared", "cli", "functions", "layers", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__) and not {"build", ".build"} & set(path.parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if unexplained(line)
    ]
    assert places == []
