"""A guest that was saved in the middle and restored goes on as if nothing had happened."""

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.snapshot.machine import RAM_OFFSET, SEALS, Guest, Machine

PROGRAMS = {
    "c": ["/programs/everything"],
    "python": ["{python}", "/programs/everything.py"],
}


def uninterrupted(guest: Guest) -> str:
    """What a guest prints that is never saved."""
    machine = Machine(guest)
    machine.wait_for("half")
    machine.channel.send(b"x")
    return machine.finish()


@pytest.mark.parametrize(("name", "vcpus"), [("c", 1), ("c", 2), ("python", 1), ("python", 2)])
def test_prints_what_the_uninterrupted_run_prints(name: str, vcpus: int, layers: list[Path], python: str) -> None:
    guest = Guest(layers, [part.format(python=python) for part in PROGRAMS[name]], vcpus=vcpus)
    expected = uninterrupted(guest)
    first = Machine(guest)
    first.wait_for("half\n")
    file = first.snapshot()
    before = first.finish()
    assert first.status == 9  # it was stopped
    for _ in range(2):
        again = Machine(guest, file)
        again.channel.send(b"x")
        assert before + again.finish() == expected
        assert again.status == 0
    os.close(file)


@pytest.mark.parametrize("vcpus", [1, 2])
def test_thirty_programs_say_what_they_say_uninterrupted(vcpus: int, layers: list[Path], python: str) -> None:
    guest = Guest(layers, [python, "/programs/thirty.py", "/dev/kasoku/invoke"], memory_mib=768, vcpus=vcpus)
    expected = uninterrupted(guest)
    first = Machine(guest)
    first.wait_for("half")
    file = first.snapshot()
    before = first.finish()
    again = Machine(guest, file)
    os.close(file)
    again.channel.send(b"x")
    assert before + again.finish() == expected
    assert expected.count(": ") >= 30 and "Traceback" not in expected, expected


@pytest.fixture(scope="module")
def saved(layers: list[Path]) -> Iterator[tuple[Guest, int]]:
    """A guest that sleeps, and its snapshot."""
    guest = Guest(layers, ["/programs/everything"], memory_mib=128)
    machine = Machine(guest)
    machine.wait_for("half\n")
    file = machine.snapshot()
    machine.finish()
    yield guest, file
    os.close(file)


def copy(file: int, *, length: int | None = None, seals: int = SEALS, patch: tuple[int, bytes] | None = None) -> int:
    """A copy of a snapshot, changed."""
    size = os.fstat(file).st_size
    new = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    data = os.pread(file, RAM_OFFSET, 0)
    os.pwrite(new, data, 0)
    os.ftruncate(new, size if length is None else length)
    if patch:
        os.pwrite(new, patch[1], patch[0])
    fcntl.fcntl(new, fcntl.F_ADD_SEALS, seals)
    return new


def refusal(guest: Guest, file: int) -> str:
    """Why a guest cannot be restored."""
    machine = Machine(guest, file)
    event = machine.wait_event("fault", "exited", "started")
    machine.close()
    assert (event["type"], event["kind"]) == ("fault", "snapshot"), event
    assert isinstance(event["message"], str)
    return event["message"]


def test_refuses_what_is_damaged(saved: tuple[Guest, int]) -> None:
    guest, file = saved
    for what, expected in {
        copy(file, length=100): "too short",
        copy(file, length=os.fstat(file).st_size - 4096): "length",
        copy(file, seals=fcntl.F_SEAL_SHRINK): "not sealed",
        copy(file, patch=(0, b"x")): "first bytes",
        copy(file, patch=(8, struct.pack("<I", 99))): "another version",
        copy(file, patch=(48, struct.pack("<Q", 1 << 60))): "memory",
    }.items():
        assert expected in refusal(guest, what)
        os.close(what)


def test_refuses_another_library_os_processor_or_image(saved: tuple[Guest, int]) -> None:
    guest, file = saved
    for what, expected in {
        copy(file, patch=(16, b"x" * 20)): "build of the library OS",
        copy(file, patch=(60, b"x" * 4)): "processor",
        copy(file, patch=(184, struct.pack("<Q", 5))): "time stamp counter",
    }.items():
        assert expected in refusal(guest, what)
        os.close(what)
    assert "image layers" in refusal(replace(guest, layers=guest.layers[1:]), file)


def test_a_guest_goes_on_after_it_was_saved(layers: list[Path]) -> None:
    guest = Guest(layers, ["/programs/everything"])
    expected = uninterrupted(guest)
    machine = Machine(guest)
    machine.wait_for("half\n")
    for _ in range(3):
        os.close(machine.snapshot(stop=False))
    machine.channel.send(b"x")
    assert machine.finish() == expected
