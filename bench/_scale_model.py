"""What a rate of events and a number of apps need: partitions, copies, cores, memory, storage, commits, money. Pure.

Everything follows from `Costs`, which ``scale_sim`` measures, `Sizing`, which says what is kept and how full a copy may
be, and `Prices`. Copies that share one catalog are a *lake*: where one does not hold the rate, apps are split among
several, each with topics (``TAILRACE_KAFKA__PREFIX``) and a catalog of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

DAY_S = 86_400
MONTH_S = 30 * DAY_S
GB = 1e9
LAND_WAIT_S = 1.0
LAND_ROWS = 50_000
TICKS_PER_S = 2
BUCKET_S = 10
FILES_PER_COMMIT = 3
"""raw_calls, rollups, ticks."""
MERGED_PER_S = 34
"""Files: 5,000 in 146 s (``make bench-merge``, 2026-11-26)."""
MOST_PARTITIONS = 1_024
OTHER_CORES = 4
"""Of a lake: two for PostgreSQL, one for drift, one for notify, schedule and its jobs. A guess."""
OTHER_MB = 6_144
"""The same; drift has a model in memory."""
_MOST_EVENTS = 1e9


@dataclass(frozen=True)
class Costs:
    """Unit costs; seconds of one core unless the name says wall. An event is a call of ``event_bytes`` of JSON."""

    event_bytes: float
    kafka_bytes: float
    """Of an event on a broker's disk, one replica, compressed with lz4 as the emitter does."""
    lake_bytes: float
    """Of an event in Parquet."""
    row_bytes: float
    """Of a rollup row in Parquet."""
    land_prepare_s: float
    """Poll and decode an event."""
    land_commit_s: float
    """Write an event inside the transaction."""
    land_commit_wall_s: float
    """The same, in wall time: the transaction holds the ledger so long."""
    commit_wall_s: float
    """A transaction with next to no events."""
    land_message_s: float
    """A rollup message, into the lake; its rows apart."""
    land_row_s: float
    land_row_wall_s: float
    """The part of a row inside the transaction, in wall time."""
    meter_event_s: float
    meter_row_s: float
    """A row of a rollup; with its share of the message."""
    detect_message_s: float
    detect_row_s: float
    detect_bucket_s: float
    """Judge ten seconds of an app."""
    broker_event_s: float
    """Take an event in and hand it out twice, one replica."""
    land_mb: float
    meter_mb: float
    detect_mb: float
    """Without an app."""
    detect_app_mb: float


@dataclass(frozen=True)
class Sizing:
    """What is kept, and how much room is left."""

    utilisation: float = 0.7
    """Of a copy, and of the time in which the ledger may be held."""
    replication: int = 3
    kafka_days: float = 7
    lake_days: float = 30
    old_file_days: float = 3
    """Merged files stay so long beside the new ones."""
    meter_wait_s: float = 0.25
    """The setting ``meter.batch_wait_s``."""
    meter_rows: int = 20_000
    """The setting ``meter.batch_rows``."""
    by_app: bool = False
    """Whether producers key events by the app, so that each is on one partition; the emitter keys them by the trace."""


@dataclass(frozen=True)
class Prices:
    """USD."""

    core_month: float = 30.0
    """A core with 4 GiB, on demand."""
    object_gb_month: float = 0.023
    disk_gb_month: float = 0.08
    object_write_million: float = 5.0


@dataclass(frozen=True)
class Load:
    """What comes in. Apps are equally busy."""

    events_per_s: float
    apps: int
    values: tuple[int, ...] = (1, 8, 1, 8, 3, 1, 1, 2_000, 24)
    """Values of each family of series of an app (`pipelines.meter.plan`): itself, feature, team, tenant, model, prompt
    version, release, user (meter tracks 2,000 of a partition), feature and model."""


@dataclass(frozen=True)
class Rollups:
    """What meter makes a second."""

    messages: float
    rows: float


@dataclass(frozen=True)
class Lake:
    """One lake and the stages before it."""

    load: Load
    partitions: int
    land_copies: int
    meter_copies: int
    detect_copies: int
    land_cores: float
    meter_cores: float
    detect_cores: float
    rollups: Rollups
    messages_per_s: float
    """Rollups and ticks."""
    commits_per_s: float
    commit_share: float
    """Share of the time in which a transaction over the ledger is open; above 1 landing falls behind."""


@dataclass(frozen=True)
class Wall:
    """A limit of one lake."""

    name: str
    events_per_s: float
    known: str
    """How: calculated from measured unit costs, or a guess."""
    moved_by: str


