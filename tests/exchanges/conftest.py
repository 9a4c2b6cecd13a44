"""The harness of these tests also serves bench/oracle.py and bench/exchanges.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
