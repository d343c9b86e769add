"""The process's allocators are set up where they are there to be set up."""

import ctypes
from unittest import mock

import pyarrow as pa
import pytest
from millrace.data.allocation import allocate_for_blocks


@pytest.fixture(autouse=True)
def _restored():
    yield
    allocate_for_blocks()


@pytest.mark.parametrize(
    ("built_in", "chosen"), [(["mimalloc", "jemalloc", "system"], "jemalloc"), (["system"], "system")]
)
def test_arrow_is_given_the_allocator_that_keeps_least(monkeypatch, built_in, chosen):
    if chosen not in pa.supported_memory_backends():
        pytest.skip(f"this build of Arrow has no {chosen}")
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: built_in)
    allocate_for_blocks()
    assert pa.default_memory_pool().backend_name == chosen


def test_another_c_library_is_left_alone():
    with mock.patch.object(ctypes, "CDLL", return_value=object()):
        allocate_for_blocks()
    assert pa.default_memory_pool().backend_name in ("jemalloc", "system")
