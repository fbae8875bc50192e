"""The queue's file. Whoever calls these methods is the one writer (see `writer`); each is part of its transaction."""

from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

from kasoku.queue.model import Call, CallState
from kasoku.registry.database import Database
from kasoku.tenants.model import SEPARATOR

MIGRATIONS = Path(__file__).parent / "migrations"
_COLUMNS = ", ".join(field.name for field in fields(Call))
MAX_ROWS = 64
_PLACES = ", ".join("?" * len(fields(Call)))


class QueueStore:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self.db = Database(path, MIGRATIONS)

    def recover(self, now: float) -> None:
        """What ran when the last process ended is queued again: nobody knows how far it came.

        What was accepted in a future is accepted now, with its delays: the clock has been set back since.
        """
        with self.db.transaction():
            self.db.execute("UPDATE calls SET state = 'queued' WHERE state = 'running'")
            self.db.execute(
                "UPDATE calls SET due_at = due_at - (accepted_at - :now), "
                "expires_at = expires_at - (accepted_at - :now), accepted_at = :now "
                "WHERE state = 'queued' AND accepted_at > :now",
                {"now": now},
            )

    def accept(self, call: Call) -> str:
        """Keep a call; the id of an earlier one with the same idempotency key instead, if there is one."""
        if call.idempotency_key is not None:
            row = self.db.execute(
                "SELECT id FROM calls WHERE target = ? AND idempotency_key = ?", (call.target, call.idempotency_key)
            ).fetchone()
            if row:
                return str(row[0])
        self.db.execute(f"INSERT INTO calls ({_COLUMNS}) VALUES ({_PLACES})", astuple(call))
        return call.id

    def insert(self, calls: Sequence[Call]) -> list[str]:
        """Keep calls without idempotency keys, in few statements; their ids.

        The interpreter's lock is given up and taken again at every statement. Taking it from a busy event loop takes
        milliseconds, so that one statement for each call would hold up all of them.
        """
        rows = [astuple(call) for call in calls]
        start = 0
        while start < len(rows):
            # Powers of two: few different statements, which the connection keeps prepared.
            count = min(MAX_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
            places = ", ".join([f"({_PLACES})"] * count)
            values = [value for row in rows[start : start + count] for value in row]
            self.db.execute(f"INSERT INTO calls ({_COLUMNS}) VALUES {places}", values)
            start += count
        return [call.id for call in calls]

    def claim(self, now: float, limit: int, skip: Sequence[str]) -> list[Call]:
        """Up to `limit` calls that are due become running, oldest first; not those of the targets in `skip`."""
        rows = self.db.execute(
            f"UPDATE calls SET state = 'running', attempts = attempts + 1 WHERE seq IN (SELECT seq FROM calls "
            f"WHERE state = 'queued' AND due_at <= ? AND target NOT IN ({', '.join('?' * len(skip))}) "
            f"ORDER BY due_at, seq LIMIT ?) RETURNING {_COLUMNS}",
            (now, *skip, limit),
        ).fetchall()
        return [_call(row) for row in rows]

    def next_due(self, skip: Sequence[str]) -> float | None:
        """When the first queued call is due, but for those of the targets in `skip`."""
        row = self.db.execute(
            f"SELECT min(due_at) FROM calls WHERE state = 'queued' AND target NOT IN ({', '.join('?' * len(skip))})",
            tuple(skip),
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def retry(self, id: str, due_at: float, error: str, *, count: bool) -> None:
        """Queue a running call again; `count`: the try counts against its attempts."""
        self.db.execute(
            "UPDATE calls SET state = 'queued', due_at = ?, error = ?, attempts = attempts - ? "
            "WHERE id = ? AND state = 'running'",
            (due_at, error, 0 if count else 1, id),
        )

    def finish(
        self, id: str, state: CallState, now: float, result: bytes | None, error: str | None, follow: Sequence[Call]
    ) -> bool:
        """End a call, and accept what follows from it, in one; False if it had ended before."""
        done = self.db.execute(
            "UPDATE calls SET state = ?, finished_at = ?, result = ?, error = ? "
            "WHERE id = ? AND state IN ('queued', 'running')",
            (state, now, result, error, id),
        )
        if not done.rowcount:
            return False
        for call in follow:
            self.accept(call)
        return True

    def get(self, id: str) -> Call | None:
        """One call."""
        row = self.db.execute(f"SELECT {_COLUMNS} FROM calls WHERE id = ?", (id,)).fetchone()
        return _call(row) if row else None

    def latest(self, tenant: str, target: str | None, state: str | None, limit: int) -> list[Call]:
        """The latest calls first; a tenant's own, if one is named."""
        rows = self.db.execute(
            f"SELECT {_COLUMNS} FROM calls WHERE target = coalesce(?, target) AND state = coalesce(?, state) "
            "AND target GLOB ? ORDER BY seq DESC LIMIT ?",
            (target, state, _glob(tenant), limit),
        )
        return [_call(row) for row in rows.fetchall()]

    def counts(self, tenant: str) -> dict[str, int]:
        """How many calls there are in each state that is not final; a tenant's own, if one is named."""
        rows = self.db.execute(
            "SELECT state, count(*) FROM calls WHERE finished_at IS NULL AND target GLOB ? GROUP BY state",
            (_glob(tenant),),
        )
        return {str(state): int(count) for state, count in rows.fetchall()}

    def forget(self, before: float) -> int:
        """Drop calls that ended before a time."""
        return int(self.db.execute("DELETE FROM calls WHERE finished_at < ?", (before,)).rowcount)

    def put_schedule(self, row: tuple[Any, ...]) -> None:
        """Make a schedule or replace it."""
        self.db.execute("INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def remove_schedule(self, name: str) -> bool:
        """Forget a schedule; False if there is none."""
        return bool(self.db.execute("DELETE FROM schedules WHERE name = ?", (name,)).rowcount)

    def schedules(self) -> list[tuple[Any, ...]]:
        """All schedules by name."""
        return list(self.db.execute("SELECT * FROM schedules ORDER BY name").fetchall())

    def fire(self, name: str, was_due: float, next_at: float | None, call: Call) -> None:
        """Accept a schedule's call and move the schedule on, in one; nothing if it was moved on before."""
        moved = self.db.execute(
            "UPDATE schedules SET next_at = ? WHERE name = ? AND next_at = ?", (next_at, name, was_due)
        )
        if moved.rowcount:
            self.accept(call)

    def close(self) -> None:
        """Close the file."""
        self.db.close()


def _glob(tenant: str) -> str:
    """Targets of a tenant; a tenant's name has no character that means something here."""
    return f"{tenant}{SEPARATOR}*" if tenant else "*"


def _call(row: Sequence[Any]) -> Call:
    call = Call(*row)
    return replace(call, state=CallState(call.state))
