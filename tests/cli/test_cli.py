"""The command line against a running twin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Server, share_layers

SOURCE = '''
import helper
import kasoku

app = kasoku.App("tool")


@app.function(name="tool", memory=128)
def double(n=1):
    """Doubles."""
    print("doubling\\x1b[31m")
    return helper.twice(n)
'''


def kasoku(*arguments: str, home: Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KASOKU_HOME": str(home)}
    command = [sys.executable, "-m", "kasoku.cli", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=env, timeout=120, check=False)


@pytest.fixture(scope="module")
def project(twin: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "tool.py").write_text(SOURCE)
    (folder / "helper.py").write_text("def twice(n):\n    return n * 2\n")
    (folder / "lambda.py").write_text("import os\n\ndef handler(event, context):\n    return os.environ['COLOUR']\n")
    answer = kasoku("deploy", str(folder / "tool.py"), home=twin.home)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("tool  version ")
    return folder


@pytest.mark.parametrize("arguments", [['{"n": 21}'], ["--payload", '{"n": 21}'], ["-"]])
def test_invoke(twin: Server, project: Path, arguments: list[str]) -> None:
    answer = kasoku("invoke", "tool", *arguments, home=twin.home, stdin='{"n": 21}')
    assert (answer.returncode, answer.stdout) == (0, "42\n"), answer.stderr


def test_invoke_with_a_file(twin: Server, project: Path) -> None:
    (project / "event.json").write_text('{"n": 2}')
    answer = kasoku("invoke", "tool", "-v", f"@{project / 'event.json'}", home=twin.home)
    assert answer.stdout == "4\n"
    assert '"timings_ms"' in answer.stderr and "\x1b" not in answer.stderr


def test_a_failing_function(twin: Server, project: Path) -> None:
    answer = kasoku("invoke", "tool", '{"m": 1}', home=twin.home)
    assert answer.returncode == 1 and answer.stdout == ""
    assert "kasoku: TypeError: " in answer.stderr and "unexpected keyword argument 'm'" in answer.stderr


def test_logs_never_reach_the_terminal_raw(twin: Server, project: Path) -> None:
    kasoku("invoke", "tool", home=twin.home)
    log = kasoku("logs", "tool", home=twin.home).stdout
    assert "doubling\\x1b[31m" in log and "\x1b" not in log


def test_listings(twin: Server, project: Path) -> None:
    kasoku("invoke", "tool", home=twin.home)
    assert "tool.double" in kasoku("ls", home=twin.home).stdout
    assert any(row["function"] == "tool" for row in json.loads(kasoku("ps", "--json", home=twin.home).stdout))
    assert "twin:0" in kasoku("devices", home=twin.home).stdout


def test_lambda_shape(twin: Server, project: Path) -> None:
    arguments = [
        "deploy",
        str(project / "lambda.py"),
        "--handler",
        "lambda.handler",
        "--name",
        "colour",
        "-e",
        "COLOUR=blue",
    ]
    assert kasoku(*arguments, home=twin.home).returncode == 0
    assert json.loads(kasoku("invoke", "colour", home=twin.home).stdout) == "blue"
    assert kasoku("rm", "colour", home=twin.home).returncode == 0
    assert "Function not found" in kasoku("invoke", "colour", home=twin.home).stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["deploy", "lambda.py"], "declares no function"),
        (["deploy", "tool.py", "--memory", "256"], "write these options into @app.function"),
        (["deploy", "lambda.py", "--handler", "lambda.handler", "--memory", "1"], "between 64"),
        (["deploy", "lambda.py", "--handler", "lambda.handler", "-e", "X"], "NAME=VALUE"),
        (["deploy", "lambda.py", "--handler", "lambda.handler", "--include", "absent"], "no such file"),
        (["invoke", "absent"], "Function not found: absent"),
        (["invoke", "tool", "{"], "Could not parse request body"),
        (["invoke", "tool", "@absent"], "No such file"),
        (["logs", "absent"], "Function not found"),
        (["rm", "absent"], "Function not found"),
    ],
)
def test_errors_are_one_line(
    twin: Server, project: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(project)
    answer = kasoku(*arguments, home=twin.home)
    assert answer.returncode == 1 and reason in answer.stderr
    assert answer.stderr.startswith("kasoku: ") and answer.stderr.count("\n") == 1


def test_without_a_server(tmp_path: Path) -> None:
    answer = kasoku("ls", home=tmp_path)
    assert answer.returncode == 1 and "start one with `kasoku up`" in answer.stderr


def test_remote_is_an_http_call(twin: Server, project: Path) -> None:
    code = (
        f"import sys; sys.path.append({str(project)!r})\nimport tool as t\nd = t.double\nprint(d.remote(4), d.local(5))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "KASOKU_HOME": str(twin.home)}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60
    )
    assert answer.stdout.endswith("8 10\n")


@pytest.mark.skipif(not os.access("/dev/kvm", os.W_OK), reason="needs KVM")
def test_run_needs_no_server(tmp_path: Path) -> None:
    file = tmp_path / "solo.py"
    file.write_text(
        "import kasoku\napp = kasoku.App('solo')\n\n"
        "@app.function(memory=128)\ndef add(a, b='x'):\n    print('said')\n    return [a, b]\n\n"
        "@app.function(memory=128)\ndef fail():\n    raise ValueError('no')\n"
    )
    home = share_layers(tmp_path / "home")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kasoku.cli", "run", *arguments, "--home", str(home)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    done = run(f"{file}::add", "--arg", "a=[1]", "--arg", "b=text")
    assert (done.returncode, json.loads(done.stdout)) == (0, [[1], "text"]) and "said" in done.stderr
    done = run(f"{file}::fail")
    assert done.returncode == 1 and "ValueError: no" in done.stderr and "solo.py" in done.stderr
    for arguments, reason in (
        ([f"{file}::absent"], "declares no function 'absent'"),
        ([str(file)], "write FILE.py::FUNCTION"),
        ([f"{file}::add", "--arg", "x"], "write NAME=VALUE"),
        ([f"{file}::add", "--event", "{"], "not JSON"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and reason in done.stderr
