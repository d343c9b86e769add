"""How memory is allocated while tables are read.

A table is read block by block, and each block takes some twenty megabytes for a moment. The C library returns what is
freed to the system at once, and the system hands out empty pages again for the next block: a tenth of the time that
reading takes. So it is told to keep what is freed, up to a limit; the peak stays as it is.
"""

import ctypes

import pyarrow as pa

#: Options of ``mallopt(3)``: what is kept at an arena's end, and from which size on memory is mapped on its own.
_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20


def allocate_for_blocks() -> None:
    """Set up the process's allocators; where the C library is not GNU's, only Arrow's."""
    # Arrow's own allocator keeps what is freed for later: at the peak that is a third more than the system's.
    pa.set_memory_pool(pa.system_memory_pool())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MAP_THRESHOLD, _MAPPED_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
