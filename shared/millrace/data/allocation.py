"""How memory is allocated while tables are read.

A table is read block by block, and each block takes some twenty megabytes for a moment. An allocator that returns what
is freed to the system at once is handed empty pages again for the next block, which costs a tenth of the reading; one
that keeps everything costs memory.
"""

import ctypes

import pyarrow as pa

#: Arrow's allocators: the first keeps little, and makes a buffer smaller without copying it. Arrow's own choice keeps
#: a quarter more at the peak.
_ALLOCATORS = {"jemalloc": pa.jemalloc_memory_pool, "system": pa.system_memory_pool}
#: Options of ``mallopt(3)``: what is kept at an arena's end, and from which size on memory is mapped on its own.
_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20


def allocate_for_blocks() -> None:
    """Set up the process's allocators: Arrow's, and the C library's where it is GNU's."""
    allocator = next(name for name in _ALLOCATORS if name in pa.supported_memory_backends())
    pa.set_memory_pool(_ALLOCATORS[allocator]())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MAP_THRESHOLD, _MAPPED_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
