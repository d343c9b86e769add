"""Ranges of objects as files: the bytes of the object, however they are read."""

import random
from typing import Any

import pytest
from millrace.batch.job import SourceObject
from millrace.batch.object_bytes import ObjectRange

from tests.fakes.memory_object_store import MemoryObjectStore

KEY = "score/churn/rows.csv"


class Counting(MemoryObjectStore):
    """A store that counts the requests for ranges."""

    requests = 0

    def get_range(self, *range_: Any, **options: Any) -> bytes:
        self.requests += 1
        return super().get_range(*range_, **options)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_reads_gives_the_bytes_of_the_range(seed, monkeypatch):
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 10)
    rng = random.Random(seed)
    store = MemoryObjectStore("data")
    store.put(KEY, rng.randbytes(300))
    source, body = SourceObject(key=KEY, size=300, etag=store.head(KEY).etag), store.get(KEY)[20:281]
    with ObjectRange(store, source, 20, 281) as stream:
        for _ in range(100):
            start, size = rng.randint(0, 261), rng.choice([0, 1, 9, 10, 11, 95, -1])
            stream.seek(start)
            assert stream.read(size) == (body[start:] if size < 0 else body[start : start + size])


def test_small_reads_after_a_step_far_back_request_each_block_once(monkeypatch):
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 10)
    store = Counting("data")
    store.put(KEY, bytes(range(200)))
    source = SourceObject(key=KEY, size=200)
    with ObjectRange(store, source, 0, 200) as stream:
        for _ in range(2):
            stream.seek(0)
            assert b"".join(stream.read(1) for _ in range(200)) == bytes(range(200))
    assert store.requests <= 2 * 21
