"""The proxy of the fault tests is for the scheduler's, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
