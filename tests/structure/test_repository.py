"""What is true of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib

from .repository import ROOT, sources, text, tracked

LINES_MAX = 600
CODE = (".rs", ".py", ".js", ".mjs", ".css", ".html", ".sv", ".c", ".h")


def test_no_file_needs_a_table_of_contents() -> None:
    long = {name: len(text(name).splitlines()) for name in sources(*CODE) if "/vendor/" not in name}
    assert {name: lines for name, lines in long.items() if lines > LINES_MAX} == {}


def test_the_map_names_only_what_exists() -> None:
    named = set(re.findall(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]*)+)`", text("ARCHITECTURE.md")))
    assert named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_folder_of_the_product_is_on_the_map() -> None:
    map_text = text("ARCHITECTURE.md")
    folders = {name.split("/")[1] for name in tracked() if re.match(r"(guest|host|kasoku)/[^/]+/", name)}
    assert sorted(folder for folder in folders if folder not in map_text) == []


def test_every_dependency_has_its_reason() -> None:
    reasons = text("ARCHITECTURE.md")
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    names = [re.split(r"[\[<>=~!; ]", line)[0] for line in wanted]
    for manifest in sources("Cargo.toml"):
        cargo = tomllib.loads(text(manifest))
        tables = [cargo.get("dependencies", {}), cargo.get("workspace", {}).get("dependencies", {})]
        names += [name for table in tables for name in table if not name.startswith("kasoku-")]
    assert sorted(name for name in names if f"`{name}`" not in reasons) == []


def test_links_in_documents_lead_somewhere() -> None:
    for name in sources(".md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(name)):
            assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


def test_readme_has_the_two_commands() -> None:
    assert "make demo" in text("README.md")
    assert "make test" in text("README.md")
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_nothing_is_left_unfinished() -> None:
    # Built from parts, so that this file does not find itself.
    words = [
        "TO" + "DO",
        "FIX" + "ME",
        "X" * 3,
        r"todo" + r"!\(",
        r"unimplemented" + r"!\(",
        r"raise NotImplemented" + "Error",
    ]
    pattern = re.compile(rf"\b({'|'.join(words)})")
    found = [name for name in sources(".rs", ".py", ".sh", ".c", ".h") if pattern.search(text(name))]
    assert found == []


def test_locks_are_in_step() -> None:
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--no-deps"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
