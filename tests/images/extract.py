"""Reads layers back with erofs-utils."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_fsck = pytest.mark.skipif(shutil.which("fsck.erofs") is None, reason="erofs-utils is not installed")


def extract(image: Path, folder: Path) -> Path:
    done = subprocess.run(
        ["fsck.erofs", "--preserve-perms", f"--extract={folder}", image], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder
