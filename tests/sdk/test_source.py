"""What a file declares is read from its syntax; nothing in it runs."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kasoku.sdk.errors import DeclarationError
from kasoku.sdk.source import Declared, read_declarations


def read(tmp_path: Path, text: str) -> list[Declared]:
    file = tmp_path / "functions.py"
    file.write_text(textwrap.dedent(text))
    return read_declarations(file)


def test_forms_of_declaration(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        import kasoku as k
        from kasoku import App as A
        raise SystemExit("this file must not run")
        PACKAGES = ["numpy", "pyopencl"]
        app, other = k.App("one"), None
        one = k.App("one")
        two = A(name="two")

        @one.function
        def plain(): ...

        @one.function(name="named", requirements=PACKAGES, memory=1024, env={"A": "b"})
        async def second(x): ...

        @two.function()
        def handler(event, context): ...

        @staticmethod
        def neither(): ...
        """,
    )
    assert [(d.name, d.handler) for d in found] == [
        ("one-plain", "functions.plain"),
        ("named", "functions.second"),
        ("two-handler", "functions.handler"),
    ]
    assert found[1].options.requirements == ("numpy", "pyopencl")
    assert found[1].options.memory == 1024


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("def f(:", 1, "not valid Python"),
        ("import kasoku\napp = kasoku.App('a' + 'b')\n", 2, "not a literal"),
        ("import kasoku\napp = kasoku.App('a b')\n", 2, "not 1 to 64"),
        ("import kasoku\napp = kasoku.App()\n", 2, "takes one argument"),
        (
            "import kasoku\napp = kasoku.App('a')\nn = 1\nn = 2\n@app.function(memory=n)\ndef f(): ...\n",
            5,
            "not a literal",
        ),
        (
            "import kasoku\napp = kasoku.App('a')\n@app.function(memory=f())\ndef f(): ...\n",
            3,
            "option 'memory' is not a lit",
        ),
        ("import kasoku\napp = kasoku.App('a')\n@app.function(**x)\ndef f(): ...\n", 3, "cannot be given with"),
        ("import kasoku\napp = kasoku.App('a')\n@app.function('x')\ndef f(): ...\n", 3, "given by name"),
        ("import kasoku\napp = kasoku.App('a')\n@app.function(memory=1)\ndef f(): ...\n", 3, "between 64"),
        ("import kasoku\napp = kasoku.App('a')\n@app.function(fast=1)\ndef f(): ...\n", 3, "unknown"),
        ("import kasoku\napp = kasoku.App('a')\n@app.function\ndef f(*a): ...\n", 4, "by name"),
        (
            "import kasoku\na = kasoku.App('a')\n@a.function\ndef f(): ...\n@a.function\ndef f(): ...\n",
            6,
            "declared twice",
        ),
        ("(" * 3000, None, "not valid Python"),
    ],
)
def test_errors_name_line_and_reason(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason) as caught:
        read(tmp_path, text)
    assert caught.value.line in (line, 1)
    assert "functions.py" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="No such file"):
        read_declarations(tmp_path / "absent.py")


def test_the_sdk_needs_the_standard_library_alone() -> None:
    code = """
import sys
import kasoku
app = kasoku.App("a")
f = app.function(name='f', memory=128)(lambda x=1: x)
from kasoku.sdk import remote, source
outside = {m.split(".")[0] for m in sys.modules} - set(sys.stdlib_module_names) - {"kasoku", "__main__"}
assert not {m for m in outside if not m.startswith("_")}, outside
assert not [m for m in sys.modules if m.startswith("kasoku.") and not m.startswith(("kasoku.sdk", "kasoku.home"))]
assert f() == f.local() == 1
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(root)!r})\n{code}"], check=True
    )
