"""Output for terminals: what a function says is shown, never obeyed."""

from collections.abc import Callable, Sequence
from typing import Any

import click

_HARMLESS = "\n\t"


def printable(text: str) -> str:
    """The text with control characters as escapes: a function must not move the cursor or rename the window."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else c.encode("unicode_escape").decode() for c in text)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns that line up; None shows as a dash."""
    cells = [list(header), *([printable("-" if v is None else str(v)) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--home DIR`."""
    text = "State directory. [default: $KASOKU_HOME, else ~/.local/share/kasoku]"
    return click.option("--home", type=click.Path(file_okay=False), default=None, help=text)(command)
