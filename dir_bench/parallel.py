"""Work done ahead in threads, in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Made]:
    """Yield `make(item)` for each item in order; with `workers` threads, up to twice as many are made ahead."""
    if workers == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(make, item) for item in items[: 2 * workers])
        try:
            for item in items[2 * workers :]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(make, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
