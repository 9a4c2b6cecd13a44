"""What keeps a lake small and quick while it lands: merge, expire, clean up, forget by age. In short slices."""

from warehouse.upkeep.duplicates import Look, find_duplicates
from warehouse.upkeep.expire import Cleaned, OrphansRefusedError, clean_old_files, expire_snapshots, remove_orphans
from warehouse.upkeep.merge import Merged, merge
from warehouse.upkeep.pace import Pace
from warehouse.upkeep.plan import OldDays, old_days
from warehouse.upkeep.retention import RETAINED, drop_old_days, invalid_retention

__all__ = [
    "RETAINED",
    "Cleaned",
    "Look",
    "Merged",
    "OldDays",
    "OrphansRefusedError",
    "Pace",
    "clean_old_files",
    "drop_old_days",
    "expire_snapshots",
    "find_duplicates",
    "invalid_retention",
    "merge",
    "old_days",
    "remove_orphans",
]