@dataclass(frozen=True)
class Plan:
    """What a load needs in all."""

    load: Load
    lakes: int
    lake: Lake
    """One of them."""
    cores: float
    memory_gb: float
    kafka_gb: float
    lake_gb: float
    usd_month: float
    wall: Wall
    """The first one that one lake with all the apps meets as the rate grows."""


def distinct(values: float, events: float) -> float:
    """Return how many of ``values`` that are equally frequent appear among ``events``, on average."""
    return values * -math.expm1(events * math.log1p(-1 / values)) if values > 1 else min(1.0, events)


def rollups_per_s(load: Load, partitions: int, period_s: float, *, by_app: bool = False) -> Rollups:
    """Return the rollups a second: of every partition and batch a message an app, and one of the span itself.

    A row is a series and second of event time; a batch is taken for one that is a second long or shorter.
    """
    events = load.events_per_s * period_s / partitions
    apps = max(1.0, load.apps / partitions) if by_app else load.apps
    seen = distinct(apps, events)
    seconds = max(1.0, period_s)
    each = events / seen / seconds
    rows = seen * seconds * sum(distinct(values, each) for values in load.values)
    return Rollups(partitions / period_s * (min(1.0, events) + seen), partitions / period_s * rows)


def partitions_for(copies: int) -> int:
    """Return the partitions of llm.events: room for twice the copies, in steps of four, at least twelve."""
    return max(12, 4 * math.ceil(2 * copies / 4))


def lake(load: Load, costs: Costs, sizing: Sizing) -> Lake:
    """Size the stages of one lake; more partitions make more messages, so until both agree."""
    room, copies = sizing.utilisation, 1
    for _ in range(20):
        partitions = partitions_for(copies)
        rollups, meter_cores, meter_copies = _metered(load, costs, sizing, partitions)
        messages = rollups.messages + TICKS_PER_S * meter_copies * partitions
        detect_cores = messages * costs.detect_message_s + rollups.rows * costs.detect_row_s
        detect_cores += load.apps / BUCKET_S * costs.detect_bucket_s
        detect_copies = max(1, math.ceil(detect_cores / room))
        land_copies, land_cores, commits, share = _landed(load, costs, room, Rollups(messages, rollups.rows))
        most = max(meter_copies, detect_copies, land_copies)
        if partitions_for(most) <= partitions:
            break
        copies = most
    return Lake(
        load=load,
        partitions=partitions,
        land_copies=land_copies,
        meter_copies=meter_copies,
        detect_copies=detect_copies,
        land_cores=land_cores,
        meter_cores=meter_cores,
        detect_cores=detect_cores,
        rollups=rollups,
        messages_per_s=messages,
        commits_per_s=commits,
        commit_share=share,
    )


def _metered(load: Load, costs: Costs, sizing: Sizing, partitions: int) -> tuple[Rollups, float, int]:
    """Return rollups a second, cores and copies of meter.

    A batch gathers for ``meter_wait_s`` after the last one ended: the busier a copy is, the longer is the time of a
    batch, and the fewer are the messages; but none has more than ``meter_rows``.
    """
    base = load.events_per_s * costs.meter_event_s
    copies, cores, made = max(1, math.ceil(base / sizing.utilisation)), base, Rollups(0.0, 0.0)
    for _ in range(20):
        busy = min(sizing.utilisation, cores / copies)
        period_s = min(sizing.meter_wait_s / (1 - busy), sizing.meter_rows * copies / load.events_per_s)
        made = rollups_per_s(load, partitions, period_s, by_app=sizing.by_app)
        cores = base + made.rows * costs.meter_row_s
        copies = max(copies, math.ceil(cores / sizing.utilisation))
    return made, cores, copies


def _landed(load: Load, costs: Costs, room: float, made: Rollups) -> tuple[int, float, float, float]:
    """Return copies, cores, commits a second and the share of time that the ledger is held.

    The next batch is due LAND_WAIT_S after the last one ended. With several copies a transaction runs again where
    another one committed meanwhile: counted as often as the ledger is held by another copy.
    """
    rate, copies, cores, commits, share = load.events_per_s, 1, 0.0, 0.0, 0.0
    for _ in range(20):
        busy = min(room, cores / copies)
        commits = max(copies * (1 - busy) / LAND_WAIT_S, (rate + made.messages) / LAND_ROWS)
        share = rate * costs.land_commit_wall_s + made.rows * costs.land_row_wall_s + commits * costs.commit_wall_s
        again = min(1.0, share) * (copies - 1) / copies
        cores = rate * (costs.land_prepare_s + costs.land_commit_s * (1 + again))
        cores += made.messages * costs.land_message_s + made.rows * costs.land_row_s
        copies = max(copies, math.ceil(cores / room))
    return copies, cores, commits, share


