"""Many calls at a time, with a bound on how far they run ahead of who consumes the results."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

DEFAULT_CONCURRENCY = 16


def run_map(
    call: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int, ordered: bool, return_exceptions: bool
) -> Iterator[Any]:
    """Results of `call` over `items`, in order or as they come.

    At most `concurrency` calls run, and at most twice as many items have been taken whose results were not: an endless
    or slow source is no trouble. Without `return_exceptions` the first failure ends it; what runs then is not waited
    for.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    source = iter(items)
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="kasoku-map")
    pending: dict[Future[Any], None] = {}

    def fill() -> None:
        while len(pending) < 2 * concurrency:
            try:
                item = next(source)
            except StopIteration:
                return
            pending[pool.submit(call, item)] = None

    try:
        fill()
        while pending:
            ready = next(iter(pending)) if ordered else wait(pending, return_when=FIRST_COMPLETED).done.pop()
            error = ready.exception()
            del pending[ready]
            if error is not None and not return_exceptions:
                raise error
            fill()
            yield ready.result() if error is None else error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
