"""What a handler imports, directly or through the library, read from the sources without running them.

Imports inside functions count: they are how a library puts off what is slow, and where a missing layer would show
only when a request comes. Imports for type checkers do not count.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARY = "millrace"


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _iter_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not _is_type_checking(child):
            yield child
            yield from _iter_nodes(child)


def imported_modules(source: str) -> set[str]:
    """Return the dotted names that a module imports; ``from a import b`` counts as both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in _iter_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _library_file(module: str, shared: Path) -> Path | None:
    path = shared.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _reached(handler: Path, shared: Path) -> tuple[set[Path], set[str]]:
    """Return the files that a handler imports, itself included, and the other packages that they import."""
    waiting, seen, packages = [handler], set(), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imported_modules(path.read_text(encoding="utf-8")):
            root = module.partition(".")[0]
            if root != LIBRARY:
                packages.add(root)
                continue
            parts = module.split(".")
            files = [_library_file(".".join(parts[: end + 1]), shared) for end in range(len(parts))]
            waiting += [file for file in files if file is not None]
    return seen, packages


def library_files(handler: Path, shared: Path) -> set[Path]:
    """Return the handler and the files of the library that it imports, directly or through others."""
    return _reached(handler, shared)[0]


def third_party_packages(handler: Path, shared: Path) -> set[str]:
    """Return the top-level names of other people's packages that a handler reaches through the library.

    Parameters
    ----------
    handler : Path
        The ``app.py``.
    shared : Path
        The folder that holds the library.
    """
    return _reached(handler, shared)[1] - set(sys.stdlib_module_names)
