"""A declared function: call it here (`f(...)`, `f.local(...)`) or in its VM (`f.remote(...)`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
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
