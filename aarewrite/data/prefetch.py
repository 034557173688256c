"""Loading ahead, in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def prefetch(load: Callable[[S], T], items: Iterable[S], workers: int = 2, ahead: int = 8) -> Iterator[tuple[S, T]]:
    """Yield `(item, load(item))` in order, loading at most `ahead` of them in the background.

    Decoding and rendering overlap with the model's run (both release the GIL); the bound keeps memory flat. Without
    `workers` nothing is loaded ahead.
    """
    if workers == 0:
        yield from ((item, load(item)) for item in items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        waiting = deque((item, pool.submit(load, item)) for item in islice(rest, ahead))
        try:
            while waiting:
                item, found = waiting.popleft()
                loaded = found.result()
                waiting.extend((item, pool.submit(load, item)) for item in islice(rest, 1))
                yield item, loaded
        finally:
            pool.shutdown(cancel_futures=True)
