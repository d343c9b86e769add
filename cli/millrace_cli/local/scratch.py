"""Where the functions' workers unpack their layers: in memory when there is plenty, else on the disk.

Each worker unpacks up to half a gigabyte when it starts, and a pipeline starts a dozen of them: on a disk that is
most of what a run takes.
"""

import hashlib
import shutil
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the folder made there is ours alone, or not used
_PLENTY_BYTES = 10 * 1024**3


def scratch_dirs(local_dir: Path) -> tuple[Path, Path]:
    """Return where the scratch folder of this local stack may be: in memory, and on the disk."""
    name = hashlib.sha256(str(local_dir).encode()).hexdigest()[:16]
    return _SHARED_MEMORY / f"millrace-{name}", local_dir / "workers"


def make_scratch(local_dir: Path) -> Path:
    """Make the scratch folder, for this user alone, and return it."""
    in_memory, on_disk = scratch_dirs(local_dir)
    try:
        if shutil.disk_usage(_SHARED_MEMORY).free >= _PLENTY_BYTES:
            in_memory.mkdir(mode=0o700)
            return in_memory
    except OSError:  # there is no such file system, or somebody else's folder has the name
        pass
    on_disk.mkdir(mode=0o700, parents=True, exist_ok=True)
    return on_disk


def remove_scratch(local_dir: Path) -> None:
    """Remove the scratch folder, wherever it is."""
    for folder in scratch_dirs(local_dir):
        shutil.rmtree(folder, ignore_errors=True)
