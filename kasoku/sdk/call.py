"""A handle of a call that was spawned: ask for its result later, from anywhere, or cancel it."""

import time
from typing import Any

from kasoku.sdk.errors import KasokuError, raise_remote
from kasoku.sdk.remote import Gateway

POLL_SECONDS = 30.0


class CallError(KasokuError):
    """A spawned call has no result: it was cancelled, or is not finished in time."""


class Call:
    """`Function.spawn` makes one; `Call(id)` finds one again. Results are kept for a day."""

    def __init__(self, id: str, gateway: Gateway | None = None) -> None:
        self.id = id
        self._gateway = gateway or Gateway.find()

    def status(self) -> dict[str, Any]:
        """What the gateway knows of it: `state`, `attempts`, times, `result` or `error`."""
        answer: dict[str, Any] = self._gateway.json("GET", f"/v1/calls/{self.id}")
        return answer

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Raises FunctionError if the function failed, CallError if cancelled or out of time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL_SECONDS if deadline is None else max(0.0, min(POLL_SECONDS, deadline - time.monotonic()))
            told = self._gateway.json("GET", f"/v1/calls/{self.id}?wait={left:.3f}")
            match told["state"]:
                case "done":
                    return told["result"]
                case "failed":
                    raise_remote(told["error"], told)
                case "cancelled":
                    raise CallError(f"call {self.id} was cancelled")
            if deadline is not None and time.monotonic() >= deadline:
                raise CallError(f"call {self.id} is {told['state']} after {timeout:g} s")

    def cancel(self) -> bool:
        """End it; False if it had ended before."""
        return bool(self._gateway.json("DELETE", f"/v1/calls/{self.id}")["cancelled"])

    def __repr__(self) -> str:
        return f"<kasoku call {self.id}>"
