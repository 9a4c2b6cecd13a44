"""Re-pricing on a real lake: the ledger adds up to the cent, whoever is killed and whoever else writes."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fault_harness.zygote import Code, run_command

from jobs import prices as job
from jobs.prices import reprice
from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBook, PriceBooks, default_book, price
from pipelines.pricing.reprice import READ, adjustments
from schemas.records import Move, Records
from schemas.tables import LATE_DUPLICATES, PRICES, RAW_CALLS
from warehouse import adjust, claims
from warehouse.adjust import Adjuster, Choice, RepricingLostError, RepricingRunsError
from warehouse.errors import LakeMissingError
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace, drop_old_days
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[2]
DAY = date(2026, 11, 18)
NOW = 1_795_000_000_000_000  # on that day
EVENTS = "llm.events"
RULE: dict[str, object] = {"model": "inhouse-7b", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
DEARER: dict[str, object] = {**RULE, "input_usd_per_mtok": "4"}
UNKNOWN, KNOWN = default_book(), default_book([RULE])
ALL = Choice(DAY - timedelta(days=40), DAY)


def now() -> int:
    return NOW


def call(offset: int, **said: Any) -> dict[str, Any]:
    at = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC) + timedelta(seconds=offset)
    return {
        "id": f"00000000-0000-4000-8000-{offset:012d}",
        "ts": at,
        "app": "bot",
        "model": "inhouse-7b",
        "input_tokens": 1000 + offset,
        "output_tokens": 10,
        "_epoch": 0,
        "_partition": 0,
        "_offset": offset,
        "_kafka_time": at,
        "_landed_at": at,
        "_dup": False,
        "day": at.date(),
        **said,
    }


Land = Callable[..., None]


@pytest.fixture
def config(tmp_path: Path) -> LakeConfig:
    return LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))


@pytest.fixture
def land(config: LakeConfig) -> Land:
    """Land calls by a book, as land does: their cost, and the book itself in ``prices``."""

    def landed(rows: Sequence[dict[str, Any]], book: PriceBook = UNKNOWN) -> None:
        priced = price(pa.Table.from_pylist(list(rows), schema=RAW_CALLS.schema), PriceBooks([book]))
        table = priced.select(RAW_CALLS.schema.names)  # what a cache read saved is for rollups alone
        said = {
            "version": book.version,
            "effective_from": datetime(1970, 1, 1, tzinfo=UTC),
            "book": book.to_json().decode(),
            "_landed_at": datetime(2026, 11, 1, tzinfo=UTC),
        }
        with Lake.open(config, now=now) as lake:
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
            start = lake.ledger()[EVENTS, 0]
            lake.append({"raw_calls": table}, [Move(EVENTS, 0, start, start + len(rows))])
            lake.insert({"prices": pa.Table.from_pylist([said], schema=PRICES.schema)})

    return landed


def known(config: LakeConfig, sql: str = "SELECT sum(cost_usd) AS usd, count(cost_usd) AS n FROM calls") -> Any:
    with ReadOnlyLake.open(config) as lake:
        rows = lake.query(sql).to_pylist()
    return rows[0] if len(rows) == 1 else rows


def reference(rows: Sequence[dict[str, Any]], rule: dict[str, object]) -> Decimal:
    million = Decimal(1_000_000)
    of_input, of_output = (Decimal(str(rule[f"{n}_usd_per_mtok"])) / million for n in ("input", "output"))
    return sum((r["input_tokens"] * of_input + r["output_tokens"] * of_output for r in rows), Decimal(0))


@pytest.mark.row(40)
def test_unpriced_calls_get_their_cost_and_the_past_still_shows_what_was_known(config: LakeConfig, land: Land) -> None:
    rows = [call(i) for i in range(500)]
    land(rows)
    assert known(config) == {"usd": None, "n": 0}
    dry = reprice(config, KNOWN, ALL, now=now, dry_run=True)
    assert (dry.priced, dry.delta_usd, known(config)["n"]) == (500, reference(rows, RULE), 0)
    report = reprice(config, KNOWN, ALL, now=now)
    assert (report.looked_at, report.priced, report.corrected, report.done) == (500, 500, 0, True)
    assert known(config) == {"usd": reference(rows, RULE), "n": 500} == {"usd": report.delta_usd, "n": 500}
    status = known(config, "SELECT DISTINCT cost_status, price_version, cost_landed_usd FROM calls")
    assert status == {"cost_status": "repriced", "price_version": KNOWN.version, "cost_landed_usd": None}
    then = known(config, "SELECT count(cost_usd) AS n FROM calls_as_known_at('2026-11-18 00:00:00+00')")
    assert then == {"n": 0}
    again = reprice(config, KNOWN, ALL, now=now)
    assert (again.priced, again.corrected, again.delta_usd) == (0, 0, 0)
    assert known(config, "SELECT count(*) AS n FROM cost_adjustments") == {"n": 500}


@pytest.mark.row(41)
def test_a_price_known_from_a_day_on_corrects_the_calls_of_that_day_and_no_others(
    config: LakeConfig, land: Land
) -> None:
    at = datetime(2026, 11, 17, 9, tzinfo=UTC)
    before = [call(i, ts=at, day=at.date(), _kafka_time=at) for i in range(20)]
    after = [call(i) for i in range(20, 50)]
    land([*before, *after], KNOWN)
    new = default_book([{**DEARER, "from": str(DAY)}, RULE])
    report = reprice(config, new, ALL, now=now)
    assert (report.looked_at, report.corrected) == (50, 30)
    assert known(config)["usd"] == reference(before, RULE) + reference(after, DEARER)
    # without a date nobody knows whether it held then: only who says so corrects by it
    undated = default_book([DEARER])
    assert reprice(config, undated, ALL, now=now).looked_at == 0
    assert reprice(config, undated, ALL, now=now, undated=True).corrected == 20
    assert known(config)["usd"] == reference([*before, *after], DEARER)
    back = reprice(config, KNOWN, ALL, now=now, undated=True)
    assert back.corrected == 50
    assert known(config)["usd"] == reference([*before, *after], RULE)


def test_only_what_was_chosen_is_touched(config: LakeConfig, land: Land) -> None:
    rows = [call(0), call(1, app="other"), call(2, model="inhouse-13b"), call(3, _dup=True)]
    rows += [call(4, day=DAY - timedelta(days=5)), call(5, response_model="inhouse_7b-2026"), call(6)]
    land(rows)
    with Lake.open(config, now=now, lander=False) as lake:  # found to be a duplicate later
        found = {"id": rows[6]["id"], "day": DAY, "_epoch": 0, "_partition": 0, "_offset": 6}
        lake.insert({"late_duplicates": pa.Table.from_pylist([found], schema=LATE_DUPLICATES.schema)})
    book = default_book([{**RULE, "model": "inhouse*"}])
    day = Choice(DAY, DAY, app="bot", model="inhouse-7*")
    assert reprice(config, book, day, now=now).priced == 1
    assert known(config, "SELECT _offset FROM cost_adjustments") == {"_offset": 0}
    # _ and % in a name are themselves
    assert reprice(config, book, Choice(DAY, DAY, model="inhouse_7b-%"), now=now).priced == 0
    assert reprice(config, book, Choice(DAY, DAY, model="INHOUSE_7B-*"), now=now).priced == 1
    assert reprice(config, book, ALL, now=now).priced == 3
    with ReadOnlyLake.open(config) as lake:
        assert lake.query("SELECT count(*) AS n FROM calls WHERE cost_usd IS NULL").to_pylist() == [{"n": 0}]


@pytest.mark.extended
def test_slices_and_a_stop_between_them_change_nothing_in_the_end(
    config: LakeConfig, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [call(i) for i in range(5000)]
    land(rows)
    monkeypatch.setattr(job, "_ROWS", 2048)
    looks = iter([False, False, True])
    first = reprice(config, KNOWN, ALL, now=now, stop=lambda: next(looks))
    assert (first.done, first.priced) == (False, 4096)
    seen: list[int] = []
    second = reprice(config, KNOWN, ALL, now=now, progress=lambda day, calls: seen.append(calls))
    assert (second.done, second.priced, second.looked_at) == (True, 904, 904)
    assert seen == [904]
    assert known(config) == {"usd": reference(rows, RULE), "n": 5000}


def test_one_writes_at_a_time_and_a_dead_one_is_waited_for_no_longer_than_its_lease(
    config: LakeConfig, land: Land
) -> None:
    land([call(i) for i in range(5)])
    with Lake.open(config, now=now, lander=False) as lake, adjust.writing(lake, owner="me", now=now) as adjuster:
        rows = adjustments(_calls(lake), KNOWN)
        with pytest.raises(RepricingRunsError, match="me re-prices"):
            reprice(config, KNOWN, ALL, now=now)
        with pytest.raises(LakeMissingError):
            reprice(LakeConfig(config.catalog + ".no", config.data_path), KNOWN, ALL, now=now)
        # silent for longer than its lease: another one takes over, and the first is refused
        later = NOW + 301_000_000
        assert reprice(config, KNOWN, ALL, now=lambda: later).priced == 5
        with pytest.raises(RepricingLostError):
            adjuster.write(rows)
    assert known(config, "SELECT count(*) AS n FROM cost_adjustments") == {"n": 5}
    assert reprice(config, KNOWN, ALL, now=now).priced == 0  # and the row is free again


def _calls(lake: Lake) -> pa.Table:
    chosen = pa.table(
        {
            **{n: pa.array([None], pa.string()) for n in ("provider", "response_model", "service_tier")},
            "model": ["inhouse-7b"],
            "price_version": [UNKNOWN.version],
            "also_priced": [False],
        }
    )
    (table,) = adjust.calls(lake, ALL, DAY, groups=chosen, columns=READ, rows=100)
    return table


@pytest.mark.extended
def test_what_is_known_last_is_told_whatever_the_clock_does(config: LakeConfig, land: Land) -> None:
    rows = [call(0)]
    land(rows)
    reprice(config, KNOWN, ALL, now=now)
    earlier = NOW - 3_600_000_000  # the clock was set back an hour
    report = reprice(config, default_book([DEARER]), ALL, now=lambda: earlier, undated=True)
    assert report.corrected == 1
    last = known(config, "SELECT price_version, cost_usd AS usd FROM calls")
    assert last == {"price_version": default_book([DEARER]).version, "usd": reference(rows, DEARER)}
    assert verify(config).ok
    assert reprice(config, KNOWN, ALL, now=lambda: earlier, undated=True).corrected == 1
    assert known(config)["usd"] == reference(rows, RULE)


@pytest.mark.extended
def test_a_claim_is_kept_alive_where_there_is_nothing_to_write(config: LakeConfig, land: Land) -> None:
    land([call(0)])
    at = NOW

    def clock() -> int:
        return at

    with Lake.open(config, now=clock, lander=False) as lake, adjust.writing(lake, now=clock) as adjuster:
        for _ in range(5):
            at += 200_000_000
            adjuster.renew()
            with pytest.raises(RepricingRunsError):
                reprice(config, KNOWN, ALL, now=clock)


@pytest.mark.extended
def test_what_was_adjusted_goes_with_the_day_it_is_of(config: LakeConfig, land: Land) -> None:
    land([call(0, day=DAY - timedelta(days=5)), call(1)])
    reprice(config, KNOWN, ALL, now=now)
    with Lake.open(config, now=now, lander=False) as lake:
        drop_old_days(Pace(lake, rest=0.0), "raw_calls", before=DAY, at=datetime(2026, 11, 18, tzinfo=UTC))
        left = lake.query("SELECT day FROM cost_adjustments")["day"].to_pylist()
    assert left == [DAY]
    assert verify(config).ok


@pytest.mark.extended
def test_what_is_written_while_its_day_is_dropped_goes_with_the_next_run(config: LakeConfig, land: Land) -> None:
    old = DAY - timedelta(days=5)
    land([call(0, day=old), call(1)])
    with Lake.open(config, now=now, lander=False) as lake:
        pace, at = Pace(lake, rest=0.0), datetime(2026, 11, 18, tzinfo=UTC)
        write = Adjuster.write

        def dropped_first(self: Adjuster, rows: pa.Table) -> None:
            if rows["day"][0].as_py() == old:
                assert drop_old_days(pace, "raw_calls", before=DAY, at=at) == 1
            write(self, rows)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Adjuster, "write", dropped_first)
            reprice(config, KNOWN, ALL, now=now)
        adjusted = lake.query("SELECT day FROM cost_adjustments ORDER BY 1")["day"].to_pylist()
        assert adjusted == [old, DAY]
        assert drop_old_days(pace, "raw_calls", before=DAY, at=at) == 0
        assert lake.query("SELECT day FROM cost_adjustments")["day"].to_pylist() == [DAY]
    assert verify(config).ok


def test_which_calls_are_looked_at_is_decided_while_nobody_else_writes(
    config: LakeConfig, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    land([call(0)])
    seen, groups = [], adjust.groups

    def watched(lake: Lake, choice: Choice, day: date) -> Any:
        claim = claims.read(config, adjust.NAME)
        seen.append(claim is not None and claim.ended_at is None)
        return groups(lake, choice, day)

    monkeypatch.setattr(adjust, "groups", watched)
    assert reprice(config, KNOWN, ALL, now=now).priced == 1
    assert seen == [True]


REPRICE = textwrap.dedent(
    """
    import sys
    sys.path[:0] = [{repo!r}, {here!r}]
    import test_prices as t
    from warehouse.storage.connect import LakeConfig
    t.job._ROWS = 2048
    print(t.reprice(LakeConfig(*sys.argv[1:3]), t.KNOWN, t.ALL, now=lambda: int(sys.argv[3])).priced)
    """
)


@pytest.mark.representatives(1)
@pytest.mark.row(40)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("before_commit", marks=pytest.mark.faults),
        "before_commit:kill:2",
        "after_commit",
        pytest.param("after_commit:kill:2", marks=pytest.mark.faults),
    ],
)
def test_killed_anywhere_every_call_is_priced_once(config: LakeConfig, land: Land, point: str) -> None:
    rows = [call(i) for i in range(5000)]
    land(rows)
    fault = f"reprice.{point}" + ("" if ":" in point else ":kill")
    source = REPRICE.format(repo=str(REPO), here=str(Path(__file__).parent))
    words = [config.catalog, config.data_path, str(NOW)]
    killed = run_command(words, code=Code(source, ("jobs.prices",)), env={**os.environ, "TAILRACE_FAULT": fault})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = known(config)["n"]
    assert done == {"before_commit": 0, "before_commit:kill:2": 2048, "after_commit": 2048}.get(point, 4096)
    assert reprice(config, KNOWN, ALL, now=now).priced == 5000 - done
    assert known(config) == {"usd": reference(rows, RULE), "n": 5000}


def events(*calls: dict[str, Any]) -> Records:
    """Events of a model that is not in the book, as they stand in the topic."""
    fixed = {"v": 1, "type": "call", "ts": NOW // 1000, "app": "bot", "model": "inhouse-7b"}
    values = [
        json.dumps({**fixed, "id": f"00000000-0000-4000-8000-{i:012d}", **call}).encode()
        for i, call in enumerate(calls)
    ]
    count = len(values)
    offsets = list(range(count))
    return Records(EVENTS, [0] * count, offsets, [NOW] * count, [None] * count, values, [()] * count, {0: (0, count)})


KINDS: list[tuple[str, dict[str, Any], str, str | None, str]] = [
    # kind, event, status as landed, cost after, status after
    (
        "a gateway without a price reports 0",
        {"tokens": {"input": 120_000, "output": 4000}, "cost_reported": 0.0},
        "unpriced",
        "0.42",
        "repriced",
    ),
    ("nothing is reported", {"tokens": {}, "output": "Hi."}, "unpriced", None, "unpriced"),
    ("0 and 0 beside an answer", {"tokens": {"input": 0, "output": 0}, "output": "Hi."}, "unpriced", None, "unpriced"),
    (
        "a unit and tokens",
        {"tokens": {"input": 1000, "output": 100}, "units": [{"unit": "web_searches", "quantity": 3}]},
        "unpriced",
        "0.0345",
        "repriced",
    ),
    (
        "an hour's cache write",
        {"tokens": {"input": 1000, "output": 0, "cache_write": 1000, "cache_write_1h": 1000}},
        "unpriced",
        "0.006",
        "repriced",
    ),
    ("a reported cost", {"tokens": {"input": 1000}, "cost_reported": 0.5}, "reported", "0.5", "reported"),
]
WHOLE: dict[str, object] = {
    "model": "inhouse-7b",
    "input_usd_per_mtok": "3",
    "output_usd_per_mtok": "15",
    "cache_write_usd_per_mtok": "3.75",
    "cache_write_1h_usd_per_mtok": "6",
    "units": {"web_searches": "0.01"},
}
PART = {name: price for name, price in WHOLE.items() if name != "units"}


def landed_events(config: LakeConfig, records: Records, book: PriceBook) -> None:
    """Land events as land does, the book beside them."""
    seen = DuplicateWindow()
    seen.start(0, 0)
    tables = decode(records, PriceBooks([book]), seen, epoch=0, landed_at=NOW).tables()
    said = {
        "version": book.version,
        "effective_from": datetime(1970, 1, 1, tzinfo=UTC),
        "book": book.to_json().decode(),
        "_landed_at": datetime(2026, 11, 1, tzinfo=UTC),
    }
    with Lake.open(config, now=now) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        lake.append(tables, [Move(EVENTS, 0, *records.positions[0])])
        lake.insert({"prices": pa.Table.from_pylist([said], schema=PRICES.schema)})


def costs(config: LakeConfig) -> list[tuple[Decimal | None, str]]:
    rows = known(config, "SELECT cost_usd, cost_status FROM calls ORDER BY id")
    return [(row["cost_usd"], row["cost_status"]) for row in rows]


def test_every_kind_of_unknown_cost_comes_to_its_right_cost_once_there_is_a_price(config: LakeConfig) -> None:
    landed_events(config, events(*(event for _, event, *_ in KINDS)), UNKNOWN)
    assert [status for _, status in costs(config)] == [status for _, _, status, *_ in KINDS]
    reprice(config, default_book([WHOLE]), ALL, now=now)
    expected = [(None if cost is None else Decimal(cost), status) for *_, cost, status in KINDS]
    assert costs(config) == expected
    assert reprice(config, default_book([WHOLE]), ALL, now=now).priced == 0, "a second run finds nothing"


def test_a_part_that_had_no_price_is_added_to_a_partly_priced_call(config: LakeConfig) -> None:
    """Its tokens had a price, its searches had none."""
    part, whole = default_book([PART]), default_book([WHOLE])
    landed_events(config, events(KINDS[3][1]), part)
    (before,) = [known(config, "SELECT cost_usd, cost_status FROM calls")]
    assert (before["cost_usd"], before["cost_status"]) == (Decimal("0.0045"), "partly_priced")
    report = reprice(config, whole, ALL, now=now)
    assert (report.priced, report.delta_usd) == (1, Decimal("0.03"))
    after = known(config, "SELECT cost_usd, cost_status, cost_landed_usd FROM calls")
    assert after == {
        "cost_usd": Decimal("0.0345"),
        "cost_status": "repriced",
        "cost_landed_usd": Decimal("0.0045"),
    }
