"""Libraries that benchmarks compare with: in a Python of their own, pinned and hashed in ``bench/peers.txt``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _report import REPO

_UV = REPO / ".cache" / "uv" / "bin" / "uv"
_FOLDER = REPO / ".cache" / "peers"


def python() -> Path:
    """Return the Python that has them; it is made at the first call, and brought up to date by others."""
    found = _FOLDER / "bin" / "python"
    if not found.exists():
        subprocess.run([_UV, "venv", "--quiet", "--python", sys.executable, _FOLDER], check=True)
    locked = REPO / "bench" / "peers.txt"
    subprocess.run([_UV, "pip", "sync", "--quiet", "--python", found, "--require-hashes", locked], check=True)
    return found


def importable() -> None:
    """Let this process import them, too; of what both have it gets its own."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(python().parents[1] / "lib" / version / "site-packages"))
