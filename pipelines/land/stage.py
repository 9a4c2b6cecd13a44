"""The loop of land: poll, decode, append; good rows, bad rows and the ledger commit together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import pyarrow as pa
import structlog

from pipelines.backoff import exponential_s
from pipelines.busy import busy
from pipelines.clock import now_us
from pipelines.decode import DuplicateWindow, decode
from pipelines.kafka import (
    Admin,
    LogTruncatedError,
    Membership,
    OffsetLostError,
    Producer,
    SettingsCheck,
    Share,
    ShareMovedError,
    Source,
    StallDetector,
    TopicMissingError,
)
from pipelines.kafka.identity import find_truncations, require_not_beyond_end, require_same_topics
from pipelines.land import no_record
from pipelines.land.alerts import breaker_alert, gap_alert
from pipelines.land.breaker import Breaker
from pipelines.land.config import LandConfig
from pipelines.land.errors import ZombieError
from pipelines.land.prices import LandedPrices
from pipelines.land.rows import BadMessageError, dead_rows, land_rows
from pipelines.land.split_batch import by_days, split_batch
from pipelines.land.usage import Usage
from pipelines.stage_progress import StageProgress
from schemas import faults
from schemas.alerts import Alert
from schemas.errors import RetryableError
from schemas.records import Move, Records
from schemas.stage_facts import HeartbeatCallback, StageFacts, StageState
from schemas.tables import NO_RECORD_RANGES
from schemas.topics import ALERTS, EVENTS
from schemas.topics import LANDED as TOPICS
from schemas.topics import TOPICS as ALL_TOPICS
from warehouse.errors import (
    LakeBusyError,
    LakeMemoryError,
    LakeUnavailableError,
    LedgerMovedError,
)
from warehouse.lake import Lake
from warehouse.storage.landed_positions import landed_times

log = structlog.get_logger(__name__)
_BACK_OFF_S = 5.0
_COMMIT_EVERY_S = 5.0
_DESCRIBE_S = 10.0
_REDISTRIBUTED = StageFacts(state=StageState.WAITING, error="the partitions are being assigned to the copies")


def run(
    config: LandConfig,
    *,
    stop: threading.Event,
    now: Callable[[], int] = now_us,
    heartbeat: HeartbeatCallback = lambda facts: None,
    usage: Usage | None = None,
) -> None:
    """Land until ``stop``. Temporary errors (brokers unavailable, disk full, catalog locked) are retried.

    Args:
        config: what to land, and where.
        stop: ends it.
        now: wall clock, µs UTC.
        heartbeat: called with facts while it works.
        usage: totals of what has landed before.

    Raises:
        FatalError: a person has to act: another land, a topic that was created again, a newer lake.
    """
    members = _members(config)
    try:
        _run(config, members, stop, now, heartbeat, usage or Usage())
    finally:
        if members:
            members.close()


def _members(config: LandConfig) -> Membership | None:
    """Join the other copies; a lake on SQLite has one land process, and a lock that keeps others out."""
    if not config.copy_name or config.lake.on_sqlite or config.group is None:
        return None
    return Membership(config.kafka, TOPICS, group=config.group, copy_name=config.copy_name)


def _run(
    config: LandConfig,
    members: Membership | None,
    stop: threading.Event,
    now: Callable[[], int],
    heartbeat: HeartbeatCallback,
    usage: Usage,
) -> None:
    tries = 0
    share: Share | None = None
    while not stop.is_set():
        try:
            if members and (share := members.wait(stop, lambda: heartbeat(_REDISTRIBUTED))) is None:
                return
            with (
                _open(config, now, heartbeat) as lake,
                Land(config, lake, stop, now=now, heartbeat=heartbeat, members=members, share=share) as land,
            ):
                land.usage = usage
                land.start()
                while not stop.is_set():
                    land.step()
                    tries = 0
        except ShareMovedError as error:
            log.info("land_share_moved", cause=str(error))
        except LedgerMovedError as error:
            if not members:
                raise ZombieError(str(error)) from error
            # the copy that had these partitions before, or has them by now, landed them: the ledger has the position
            log.warning("land_overtaken", cause=str(error))
        except RetryableError as error:
            tries += 1
            log.warning("land_interrupted", cause=str(error), tries=tries)
            _wait(stop, heartbeat, tries, str(error))


def _open(config: LandConfig, now: Callable[[], int], heartbeat: HeartbeatCallback) -> Lake:
    with busy(heartbeat, StageState.OPENING):  # columns of a newer version are added to a big lake
        return Lake.open(config.lake, now=now)


def _wait(stop: threading.Event, heartbeat: HeartbeatCallback, tries: int, cause: str) -> None:
    pause = exponential_s(tries, first_s=0.4, longest_s=_BACK_OFF_S)
    end = time.monotonic() + pause * random.uniform(0.5, 1.0)
    while not stop.is_set() and (left := end - time.monotonic()) > 0:
        heartbeat(StageFacts(state=StageState.WAITING, error=cause))
        stop.wait(min(0.5, left))


class Land:
    """One session of the stage: from the positions of the ledger until an error or the end."""

    def __init__(
        self,
        config: LandConfig,
        lake: Lake,
        stop: threading.Event,
        *,
        now: Callable[[], int],
        heartbeat: HeartbeatCallback,
        members: Membership | None = None,
        share: Share | None = None,
    ) -> None:
        self.config = config
        self._members, self._share = members, share
        self.lake = lake
        self._stop = stop
        self._now = now
        self._heartbeat = heartbeat
        self.usage = Usage()
        """Totals of what has landed."""
        self._seen = DuplicateWindow()
        self._breaker = Breaker(limit=config.dead_ratio_limit, window=config.dead_window)
        self._checked = self._committed = 0.0
        self._unknown_fields = 0
        """Events since the start in which a name was not recognised as a field."""
        self._held: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._marks: dict[tuple[str, int], tuple[int, int]] = {}
        """Low and high watermarks, as of the last check."""
        self._stall_detector = StallDetector(config.stalled_s)
        self._progress = StageProgress(now)
        self._committed_at = 0
        self._landed: dict[tuple[str, int], int] = {}
        """Partition -> next offset, as the ledger has it."""
        self._source = Source(
            config.kafka,
            TOPICS,
            group=config.group,
            batch_rows=config.batch_rows,
            batch_bytes=config.batch_bytes,
            batch_wait_s=config.batch_wait_s,
        )
        # a request for metadata waits behind the fetches of its connection, 80 ms instead of 1 ms
        self._probe = Source(config.kafka, TOPICS)
        self._settings = SettingsCheck(Admin(config.kafka), ALL_TOPICS)
        self._prices: LandedPrices | None = None
        self._producer: Producer | None = None
        lake.session.on_wait = self._alive

    def start(self) -> None:
        """Read the ledger, check that the topics are the ones that were landed, and seek to its positions."""
        config = self.config
        self._prices = LandedPrices(
            config.kafka, config.price_overrides, self.lake, self._now, prefer=config.cost_preference
        )
        positions = self._owned(self._check_topics())
        self._check_logs(positions)
        for (topic, partition), offset in positions.items():
            if topic == EVENTS:
                self._remember(partition, offset)
        self._source.assign(positions)
        self._landed = dict(positions)
        log.info("land_assigned", positions={f"{t}[{p}]": o for (t, p), o in positions.items()})
        self._alive()  # before the first record: its position is then known if it ends the process

    def step(self) -> None:
        """Move one batch: good rows, bad rows and the ledger commit together, or not at all.

        Raises:
            ShareMovedError: other copies may have these partitions by now.
        """
        if self._members and self._share:
            self._members.require(self._share)
        if time.monotonic() - self._checked >= self.config.check_every_s:
            self._recheck()
        try:
            batch = self._source.poll()
        except OffsetLostError as error:
            self._skip(error)
            return
        if batch:
            self._land(batch)
        self._alive()

    def close(self) -> None:
        """Close the connections to the brokers."""
        self._source.close()
        self._probe.close()
        if self._prices:
            self._prices.close()
        if self._producer:
            self._producer.close()

    def __enter__(self) -> Land:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _land(self, batch: Sequence[Records]) -> None:
        began = time.monotonic()
        faults.point("land.after_poll")
        tables: dict[str, list[pa.Table]] = {}
        moves: list[Move] = []
        for records in batch:
            if records.topic in self._held:
                continue
            found = self._rows(records)
            if found is None:
                continue
            for name, rows in found.items():
                tables.setdefault(name, []).append(rows)
            moves += [Move(records.topic, p, start, end) for p, (start, end) in records.positions.items()]
        if not moves:
            return
        self._alive()  # a big batch takes seconds on a busy machine
        self._check_ids({records.topic for records in batch})
        whole = {name: pa.concat_tables(parts) for name, parts in tables.items()}
        self._append(whole, moves, {records.topic: records for records in batch})
        for records in batch:
            if records.topic not in self._held:
                self._progress.work(records)
        self._commit(moves)
        rows = {name: table.num_rows for name, table in whole.items()}
        log.info("batch_landed", rows=rows, moved=sum(m.end - m.start for m in moves), took_s=_since(began))

    def _rows(self, records: Records) -> Mapping[str, pa.Table] | None:
        """Return the tables of one topic's batch; None where it may not land."""
        epoch, landed_at = self.lake.epoch(records.topic), self._now()
        if records.topic != EVENTS:
            return land_rows(records, epoch=epoch, landed_at=landed_at)
        assert self._prices is not None
        decoded = decode(
            records, self._prices.books(), self._seen, epoch=epoch, landed_at=landed_at, rules=self.config.rules
        )
        self._unknown_fields += decoded.unknown_fields
        dead = decoded.dead.num_rows
        if self._breaker.judge(len(records), dead):
            self._hold(decoded.dead)
            return None
        return {**decoded.tables(), **no_record.rows(records, epoch=epoch, landed_at=landed_at)}

    def _append(self, tables: dict[str, pa.Table], moves: Sequence[Move], origin: Mapping[str, Records]) -> None:
        """Land the batch.

        Split it where it has too many days or is too big for memory; a row that is too big lands as dead.
        """
        if cut := by_days(tables, moves):
            for part, its_moves in cut:
                self._append(part, its_moves, origin)
                self._alive()
            return
        tries = 0
        while True:
            try:
                with busy(self._heartbeat, StageState.COMMITTING):  # an import writes a file a day, in one transaction
                    self.lake.append(tables, moves)
                self.usage.add(tables)
                self._committed_at = self._now()
                self._landed |= {(move.topic, move.partition): move.end for move in moves}
                self._progress.progress += 1
                return
            except LakeMemoryError as error:
                log.warning("batch_halved", rows=error.rows, cause=str(error))
                if cut := split_batch(tables, moves):
                    for part, its_moves in cut:
                        self._append(part, its_moves, origin)
                    return
                if set(tables) <= {"dead", "dead_bytes", NO_RECORD_RANGES.name}:
                    raise
                tables = self._reject(moves[0], origin)
            except (LakeBusyError, LakeUnavailableError) as error:
                if self._stop.is_set():
                    raise
                tries += 1
                log.warning("append_delayed", cause=str(error), tries=tries)
                _wait(self._stop, self._heartbeat, tries, str(error))

    def _reject(self, move: Move, origin: Mapping[str, Records]) -> dict[str, pa.Table]:
        """Return the dead row of the one record at ``move``."""
        record = next(r for r in origin[move.topic].rows() if (r.partition, r.offset) == (move.partition, move.start))
        error = BadMessageError(record, "too_large", "does not fit the memory limit of land")
        return dead_rows([error], epoch=self.lake.epoch(move.topic), landed_at=self._now())

    def _hold(self, dead: pa.Table) -> None:
        """Stop reading llm.events; the other topics continue."""
        reasons = dead.column("reason").value_counts().to_pylist()
        worst = sorted(reasons, key=lambda r: -r["counts"])[:3]
        ratio = self._breaker.ratio
        why = f"{ratio:.0%} of the latest events are bad: {', '.join(str(r['values']) for r in worst)}"
        self._held[EVENTS] = f"{why}; raise the limit to 1 to land them as dead"
        self._source.pause([at for at in self._source.positions() if at[0] == EVENTS])
        log.error("breaker_opened", topic=EVENTS, ratio=round(ratio, 3), reasons=worst, limit=self._breaker.limit)
        self._raise_alert(breaker_alert(EVENTS, ratio, self._breaker.limit, at=self._now()))

    def _skip(self, error: OffsetLostError) -> None:
        """Continue at the low watermark after retention deleted unread records; record what is lost."""
        positions = self._owned(self._check_topics())
        self._check_logs(positions)  # a truncated log raises the same error
        for (topic, partition), offset in positions.items():
            low, _ = self._marks[topic, partition]
            if topic == error.topic and offset < low:
                gap = Move(topic, partition, offset, low)
                self.lake.add_gap(gap, "retention")
                log.error("offsets_lost", topic=gap.topic, partition=partition, start=gap.start, end=gap.end)
                self._raise_alert(gap_alert(gap, at=self._now()))
        self._reassign()

    def _reassign(self) -> None:
        """Seek to the positions of the ledger; held topics stay paused."""
        positions = self._owned({at: offset for at, offset in self.lake.ledger().items() if at[0] in TOPICS})
        self._source.assign(positions)
        self._landed = dict(positions)
        if self._held:
            self._source.pause([at for at in positions if at[0] in self._held])

    def _recheck(self) -> None:
        known = set(self._source.positions())
        positions = self._owned(self._check_topics())
        ends = {at: high for at, (_, high) in self._marks.items()}
        require_not_beyond_end(positions, self._marks)
        reading = {at: offset for at, offset in self._source.positions().items() if at[0] not in self._held}
        self._stall_detector.look(reading, ends, self._checked)
        if new := set(positions) - known:
            log.info("partitions_added", partitions=sorted(f"{t}[{p}]" for t, p in new))
            for topic, partition in new:
                if topic == EVENTS:
                    self._remember(partition, positions[topic, partition])
            self._reassign()

    def _owned(self, positions: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """Return those of this copy's share."""
        share = self._share
        return {at: offset for at, offset in positions.items() if share is None or at in share.partitions}

    def _check_ids(self, topics: Collection[str]) -> None:
        """Refuse a batch of another topic: librdkafka reads on in a topic made again, where its log is long enough.

        Asked after the batch was read: what it holds was there before.

        Raises:
            TopicReplacedError: a topic has another id than the one that was landed.
        """
        deadline = time.monotonic() + _DESCRIBE_S
        while True:
            try:
                ids = self._probe.topic_ids(topics)
                break
            except RetryableError:  # such as a broker that restarts: reading the batch again would cost more
                if time.monotonic() > deadline or self._stop.wait(0.5):
                    raise
                self._alive()
        require_same_topics(self._ids, ids)

    def _check_topics(self) -> dict[tuple[str, int], int]:
        """Return the position of the ledger in every partition; new partitions get their row first.

        Raises:
            TopicReplacedError: a topic has another id than the one that was landed.
            TopicSettingsError: a topic loses records under its settings.
        """
        self._checked = time.monotonic()
        self._settings.require()
        known = self.lake.topic_ids()
        marks: dict[tuple[str, int], tuple[int, int]] = {}
        self._ids = self._probe.topic_ids(TOPICS)
        for topic, found in self._ids.items():
            require_same_topics(known, {topic: found})
            here = self._probe.partitions(topic)
            self.lake.ensure_partitions(topic, found, {p: low for p, (low, _) in here.items()})
            marks |= {(topic, p): mark for p, mark in here.items()}
        self._marks = marks
        return {at: offset for at, offset in self.lake.ledger().items() if at in marks}

    def _check_logs(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Refuse truncated logs, also those that have grown past the ledger again: their records would never land.

        Raises:
            LogTruncatedError: the records below the ledger are not those that were landed.
        """
        epochs = {topic: self.lake.epoch(topic) for topic in TOPICS}
        landed = landed_times(self.lake.connection, epochs)
        with busy(self._heartbeat, StageState.COMPARING):
            ends = find_truncations(
                self._probe, landed, positions, self._marks, heartbeat=lambda: self._alive(StageState.COMPARING)
            )
        if ends:
            raise LogTruncatedError({at: (positions[at], end) for at, end in ends.items()})

    def _remember(self, partition: int, offset: int) -> None:
        """Read the 65,536 positions before ``offset`` again: duplicates are a function of the log alone."""
        first = self._seen.start(partition, offset)
        low, _ = self._probe.partitions(EVENTS)[partition]
        first = max(first, low)
        if first >= offset:
            return
        source = Source(self.config.kafka, [EVENTS], batch_wait_s=0.2)
        try:
            source.assign({(EVENTS, partition): first})
            while source.positions()[EVENTS, partition] < offset and not self._stop.is_set():
                for records in source.poll():
                    self._seen.feed(_before(records, offset))
                    self._progress.progress += 1
                self._alive(StageState.REMEMBERING)
        finally:
            source.close()

    def _commit(self, moves: Sequence[Move]) -> None:
        if self.config.group and time.monotonic() - self._committed >= _COMMIT_EVERY_S:
            self._committed = time.monotonic()
            target = self._members or self._source
            target.commit({(m.topic, m.partition): m.end for m in moves})

    def _raise_alert(self, alert: Alert) -> None:
        if not self.config.alerts:
            return
        try:
            if self._producer is None:
                self._producer = Producer(self.config.kafka)
            self._producer.send(ALERTS, alert.to_json(), key=alert.fingerprint.encode())
            self._producer.flush(5.0)
        except (RetryableError, TopicMissingError) as error:
            log.error("alert_not_sent", rule=alert.rule, cause=str(error))

    def _alive(self, state: StageState | None = None) -> None:
        numbers = {
            "commits": self.lake.commits,
            "retries": self.lake.session.retries,
            "dead_ratio": round(self._breaker.ratio, 4),
            "unknown_fields": self._unknown_fields,
        }
        reached = self._progress.facts(self._landed, self._source.lag())
        self._heartbeat(
            msgspec.structs.replace(
                reached,
                state=state or (StageState.HELD if self._held else StageState.RUNNING),
                error="; ".join(f"{topic}: {why}" for topic, why in self._held.items()) or None,
                committed_at=self._committed_at or None,
                repaired=tuple(str(finding) for finding in self._settings.repaired.values()),
                numbers=numbers,
                details={"usage": self.usage.facts()},
            )
        )


def _before(records: Records, offset: int) -> Records:
    """Return the records below ``offset``; partitions of one batch are one here."""
    return records.where(range(sum(o < offset for o in records.offsets)), {})


def _since(began: float) -> float:
    return round(time.monotonic() - began, 4)
