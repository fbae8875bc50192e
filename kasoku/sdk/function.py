"""A declared function: call it here (`f(...)`, `f.local(...)`) or in its VM (`f.remote(...)`)."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from kasoku.sdk.call import Call
    from kasoku.sdk.options import FunctionOptions

P = ParamSpec("P")
R = TypeVar("R")
EVENT_PARAMETERS = ("event", "context")


class Function(Generic[P, R]):
    """What `@app.function` makes of a function.

    Over HTTP a function takes a JSON object of its keyword arguments. A function whose two parameters are called
    `event` and `context` takes the event as it is (Lambda's shape).
    """

    def __init__(self, target: Callable[P, R], name: str, options: FunctionOptions) -> None:
        functools.update_wrapper(self, target)
        self._target = target
        self.name = name
        self.options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._target(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, in this process."""
        return self._target(*args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the deployed function in its VM and return what it returns, as JSON carries it.

        Raises FunctionError (the function failed), ServiceError (the platform refused), TypeError (wrong arguments).
        """
        from kasoku.sdk.remote import Gateway

        result: R = Gateway.find().invoke(self.name, self._event(args, kwargs)).result
        return result

    async def aremote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `remote`, for a coroutine."""
        result: R = await _in_thread(self.remote, *args, **kwargs)
        return result

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """Have the function run some time soon, at least once, and return a handle of the call at once.

        It is on the gateway's disk when this returns. Raises ServiceError, TypeError.
        """
        from kasoku.sdk.call import Call
        from kasoku.sdk.remote import Gateway

        gateway = Gateway.find()
        return Call(gateway.spawn(self.name, self._event(args, kwargs)), gateway)

    async def aspawn(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """As `spawn`, for a coroutine."""
        call: Call = await _in_thread(self.spawn, *args, **kwargs)
        return call

    def map(
        self,
        items: Iterable[Any],
        /,
        *,
        ordered: bool = True,
        concurrency: int = 16,
        return_exceptions: bool = False,
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Iterator[R]:
        """Run the deployed function once for each item, which becomes its first argument; yields the results.

        Results come in the items' order, or as they are ready. `concurrency` calls run at a time, and no more than
        twice as many items are taken ahead of whoever consumes the results. The first failure ends it, or is yielded
        with `return_exceptions`. `kwargs` go to every call.
        """
        from kasoku.sdk.mapping import run_map
        from kasoku.sdk.remote import Gateway

        gateway = Gateway.find()

        def one(item: Any) -> Any:
            return gateway.invoke(self.name, self._event((item,), dict(kwargs))).result

        return run_map(one, items, concurrency=concurrency, ordered=ordered, return_exceptions=return_exceptions)

    async def amap(self, items: Iterable[Any], /, **options: Any) -> AsyncIterator[R]:
        """As `map`, for a coroutine."""
        async for result in _in_threads(self.map(items, **options)):
            yield result

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        """Run the deployed function, a generator, and yield what it yields as it comes.

        Raises as `remote` does, at the item where it happens. A consumer that stops early ends the call.
        """
        from kasoku.sdk.remote import Gateway

        return Gateway.find().stream(self.name, self._event(args, kwargs))

    async def astream(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
        """As `stream`, for a coroutine."""
        async for item in _in_threads(self.stream(*args, **kwargs)):
            yield item

    def _event(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import inspect

        if self.takes_event:
            return args[0] if args else kwargs.get("event")
        bound = inspect.signature(self._target).bind(*args, **kwargs).arguments
        for parameter in inspect.signature(self._target).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound.update(bound.pop(parameter.name, {}))
        return bound

    @property
    def takes_event(self) -> bool:
        """Whether the function has Lambda's shape, `(event, context)`."""
        code = getattr(self._target, "__code__", None)
        return code is not None and code.co_varnames[: code.co_argcount] == EVENT_PARAMETERS

    def __kasoku_invoke__(self, event: Any, context: Any) -> Any:
        """What the runner calls: the event becomes keyword arguments, as the class says."""
        if self.takes_event:
            return self._target(event, context)  # type: ignore[call-arg]
        if not isinstance(event, dict):
            raise TypeError(f"{self.name} takes a JSON object of its arguments, not a {type(event).__name__}")
        return self._target(**event)  # type: ignore[call-arg]

    def __repr__(self) -> str:
        return f"<kasoku function {self.name}>"


_END = object()


async def _in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(call, *args, **kwargs)


async def _in_threads(items: Iterator[Any]) -> AsyncIterator[Any]:
    """An iterator that blocks, for a coroutine."""
    try:
        while (item := await _in_thread(next, items, _END)) is not _END:
            yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            await _in_thread(close)
