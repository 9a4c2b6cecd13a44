#!/bin/sh
# Says what is missing before a download of gigabytes begins.
"$1" - <<'PYTHON' || exit 1
import sys

if not (3, 11) <= sys.version_info[:2] < (3, 13):
    sys.exit(f"Tailrace needs Python 3.11 or 3.12; {sys.executable} is {sys.version.split()[0]}. "
             "Name another: make setup PYTHON=/path/to/python3.11")
try:
    import ensurepip, venv  # noqa: F401
except ImportError:
    sys.exit(f"{sys.executable} cannot make virtual environments; on Debian: apt-get install python3-venv")
PYTHON
