"""Two kinds of failure: the function's (its caller gets it as a result), the platform's (its caller gets a status)."""

from typing import Any

import msgspec


class PlatformError(Exception):
    """The platform refused or failed. `code` is Lambda's error name, from which the gateway takes the HTTP status.

    `retry_after_s`: when trying again may help, for what was refused for now.
    """

    def __init__(self, code: str, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """What went wrong inside a function, in Lambda's shape."""

    error_type: str
    error_message: str
    stack_trace: tuple[str, ...] = ()
    request_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """As Lambda writes it: requestId and stackTrace only where there are any."""
        shape: dict[str, Any] = {"errorMessage": self.error_message, "errorType": self.error_type}
        if self.request_id:
            shape["requestId"] = self.request_id
        if self.stack_trace:
            shape["stackTrace"] = list(self.stack_trace)
        return shape


class FunctionFailed(Exception):
    """Raised where a function's failure ends an attempt to start or use an instance. `log`: what it had written."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.error_type}: {failure.error_message}")
        self.failure = failure
        self.log = b""
