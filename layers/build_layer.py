"""Build one Lambda layer: install from the lock, leave out what is not needed, compile, keep for next time.

Called by the Makefiles that ``sam build`` runs, as ``python3 -m layers.build_layer NAME --output DIR``. By default
the layer is for the Lambda runtime; with ``LAYER_PYTHON`` (a path) it is for that interpreter. Same input, same
files: a layer that has not changed is not uploaded again.
"""

import sys

# Syntax of Python 3.6, so that an older interpreter reaches this message. The Makefiles run any `python3` on the path.
if sys.version_info < (3, 9):  # noqa: UP036 - `sam build` runs it, on machines without the project's environment
    sys.exit(
        "building the layers needs Python 3.9 or newer as `python3`; install it, or run `make deploy PYTHON=python3.11`"
    )

import argparse
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from layers import lockfile, slimming
from layers.lockfile import LAYERS, ROOT, LayerBuildError
from layers.targets import Target, choose_target, compile_bytecode, install

CACHE = ROOT / ".millrace" / "cache" / "layers"
SHARED_SOURCE = ROOT / "shared"

# The earliest moment a zip entry can carry: files never differ by the time they were built.
_MTIME = 315532800


def content_key(layer: str, target: Target) -> str:
    """Return what the built layer depends on, as a hash: the lock's lines, these scripts and the target."""
    digest = hashlib.sha256()
    for part in (layer, lockfile.layer_lock(layer), target.name, target.bytecode_tag):
        digest.update(part.encode() + b"\0")
    for script in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(script.read_bytes())
    return digest.hexdigest()[:20]


def iter_files(folder: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    """Yield the files below a folder in a fixed order, each with its path relative to it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield PurePosixPath(path.relative_to(folder).as_posix()), path


def copy_files(source: Path, destination: Path, *, link: bool = False) -> None:
    """Copy the files that a layer keeps, with the same mode and time whoever builds.

    Parameters
    ----------
    source, destination : Path
        Folders; the destination is created.
    link : bool, default=False
        Hard-link where the file system allows it. Only for files that this module made.
    """
    made: set[Path] = set()
    for relative, path in iter_files(source):
        if not link and slimming.is_left_out(relative):
            continue
        target = destination / relative
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        if link and _hard_link(path, target):
            continue
        shutil.copyfile(path, target)
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        os.utime(target, (_MTIME, _MTIME))


def _hard_link(path: Path, target: Path) -> bool:
    """Link a file, and tell whether the file system allowed it."""
    try:
        target.unlink(missing_ok=True)
        os.link(path, target)
    except OSError:
        return False
    return True


def fix_times(folder: Path) -> None:
    """Give every file the same time."""
    for _, path in iter_files(folder):
        os.utime(path, (_MTIME, _MTIME))


def build_cached(layer: str, target: Target) -> Path:
    """Return the built layer's folder in the cache, building it when it is not there yet.

    The folder appears by one rename, so builds that run at the same time, or are killed, leave no half a layer.

    Raises
    ------
    LayerBuildError
        When a package cannot be installed for the target.
    """
    result = CACHE / target.name / f"{layer}-{content_key(layer, target)}"
    if result.is_dir():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=result.parent) as scratch:
        installed, kept = Path(scratch, "installed"), Path(scratch, "kept")
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(lockfile.layer_lock(layer), encoding="utf-8")
        install(requirements, installed, target)
        copy_files(installed, kept)
        compile_bytecode(kept, target)
        fix_times(kept)
        try:
            kept.rename(result)
        except OSError:
            if not result.is_dir():  # another build may have been first, with the same result
                raise
    _drop_outdated(layer, result)
    return result


def _drop_outdated(layer: str, current: Path) -> None:
    """Remove builds of the layer from before the last change; a cache that only grows fills disks."""
    for path in current.parent.glob(f"{layer}-*"):
        if path != current:
            shutil.rmtree(path, ignore_errors=True)


def build_folder(layer: str, output: Path, target: Target) -> None:
    """Write a layer of packages into a folder, out of the cache."""
    copy_files(build_cached(layer, target), output, link=True)


def build_shared(output: Path, target: Target) -> None:
    """Write the project's own library into a folder: quick, so never cached."""
    copy_files(SHARED_SOURCE / "millrace", output / "millrace")
    compile_bytecode(output, target)
    fix_times(output)


def main(arguments: "list[str] | None" = None) -> int:  # a string, because Python 3.9 evaluates annotations
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="build_layer", description=__doc__.partition("\n")[0])
    parser.add_argument("layer", choices=[*LAYERS, "shared"])
    parser.add_argument("--output", type=Path, required=True, help="folder to write the packages into")
    options = parser.parse_args(arguments)
    try:
        target = choose_target(os.environ.get("LAYER_PYTHON", ""))
        if options.layer == "shared":
            build_shared(options.output, target)
        else:
            build_folder(options.layer, options.output, target)
    except LayerBuildError as error:
        sys.stderr.write(f"layer {options.layer}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
