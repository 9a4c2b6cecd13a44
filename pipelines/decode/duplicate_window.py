"""Which ids were seen among the 65,536 positions before: duplicates as a function of the log alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.decode.check import admit
from pipelines.decode.reasons import Reject
from schemas.errors import RetryableError
from schemas.records import Records

SPAN = 65_536


class DuplicateWindowLostError(RetryableError):
    """A partition went back further than the window; the caller starts it again and feeds the records before it."""

    def __init__(self, partition: int, offset: int) -> None:
        self.partition = partition
        self.offset = offset
        super().__init__(
            f"cannot tell duplicates of partition {partition} at offset {offset}: it lies more than {SPAN} positions "
            "back; start the partition and feed the span again"
        )


@dataclass(slots=True)
class _Window:
    """Ids of one partition by block of 65,536 offsets: the current block and the two before it."""

    next: int = 0
    blocks: dict[int, dict[int, int]] = field(default_factory=dict)
    """block -> id -> its last offset. Two blocks answer, the third is there to be rewound into."""
    overwritten: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset, id, the offset it had before): what a rewind needs to put back; duplicates are few."""


class DuplicateWindow:
    """The latest ids of each partition. About 100 bytes an id, at most three blocks a partition."""

    def __init__(self) -> None:
        self._windows: dict[int, _Window] = {}

    def start(self, partition: int, next_offset: int) -> int:
        """Forget ``partition``; the next offset to decode is ``next_offset``.

        Returns:
            The first offset whose records are to be handed to ``feed`` (a higher low watermark wins).
        """
        first = max(0, next_offset - SPAN)
        self._windows[partition] = _Window(next=first)
        return first

    def feed(self, records: Records) -> None:
        """Learn the ids of records that were decoded in an earlier life, by the verdict that decoding uses."""
        for partition, offset, value in zip(records.partitions, records.offsets, records.values, strict=True):
            found = admit(value)
            if not isinstance(found, Reject):
                self.mark(partition, offset, found[0].id.int)

    def mark(self, partition: int, offset: int, event_id: int) -> bool:
        """Return whether ``event_id`` is among the ``SPAN`` positions before ``offset``, and add it at ``offset``.

        Raises:
            DuplicateWindowLostError: ``offset`` is before the window.
        """
        window = self._windows.get(partition)
        if window is None:
            window = self._windows[partition] = _Window()
        if offset < window.next:
            self._rewind(partition, window, offset)
        window.next = offset + 1
        number = offset // SPAN
        block = window.blocks.get(number)
        if block is None:
            block = self._open(window, number)
        before = block.get(event_id)
        if before is None:
            older = window.blocks.get(number - 1)
            before = older.get(event_id) if older else None
        else:
            window.overwritten.append((offset, event_id, before))
        block[event_id] = offset
        return before is not None and offset - before <= SPAN

    @staticmethod
    def _open(window: _Window, number: int) -> dict[int, int]:
        block: dict[int, int] = {}
        window.blocks[number] = block
        for old in [n for n in window.blocks if n < number - 2]:
            del window.blocks[old]
        floor = (number - 2) * SPAN
        window.overwritten = [undo for undo in window.overwritten if undo[0] >= floor]
        return block

    @staticmethod
    def _rewind(partition: int, window: _Window, offset: int) -> None:
        """Forget everything from ``offset`` on: a batch is decoded again after a rollback."""
        if window.next - offset > SPAN:
            raise DuplicateWindowLostError(partition, offset)
        while window.overwritten and window.overwritten[-1][0] >= offset:
            at, event_id, before = window.overwritten.pop()
            window.blocks[at // SPAN][event_id] = before
        for number in list(window.blocks):
            if number > offset // SPAN:
                del window.blocks[number]
        if current := window.blocks.get(offset // SPAN):
            for event_id in [i for i, at in current.items() if at >= offset]:
                del current[event_id]
