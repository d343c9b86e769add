"""Calls made on several threads, their results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import TypeVar

Result = TypeVar("Result")

#: Results that may wait for an earlier one, for each thread.
_MAX_EARLY = 2


def in_order(calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Make calls on as many threads as there are processors, and yield what they return in order.

    A call is taken from ``calls`` as soon as any other has ended, so that every thread finds its next one waiting: only
    one call more than there are threads holds what it works on in memory. Results that are early wait for their turn.

    Raises
    ------
    Exception
        What a call raises, when its turn comes; calls that were not begun are not made then.
    """
    threads = os.cpu_count() or 1
    room = Semaphore(threads)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                waiting[-1].add_done_callback(lambda _: room.release())
                room.acquire()
                while waiting and (waiting[0].done() or len(waiting) > _MAX_EARLY * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
