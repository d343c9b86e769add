"""Pack built layers as stored zips, for deployments that never leave this machine.

``sam deploy`` deflates every layer folder anew, even when nothing changed: half a minute for bytes that travel
nowhere. After ``sam build``, ``python3 -m layers.store_zips BUILD_DIR`` packs each layer without compressing it and
points the built template at the zips, which ``sam deploy`` uploads as they are, or not at all when they are there.
Deployments to AWS do without: there, the upload is what takes long.
"""

import argparse
import re
import stat
import sys
import zipfile
from pathlib import Path

from layers.build_layer import iter_files
from layers.lockfile import LayerBuildError

# As `sam build` writes it: the layer's own folder beside the template.
_CONTENT_URI = re.compile(r"^(?P<key> +ContentUri: )(?P<folder>\w+)$", re.MULTILINE)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MODE_SHIFT = 16


def store_zip(folder: Path, archive: Path) -> None:
    """Write a folder's files into a zip without compressing them; same files, same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for relative, path in iter_files(folder):
            entry = zipfile.ZipInfo(str(relative), _ZIP_EPOCH)
            entry.create_system = _UNIX
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << _MODE_SHIFT
            file.writestr(entry, path.read_bytes())


def store_layers(build_dir: Path) -> list[Path]:
    """Pack every layer of a build and point its template at the zips; returns them.

    Calling it again changes nothing.

    Raises
    ------
    LayerBuildError
        When the folder holds no build.
    """
    template = build_dir / "template.yaml"
    if not template.is_file():
        raise LayerBuildError(f"{build_dir} holds no build; run `sam build` first")
    packed: list[Path] = []

    def point_at_zip(match: re.Match[str]) -> str:
        folder = build_dir / match["folder"]
        if not folder.is_dir():
            return match[0]
        archive = folder.with_suffix(".zip")
        store_zip(folder, archive)
        packed.append(archive)
        return f"{match['key']}{archive.name}"

    text = template.read_text(encoding="utf-8")
    template.write_text(_CONTENT_URI.sub(point_at_zip, text), encoding="utf-8")
    return packed


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="store_zips", description=__doc__.partition("\n")[0])
    parser.add_argument("build_dir", type=Path, help="the folder that `sam build` wrote, such as .aws-sam/build")
    try:
        packed = store_layers(parser.parse_args(arguments).build_dir)
    except LayerBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(packed)} layers stored\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
