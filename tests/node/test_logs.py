"""Structured logs: every line an object, of its request, however the text came in."""

import json
from pathlib import Path

from kasoku.node.logs import MAX_LINE, FunctionLog, InvocationLog, StructuredLog


def records(log: FunctionLog) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_lines_are_objects_with_their_request(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path, "fn")
    one, two = (InvocationLog(log, StructuredLog(log, f"i-{n}")) for n in (1, 2))
    one(b"importing\n")
    one.start("a", "$LATEST")
    two.start("b", "3")
    one(b"half")
    two(b'{"own": "json"}\n\xff\x1b[2J\n')
    one(b" a line\nunfinished")
    tail = one.end("a", "Duration: 1.00 ms\tMemory Size: 128 MB")
    two.end("b", "Duration: 2.00 ms")
    assert b"START RequestId: a" in tail and b"half a line\nunfinished\nEND RequestId: a" in tail
    found = [(r["type"], r["requestId"], r["instance"], r.get("message")) for r in records(log)]
    assert found == [
        ("function", "", "i-1", "importing"),
        ("platform.start", "a", "i-1", None),
        ("platform.start", "b", "i-2", None),
        ("function", "b", "i-2", '{"own": "json"}'),
        ("function", "b", "i-2", "\\xff\x1b[2J"),
        ("function", "a", "i-1", "half a line"),
        ("function", "a", "i-1", "unfinished"),
        ("platform.report", "a", "i-1", None),
        ("platform.report", "b", "i-2", None),
    ]
    assert records(log)[-1]["record"] == {"report": "Duration: 2.00 ms"}


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path, "fn")
    endless = InvocationLog(log, StructuredLog(log, "i"))
    for _ in range(5):
        endless(bytes(MAX_LINE // 2 + 1))
    lines = records(log)
    assert len(lines) == 2 and all(len(str(r["message"])) <= 2 * MAX_LINE for r in lines)
