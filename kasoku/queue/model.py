"""What the queue keeps, and the rules of trying again. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

DEFAULT_RETRIES = 2
DEFAULT_AGE_SECONDS = 6 * 3600.0
FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 300.0


class CallState(StrEnum):
    """Where a call is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (CallState.DONE, CallState.FAILED, CallState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long a call is tried, and who is told of its end."""

    max_attempts: int = 1 + DEFAULT_RETRIES
    max_age_s: float = DEFAULT_AGE_SECONDS
    on_success: str | None = None
    on_failure: str | None = None

    @classmethod
    def of_config(cls, config: dict[str, Any] | None) -> "Policy":
        """From Lambda's event-invoke configuration."""
        config = config or {}
        destinations = config.get("DestinationConfig", {})
        return cls(
            1 + config.get("MaximumRetryAttempts", DEFAULT_RETRIES),
            config.get("MaximumEventAgeInSeconds", DEFAULT_AGE_SECONDS),
            destinations.get("OnSuccess", {}).get("Destination"),
            destinations.get("OnFailure", {}).get("Destination"),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One asynchronous call. Times are seconds since 1970."""

    id: str
    target: str
    qualifier: str
    payload: bytes
    client_context: str | None
    state: CallState
    attempts: int
    max_attempts: int
    accepted_at: float
    due_at: float
    expires_at: float
    idempotency_key: str | None = None
    on_success: str | None = None
    on_failure: str | None = None
    result: bytes | None = None
    error: str | None = None
    finished_at: float | None = None

    @property
    def is_delivery(self) -> bool:
        """Whether it goes to an HTTP endpoint and not to a function."""
        return self.target.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try went: a result, the function's own failure, or the platform's trouble."""

    result: bytes | None = None
    failure: dict[str, Any] | None = None
    """The function failed: this counts against the attempts."""
    trouble: dict[str, Any] | None = None
    """It could not be run: tried again until it is too old, unless `hopeless`."""
    hopeless: bool = False
    executed_version: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at a time."""

    due_at: float


@dataclass(frozen=True, slots=True)
class Finish:
    """That was it. `condition`: Lambda's word for why."""

    state: CallState
    condition: str


def judge(call: Call, attempt: Attempt, now: float, chance: float) -> Retry | Finish:
    """What becomes of a call after a try; `chance` in [0, 1) spreads retries. `call.attempts` counts this one."""
    if attempt.result is not None:
        return Finish(CallState.DONE, "Success")
    if attempt.hopeless or (attempt.failure is not None and call.attempts >= call.max_attempts):
        return Finish(CallState.FAILED, "RetriesExhausted")
    due_at = now + delay_s(call.attempts, chance)
    if due_at >= call.expires_at:
        return Finish(CallState.FAILED, "EventAgeExceeded")
    return Retry(due_at)


def delay_s(attempts: int, chance: float) -> float:
    """Seconds before the next try: doubling, at most five minutes, the upper half of it left to chance."""
    whole = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(attempts - 1, 16))
    return whole * (0.5 + chance / 2)


def record(call: Call, attempt: Attempt, condition: str, arn: str, now_text: str) -> bytes:
    """What a destination is told, in Lambda's shape."""
    failed = attempt.failure or attempt.trouble
    response: dict[str, Any] = {"statusCode": 200, "executedVersion": attempt.executed_version or "$LATEST"}
    if failed is not None:
        response["functionError"] = "Unhandled"
    told = {
        "version": "1.0",
        "timestamp": now_text,
        "requestContext": {
            "requestId": call.id,
            "functionArn": arn,
            "condition": condition,
            "approximateInvokeCount": call.attempts,
        },
        "requestPayload": json.loads(call.payload or b"{}"),
        "responseContext": response,
        "responsePayload": failed if failed is not None else json.loads(attempt.result or b"null"),
    }
    return json.dumps(told).encode()
