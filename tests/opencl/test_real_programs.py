"""Programs of other people, natively and through the virtual library: the same answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.opencl.sessions import Session, run_native, run_virtual

#: Frames through two filters that work on images, as digests.
FFMPEG = [
    *("ffmpeg", "-hide_banner", "-v", "error", "-init_hw_device", "opencl=ocl:0.0", "-filter_hw_device", "ocl"),
    *("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=5:duration=1", "-vf"),
    "format=yuv420p,hwupload,avgblur_opencl=3,unsharp_opencl=lx=5:ly=5,hwdownload,format=yuv420p",
    *("-f", "framemd5", "-"),
]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg(lease: Session, device: str, driver: Path, tmp_path: Path) -> None:
    native = run_native(FFMPEG, device, tmp_path)
    if native.returncode != 0:
        pytest.skip(f"this machine's ffmpeg does not filter on {device}: {native.stderr[-300:]}")
    virtual = run_virtual(FFMPEG, lease, driver, tmp_path)
    assert (virtual.returncode, virtual.stdout) == (0, native.stdout), virtual.stderr
