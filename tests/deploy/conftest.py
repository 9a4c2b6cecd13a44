"""The files that deploy Tailrace, read and run without Docker."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # compose_harness
