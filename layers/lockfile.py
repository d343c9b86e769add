"""The one lock: which packages it pins, and its lines for a few of them.

``requirements/layers.txt`` holds a block a package: the pin, then its hashes on continued lines. A layer lists
names only, so a version or a hash is written down in a single place.
"""

from __future__ import annotations  # for Python 3.9

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "layers.txt"
LAYERS = ("base", "arrow", "pandas", "onnx", "sklearn", "report")

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==")


class LayerBuildError(Exception):
    """A layer cannot be built; the message says what to do about it."""


def normalise(name: str) -> str:
    """Return a package name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_names(path: Path) -> list[str]:
    """Read the package names of a list, one a line, without comments.

    Raises
    ------
    LayerBuildError
        When a line holds more than a name, such as a version or an option.
    """
    names = []
    for line in path.read_text(encoding="utf-8").splitlines():
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise LayerBuildError(f"{path}: {name!r} is not a bare package name; versions stand in the lock")
        names.append(normalise(name))
    return names


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """Read the lock as one block of text a package: the pin with its hashes, without comments.

    Raises
    ------
    LayerBuildError
        When the lock cannot be found.
    """
    if not path.is_file():
        raise LayerBuildError(f"the lock {path} is missing; layers are built inside the project, not in a container")
    blocks: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := _PIN.match(line):
            current = blocks.setdefault(normalise(pin["name"]), [])
        if line.strip() and not line.lstrip().startswith("#"):
            current.append(line.rstrip())
    return {name: "\n".join(lines) + "\n" for name, lines in blocks.items()}


def layer_lock(layer: str, lock: dict[str, str] | None = None) -> str:
    """Return the lock's lines for the packages of one layer.

    Raises
    ------
    LayerBuildError
        When the layer names a package that the lock does not hold.
    """
    lock = read_lock() if lock is None else lock
    names = read_names(ROOT / "layers" / layer / "requirements.txt")
    if missing := sorted(set(names) - set(lock)):
        raise LayerBuildError(f"layer {layer} names packages that the lock does not hold: {', '.join(missing)}")
    return "".join(lock[name] for name in sorted(names))
