"""The process's allocators are set up where they are there to be set up."""

import ctypes
import platform
import subprocess
import sys
from unittest import mock

import pyarrow as pa
import pytest
from millrace.data.read import allocate_for_blocks

#: Reads a file of a few blocks again and again, and counts the pages that the system handed out for it.
READ = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from unittest import mock
if sys.argv[1] == "returned":
    with mock.patch("ctypes.CDLL", return_value=object()):
        from millrace.data.read import open_table
else:
    from millrace.data.read import open_table
for turn in range(6):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for batch in open_table(Path(sys.argv[2]), "t.csv").batches({"a": pa.float64(), "b": pa.float64()}):
        assert len(batch)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_another_c_library_is_left_alone():
    with mock.patch.object(ctypes, "CDLL", return_value=object()):
        allocate_for_blocks()
    assert pa.default_memory_pool().backend_name == "system"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library can be told")
def test_a_block_is_given_the_memory_of_the_one_before(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n" + b"12.5,3.25\n" * 2_000_000)
    pages = {}
    for way in ("kept", "returned"):
        command = [sys.executable, "-c", READ, way, str(path)]
        found = subprocess.run(command, capture_output=True, check=True, text=True)
        pages[way] = int(found.stdout)
    assert pages["kept"] < pages["returned"] / 4
