"""Fingerprints of source folders, which tell whether anything changed since the last build."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: What a build and a deployment depend on, under the checkout.
DEPLOYED_SOURCES = (
    "template.yaml",
    "samconfig.toml",
    "functions",
    "shared",
    "layers",
    "requirements/layers.txt",
    "statemachines",
)

_NOT_SOURCE = {"__pycache__", ".build", "build", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def fingerprint(root: Path, sources: Iterable[str] = DEPLOYED_SOURCES, *extra: str) -> str:
    """Return a SHA-256 over the names and contents of every source file.

    Parameters
    ----------
    root : Path
        The checkout.
    sources : iterable of str
        Files and folders under it; one that does not exist counts as absent.
    *extra : str
        Whatever else the result depends on, such as the interpreter.
    """
    digest = hashlib.sha256()
    for text in extra:
        _add(digest, b"extra", text.encode())
    for source in sources:
        for path in _files(root / source):
            mode = b"x" if path.stat().st_mode & 0o100 else b"-"
            _add(digest, path.relative_to(root).as_posix().encode(), mode, path.read_bytes())
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", *parts: bytes) -> None:
    """Add parts with their lengths, so that no two lists of parts look alike."""
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name not in _NOT_SOURCE and not child.name.endswith((".pyc", ".egg-info")):
                yield from _files(child)
