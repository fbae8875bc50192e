"""Logs of functions: one file each, with the marks that Lambda writes around every invocation."""

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

ROTATE_BYTES = 16 << 20
TAIL_BYTES = 64 << 10
LAMBDA_TAIL_BYTES = 4 << 10


class FunctionLog:
    """Appends to `NAME.log`; a full file becomes `NAME.log.1`, which replaces the one before."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}.log"
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append. A full disk costs log lines, never an invocation."""
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._descriptor).st_size
            if self._size > ROTATE_BYTES:
                self.close()
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self.write(data)
                return
            self._size += os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self, limit: int) -> bytes:
        """The last `limit` bytes, whole lines."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                data = file.read(limit)
        except FileNotFoundError:
            return b""
        return data if size <= limit else data[data.find(b"\n") + 1 :]

    @property
    def position(self) -> str:
        """Where the log ends now, for `read_after`: the file and the bytes in it."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return "0:0"
        return f"{status.st_ino}:{status.st_size}"

    def read_after(self, position: str, limit: int) -> tuple[bytes, str]:
        """What was written since a position, at most `limit` bytes, and the position after it.

        From a position that makes no sense, or that is in a file which was turned away twice, the whole file is new.
        """
        inode, _, offset = position.partition(":")
        before = self.path.with_name(self.path.name + ".1")
        for path in (before, self.path):
            try:
                with path.open("rb") as file:
                    if path == before and str(os.fstat(file.fileno()).st_ino) != inode:
                        continue
                    same = str(os.fstat(file.fileno()).st_ino) == inode
                    start = file.seek(int(offset) if same and offset.isdecimal() and len(offset) < 19 else 0)
                    data = file.read(limit)
                    if path == before and not data:
                        continue
                    return data, f"{os.fstat(file.fileno()).st_ino}:{start + len(data)}"
            except FileNotFoundError:
                continue
        return b"", "0:0"


MAX_LINE = 64 << 10
"""Bytes of a line in a structured log; what is longer becomes several."""


class StructuredLog:
    """Writes the text of an instance as a JSON object for each line, with the request that it is of."""

    def __init__(self, log: FunctionLog, instance: str) -> None:
        self._log = log
        self._instance = instance
        self._rest = b""
        self.request_id = ""
        """Of the invocation that runs; empty before the first and between them."""

    def write(self, data: bytes) -> None:
        """Append text, in whole lines as they come together."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self._log.write(b"".join(self._record("function", {"message": text(line)}) for line in lines))

    def mark(self, kind: str, **record: object) -> None:
        """Append an event of the platform's own."""
        if self._rest:
            self.write(b"\n")
        self._log.write(self._record(kind, {"record": record}))

    def _record(self, kind: str, content: dict[str, object]) -> bytes:
        at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        whole = {"time": at, "type": kind, "requestId": self.request_id, "instance": self._instance, **content}
        return msgspec.json.encode(whole) + b"\n"


def text(line: bytes) -> str:
    """A line as text; what is no UTF-8 as escapes."""
    return line.decode(errors="backslashreplace")


class InvocationLog:
    """What one instance writes: everything goes to the function's log, the current invocation's last part is kept."""

    def __init__(self, log: FunctionLog, structured: StructuredLog | None = None) -> None:
        self._log = log
        self._structured = structured
        self._tail = bytearray()
        self._running: set[str] = set()
        self._unwritten = b""
        """The mark of an invocation that has written nothing yet: most never do, and need one write then, not two."""

    def __call__(self, data: bytes) -> None:
        if self._structured:
            self._structured.write(data)
        else:
            self._log.write(self._unwritten + data)
            self._unwritten = b""
        self._tail += data
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def start(self, request_id: str, version: str) -> None:
        """An invocation begins. What came before (imports, on a cold start) belongs to it too; what is written while
        several run belongs to all of them."""
        self._running.add(request_id)
        mark = f"START RequestId: {request_id} Version: {version}\n".encode()
        self._tail += mark
        if self._structured:
            self._structured.request_id = request_id
            self._structured.mark("platform.start", version=version)
            self._structured.request_id = self._only()
        else:
            self._unwritten += mark

    def end(self, request_id: str, report: str) -> bytes:
        """The invocation is over; returns the end of its log."""
        if self._tail and self._tail[-1] != ord("\n"):
            self(b"\n")
        end = f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\t{report}\n".encode()
        if self._structured:
            self._structured.request_id = request_id
            self._structured.mark("platform.report", report=report.replace("\t", ", "))
            self._running.discard(request_id)
            self._structured.request_id = self._only()
            self._tail += end
        else:
            self._running.discard(request_id)
            self(end)
        tail = self.tail()
        if not self._running:
            self._tail.clear()
        return tail

    def _only(self) -> str:
        """The invocation that whatever is written is of, if only one runs."""
        return next(iter(self._running)) if len(self._running) == 1 else ""

    def tail(self) -> bytes:
        """The end of what was written since the last invocation ended."""
        return bytes(self._tail[-TAIL_BYTES:])
