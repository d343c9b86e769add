"""How memory is allocated while tables are read.

A table is read block by block, and each block takes some forty megabytes for a moment. What is freed goes back to the
system at once, unless the allocator is told otherwise, and the next block is handed empty pages: a tenth of the time
that reading takes. An allocator that keeps everything takes a quarter more memory at the peak.
"""

import ctypes

import pyarrow as pa

#: Options of ``mallopt(3)``: what is kept at an arena's end, and from which size on memory is mapped on its own.
_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20


def allocate_for_blocks() -> None:
    """Let Arrow use the C library's allocator, and let that, where it is GNU's, keep what the next block needs."""
    pa.set_memory_pool(pa.system_memory_pool())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MAP_THRESHOLD, _MAPPED_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
