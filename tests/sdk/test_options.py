"""Options of a function: what is accepted, and that a refusal names the option and the reason."""

from typing import Any

import pytest

from kasoku.sdk.errors import OptionError
from kasoku.sdk.options import FunctionOptions, check_name, parse_options


def test_defaults_and_round_trip() -> None:
    asked = {"accelerator": "opencl:intel:0", "requirements": ["numpy"], "volumes": {"/m": "w"}, "warmup": {"n": 1}}
    options = parse_options({**asked, "env": {"B": "2", "A": "1"}})
    assert options.env == (("A", "1"), ("B", "2"))
    assert parse_options(options.to_json()) == options
    assert parse_options({}) == FunctionOptions()


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("memory", 1, "between 64"),
        ("memory", "512", "not a whole number of MiB"),
        ("memory", True, "not a whole number of MiB"),
        ("vcpus", 0, "between 1 and 8 processors"),
        ("vcpus", 9, "between 1 and 8 processors"),
        ("vcpus", 1.5, "not a whole number of processors"),
        ("timeout", float("nan"), "between"),
        ("timeout", float("inf"), "between"),
        ("accelerator", "cuda", "unknown API"),
        ("accelerator", "opencl:", "of the form"),
        ("lease", "steal", "wait, refuse"),
        ("present", "fpga", "cpu, gpu, accelerator"),
        ("recover", 1, "True or False"),
        ("requirements", "numpy", "not a list"),
        ("requirements", ["--index-url=x"], "not a requirement"),
        ("requirements", ["a\nb"], "not a requirement"),
        ("env", {"A=B": "x"}, "variable's name"),
        ("env", {"A": 1}, "not a string"),
        ("env", {"A": "x" * 40000}, "more than"),
        ("image", "../x", "not an image's name"),
        ("volumes", ["/x"], "not a mapping"),
        ("volumes", {"x": "weights"}, "not an absolute path"),
        ("volumes", {"/": "weights"}, "not an absolute path"),
        ("volumes", {"/a/../b": "weights"}, "not an absolute path"),
        ("volumes", {"/a": "weights", "/a/": "other"}, "named twice"),
        ("volumes", {"/a": "../weights"}, "not the name of a volume"),
        ("warmup", {1, 2}, "as JSON carries it"),
        ("warmup", float("inf"), "as JSON carries it"),
        ("warmup", "x" * 50_000, "longer than"),
        ("gpu", 1, "unknown"),
    ],
)
def test_refused(option: str, value: Any, reason: str) -> None:
    with pytest.raises(OptionError, match=reason) as caught:
        parse_options({option: value})
    assert caught.value.option == option


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, None, 3, "é"])
def test_bad_names(name: Any) -> None:
    with pytest.raises(OptionError):
        check_name(name)
