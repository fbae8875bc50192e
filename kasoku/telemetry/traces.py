"""Traces of invocations, across the wall of the VM: W3C trace context comes in, goes on into the guest, and what
gateway, agent and guest report becomes spans in OpenTelemetry's JSON form.

Spans are kept in memory for `GET /v1/traces`, and posted to an OTLP/HTTP collector where one is configured. An
invocation that nobody traces costs the look for one header. The format is small and fixed; the SDK would be the largest
dependency of all.
"""

import asyncio
import http.client
import json
import logging
import os
import re
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

KEPT = 2000
"""Spans in memory, of the latest invocations."""
MAX_UNSENT = 10_000
EXPORT_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0
_log = logging.getLogger(__name__)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SERVER, _INTERNAL = 2, 1
_ERROR = 2
GuestSpan = tuple[str, float, float]
"""What the runner reports: a name, milliseconds from the handler's start, milliseconds of duration."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One invocation that is traced."""

    trace_id: str
    parent_id: str
    span_id: str
    guest_id: str
    """The span that the guest's own belong to."""
    begun_ns: int

    @property
    def guest_parent(self) -> str:
        """`traceparent` as the guest sees it."""
        return f"00-{self.trace_id}-{self.guest_id}-01"


def parse(header: str | None) -> tuple[str, str, bool] | None:
    """Trace id, parent's span id, and whether it is sampled. None for what makes no sense, as the standard has it."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    return (match[1], match[2], bool(int(match[3], 16) & 1)) if match else None


class Traces:
    """See the module. `endpoint`: a collector's base URL. One event loop."""

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._kept: deque[tuple[str, dict[str, Any]]] = deque(maxlen=KEPT)
        """The function's whole name, and a span."""
        self._unsent: deque[dict[str, Any]] = deque(maxlen=MAX_UNSENT)
        self._exporting = asyncio.create_task(self._export()) if endpoint else None

    def begin(self, header: str | None) -> Trace | None:
        """A trace for an invocation whose caller wants one."""
        parsed = parse(header)
        if parsed is None or not parsed[2]:
            return None
        return Trace(parsed[0], parsed[1], os.urandom(8).hex(), os.urandom(8).hex(), time.time_ns())

    def end(
        self,
        trace: Trace,
        function: str,
        request_id: str,
        timings: Mapping[str, float],
        guest: Sequence[GuestSpan],
        *,
        error: str | None,
        attributes: Mapping[str, str | bool],
    ) -> None:
        """The invocation has ended: times of its parts in milliseconds, as `Served` has them."""
        whole = {"faas.name": function, "faas.invocation_id": request_id, **attributes}
        end_ns = time.time_ns()
        spans = [_span(trace, trace.span_id, trace.parent_id, "invoke", trace.begun_ns, end_ns, _SERVER, error, whole)]

        def part(name: str, begin_ns: int, ms: float, id: str = "", parent: str = "") -> int:
            stop_ns = begin_ns + int(ms * 1e6)
            spans.append(_span(trace, id or os.urandom(8).hex(), parent or trace.span_id, name, begin_ns, stop_ns))
            return stop_ns

        duration = timings.get("duration_ms", 0.0)
        at_ns = end_ns - int(duration * 1e6)
        part("wait", trace.begun_ns, timings.get("wait_ms", 0.0))
        start = [
            name for name in ("lease_ms", "restore_ms", "vm_ms", "interpreter_ms", "imports_ms") if name in timings
        ]
        begin_ns = at_ns - int(sum(timings[name] for name in start) * 1e6)
        for name in start:
            begin_ns = part(name.removesuffix("_ms"), begin_ns, timings[name])
        handler = min(timings.get("handler_ms", duration), duration)
        if duration:
            # Clocks of guest and host are one, but nothing that a guest says is taken for a time of ours: its span lies
            # in the middle of the one measured here.
            begin_ns = at_ns + int((duration - handler) * 5e5)
            part("handler", begin_ns, handler, trace.guest_id)
            for name, offset, ms in guest:
                offset = min(max(offset, 0.0), handler)
                part(name, begin_ns + int(offset * 1e6), min(max(ms, 0.0), handler - offset), parent=trace.guest_id)
        self._kept.extend((function, span) for span in spans)
        if self._exporting:
            self._unsent.extend(spans)

    def found(self, trace_id: str | None) -> list[tuple[str, dict[str, Any]]]:
        """Functions and spans that are kept: of one trace, or all."""
        return [item for item in self._kept if trace_id in (None, item[1]["traceId"])]

    async def close(self) -> None:
        """Send what is left, once."""
        if self._exporting:
            self._exporting.cancel()
            await asyncio.gather(self._exporting, return_exceptions=True)
            await self._send()

    async def _export(self) -> None:
        while True:
            await asyncio.sleep(EXPORT_SECONDS)
            await self._send()

    async def _send(self) -> None:
        spans, endpoint = list(self._unsent), self._endpoint
        self._unsent.clear()
        if not spans or endpoint is None:
            return
        try:
            await asyncio.to_thread(_post, endpoint, json.dumps(document(spans)).encode())
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log.warning("%d spans could not be sent to %s: %s", len(spans), endpoint, error)


def document(spans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """OTLP's ExportTraceServiceRequest."""
    resource = {"attributes": [_attribute("service.name", "kasoku")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "kasoku"}, "spans": spans}]}]}


def _span(
    trace: Trace,
    span_id: str,
    parent_id: str,
    name: str,
    begin_ns: int,
    end_ns: int,
    kind: int = _INTERNAL,
    error: str | None = None,
    attributes: Mapping[str, str | bool] | None = None,
) -> dict[str, Any]:
    span: dict[str, Any] = {
        "traceId": trace.trace_id,
        "spanId": span_id,
        "parentSpanId": parent_id,
        "name": name[:128],
        "kind": kind,
        "startTimeUnixNano": str(begin_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": [_attribute(key, value) for key, value in (attributes or {}).items()],
    }
    if error is not None:
        span["status"] = {"code": _ERROR, "message": error[:256]}
    return span


def _attribute(key: str, value: str | bool) -> dict[str, Any]:
    return {"key": key, "value": {"boolValue": value} if isinstance(value, bool) else {"stringValue": value}}


def _post(endpoint: str, body: bytes) -> None:
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    options: dict[str, Any] = {"context": ssl.create_default_context()} if parts.scheme == "https" else {}
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS, **options)
    try:
        path = parts.path.rstrip("/") + "/v1/traces"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        status = connection.getresponse().status
        if not 200 <= status < 300:
            raise ValueError(f"status {status}")
    finally:
        connection.close()