def walls(apps: int, costs: Costs, sizing: Sizing) -> list[Wall]:
    """Return the limits of one lake that holds ``apps``, the lowest first."""

    def of(events_per_s: float) -> Lake:
        return lake(Load(events_per_s, apps), costs, sizing)

    def one_app(events_per_s: float) -> float:
        """Return the cores that detect needs for one app, whose messages are on one partition."""
        found = of(events_per_s)
        messages = found.rollups.messages / (apps + 1) + TICKS_PER_S * found.meter_copies
        return messages * costs.detect_message_s + found.rollups.rows / apps * costs.detect_row_s

    limits = [
        Wall(
            "transactions over the ledger",
            _limit(lambda rate: of(rate).commit_share),
            "calculated",
            "split apps among lakes; write the files before the transaction begins (not built)",
        ),
        Wall(
            "one app's rollups in one copy of detect",
            _limit(one_app),
            "calculated",
            "fewer partitions or a longer `meter.batch_wait_s`; rollups keyed by more than the app (not built)",
        ),
        Wall(
            "files that maintain merges",
            _limit(lambda rate: of(rate).commits_per_s * FILES_PER_COMMIT / MERGED_PER_S),
            "guess: the speed of `bench-merge`, all day",
            "a longer `land.batch_wait_s`; files of 8 MiB and more are not merged",
        ),
        Wall(
            f"{MOST_PARTITIONS:,} partitions",
            _limit(lambda rate: of(rate).partitions / MOST_PARTITIONS),
            "guess: the most that the setting allows, never run",
            "split apps among lakes",
        ),
    ]
    return sorted(limits, key=lambda wall: wall.events_per_s)


def _limit(share: Callable[[float], float]) -> float:
    """Return the events a second at which ``share`` reaches 1, to a thousandth; 0 where it is there already."""
    low, high = 1.0, _MOST_EVENTS
    if share(low) >= 1:
        return 0.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share(middle) < 1 else (low, middle)
    return low


def split(load: Load, lakes: int) -> Load:
    """Return the part of one of ``lakes``. A single app can be in several: then each judges a part of its traffic."""
    return Load(load.events_per_s / lakes, max(1, math.ceil(load.apps / lakes)))


def lakes_for(load: Load, costs: Costs, sizing: Sizing) -> int:
    """Return the least number of lakes in which the ledger has room, and a topic has partitions enough."""

    def holds(lakes: int) -> bool:
        one = lake(split(load, lakes), costs, sizing)
        return one.commit_share <= sizing.utilisation and one.partitions <= MOST_PARTITIONS

    most = 1
    while not holds(most) and most < 1 << 20:
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if holds(middle) else (middle, most)
    return most


def plan(load: Load, costs: Costs, sizing: Sizing, prices: Prices) -> Plan:
    """Return the plan for ``load``."""
    lakes = lakes_for(load, costs, sizing)
    one = lake(split(load, lakes), costs, sizing)
    brokers = load.events_per_s * costs.broker_event_s * sizing.replication
    staged = one.land_cores + one.meter_cores + one.detect_cores
    cores = math.ceil((lakes * staged + brokers) / sizing.utilisation) + OTHER_CORES * lakes
    stages_mb = one.land_copies * costs.land_mb + one.meter_copies * costs.meter_mb
    stages_mb += one.detect_copies * costs.detect_mb + one.load.apps * costs.detect_app_mb + OTHER_MB
    kafka_gb = load.events_per_s * costs.kafka_bytes * DAY_S * sizing.kafka_days * sizing.replication / GB
    daily = load.events_per_s * costs.lake_bytes + lakes * one.rollups.rows * costs.row_bytes
    lake_gb = daily * DAY_S * (sizing.lake_days + sizing.old_file_days) / GB
    writes = lakes * one.commits_per_s * FILES_PER_COMMIT * MONTH_S / 1e6
    usd = cores * prices.core_month + lake_gb * prices.object_gb_month + kafka_gb * prices.disk_gb_month
    usd += writes * prices.object_write_million
    return Plan(
        load=load,
        lakes=lakes,
        lake=one,
        cores=cores,
        memory_gb=lakes * stages_mb / 1024,
        kafka_gb=kafka_gb,
        lake_gb=lake_gb,
        usd_month=usd,
        wall=walls(load.apps, costs, sizing)[0],
    )
