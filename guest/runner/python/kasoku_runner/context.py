"""The `context` argument of a handler, as Lambda's Python runtime has it."""

import time
from collections.abc import Sequence
from typing import Any


class Identity:
    """Callers have no Cognito identity here."""

    cognito_identity_id = None
    cognito_identity_pool_id = None


class ClientContext:
    """What the caller sent as client context."""

    def __init__(self, sent: dict[str, Any]) -> None:
        self.custom = sent.get("custom")
        self.env = sent.get("env")
        self.client = sent.get("client")


class Context:
    """What a handler may ask about its function and this invocation."""

    def __init__(self, function: dict[str, Any], invocation: dict[str, Any], blobs: Sequence[memoryview] = ()) -> None:
        self.blobs = blobs
        """What the caller's `x-kasoku-blobs` names, mapped and read-only."""
        self.aws_request_id: str = invocation["request_id"]
        self.function_name: str = function["name"]
        self.function_version: str = invocation.get("version", function["version"])
        self.invoked_function_arn: str = invocation.get("arn", function["arn"])
        self.memory_limit_in_mb: int = function["memory_mib"]
        self.log_group_name = f"/kasoku/{function['name']}"
        self.log_stream_name: str = function["instance"]
        self.identity = Identity()
        sent = invocation.get("client_context")
        self.client_context = ClientContext(sent) if isinstance(sent, dict) else None
        self.accelerator: str | None = function.get("accelerator")
        """The device that this instance holds, such as `opencl:intel:0`; None without one."""
        self.trace_parent: str | None = invocation.get("trace")
        """W3C trace context of a traced invocation, for spans of the function's own; `$TRACEPARENT` has it too."""
        self._deadline = time.monotonic() + invocation["timeout_ms"] / 1000

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until this invocation is ended."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        """Write to the function's log."""
        print(message, flush=True)
