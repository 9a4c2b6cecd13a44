"""What the windows remember of the log they were made from."""

import numpy as np

from pipelines.detect.items import COLUMNS, Batch
from pipelines.detect.windows import Windows

NOW = 1_790_000_000_000_000


def batch(next_offset: int, epoch: int, source: int = 0) -> Batch:
    sums = np.ones((1, len(COLUMNS)), np.int64)
    starts = np.array([NOW - NOW % 10_000_000])
    return Batch("a", source, next_offset, epoch, NOW, ['{"app":"a"}'], starts, sums, [])


def test_positions_only_grow_within_an_epoch_and_begin_again_with_the_next():
    windows = Windows("a")
    for one in (batch(500, 0), batch(400, 0), batch(900, 0, source=1)):
        windows.add(one)
    assert (windows.epoch, windows.positions) == (0, {0: 500, 1: 900})
    windows.add(batch(7, 1))
    assert (windows.epoch, windows.positions) == (1, {0: 7})
    windows.add(batch(600, 0))  # the old log's last rollups come behind
    assert (windows.epoch, windows.positions) == (1, {0: 7})
