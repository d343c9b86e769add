"""Point a build's layers at folders of this machine, for deployments that never leave it.

MiniStack unpacks every layer anew for every worker: half a gigabyte each, and a training run starts a dozen workers.
After ``sam build``, ``python3 -m layers.local_layers BUILD_DIR KEEP_DIR`` moves what was built to ``KEEP_DIR``, and
makes of each layer a zip with a single path file, which puts the kept folder on the worker's import path. Workers
start at once, and share one copy. Deployments to AWS do without: there, a layer is the bytes.

The template of the build also gets the one permission that only MiniStack needs: it authorises requests for a
schedule as if every schedule were in the default group.
"""

import argparse
import re
import shutil
import sys
import zipfile
from pathlib import Path

from layers.lockfile import LayerBuildError

# As `sam build` writes it: the layer's own folder beside the template.
_CONTENT_URI = re.compile(r"^(?P<key> +ContentUri: )(?P<folder>\w+)$", re.MULTILINE)
_SCHEDULE_IN_GROUP = re.compile(r":schedule/\$\{\w+\}/\*")
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
#: Where Lambda, and MiniStack after it, reads path files; the version in it is not looked at.
_PATH_FILE = "python/lib/python3/site-packages/millrace_layer.pth"


def write_pointer(folder: Path, archive: Path) -> None:
    """Write a layer that puts ``folder`` first on the import path; same folder, same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        line = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        file.writestr(zipfile.ZipInfo(_PATH_FILE, _ZIP_EPOCH), line)


def keep_layers(build_dir: Path, keep_dir: Path) -> list[Path]:
    """Move every layer of a build to ``keep_dir``, which is made anew, and point its template at it.

    Returns
    -------
    list of Path
        The zips that stand for the layers.

    Raises
    ------
    LayerBuildError
        When the folder holds no build.
    """
    template = build_dir / "template.yaml"
    if not template.is_file():
        raise LayerBuildError(f"{build_dir} holds no build; run `sam build` first")
    shutil.rmtree(keep_dir, ignore_errors=True)
    keep_dir.mkdir(parents=True)
    pointers: list[Path] = []

    def point_at_kept(match: re.Match[str]) -> str:
        built = build_dir / match["folder"]
        if not built.is_dir():
            return match[0]
        kept = shutil.move(built, keep_dir.resolve() / built.name)
        archive = built.with_suffix(".zip")
        write_pointer(kept / "python", archive)
        pointers.append(archive)
        return f"{match['key']}{archive.name}"

    text = _CONTENT_URI.sub(point_at_kept, template.read_text(encoding="utf-8"))
    template.write_text(_SCHEDULE_IN_GROUP.sub(":schedule/default/*", text), encoding="utf-8")
    return pointers


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="local_layers", description=__doc__.partition("\n")[0])
    parser.add_argument("build_dir", type=Path, help="the folder that `sam build` wrote")
    parser.add_argument("keep_dir", type=Path, help="the folder that takes the layers")
    options = parser.parse_args(arguments)
    try:
        pointers = keep_layers(options.build_dir, options.keep_dir)
    except LayerBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(pointers)} layers kept\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
