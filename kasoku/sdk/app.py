"""Declaring functions: `app = kasoku.App("name")`, `@app.function(...)`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from kasoku.sdk.errors import OptionError
from kasoku.sdk.function import Function
from kasoku.sdk.options import check_name, parse_options

P = ParamSpec("P")
R = TypeVar("R")


def function_name(app: str, target: str) -> str:
    """The name under which a function of an app is deployed unless `name=` says another."""
    return f"{app}-{target}"


class App:
    """A group of functions that are deployed together. `name` is a prefix of their names."""

    def __init__(self, name: str) -> None:
        self.name = check_name(name)
        self.functions: dict[str, Function[..., Any]] = {}

    @overload
    def function(self, target: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def function(
        self,
        /,
        *,
        name: str | None = None,
        image: str | None = None,
        requirements: Sequence[str] = (),
        accelerator: str | None = None,
        present: str | None = None,
        recover: bool | None = None,
        arena: int | None = None,
        memory: int | None = None,
        vcpus: int | None = None,
        timeout: float | None = None,
        init_timeout: float | None = None,
        lease: str | None = None,
        lease_timeout: float | None = None,
        isolation: str | None = None,
        priority: int | None = None,
        concurrency: int | None = None,
        max_instances: int | None = None,
        min_instances: int | None = None,
        buffer_instances: int | None = None,
        idle_timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        volumes: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        warmup: object = None,
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    def function(
        self, target: Callable[P, R] | None = None, /, *, name: str | None = None, **options: object
    ) -> Function[P, R] | Callable[[Callable[P, R]], Function[P, R]]:
        """Declare a function. The options are those of `kasoku.sdk.options.FunctionOptions`; None means the default.

        `kasoku deploy` reads them from the source text without running it, so they must be literals or names of
        module-level literals. Raises OptionError for one that is wrong.
        """
        parsed = parse_options(options)

        def declare(target: Callable[P, R]) -> Function[P, R]:
            deployed = check_name(name or function_name(self.name, target.__name__))
            if deployed in self.functions:
                raise OptionError("name", f"{deployed!r} is declared twice in app {self.name!r}")
            declared = Function(target, deployed, parsed)
            self.functions[deployed] = declared
            return declared

        return declare if target is None else declare(target)
