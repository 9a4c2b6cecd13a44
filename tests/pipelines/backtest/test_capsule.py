"""A capsule gives the alert that it was made of, the same bytes for the same alert, and refuses what is damaged."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.backtest.capsule import Capsule, CapsuleError, packed, same, unpacked
from pipelines.backtest.cut import find_cut
from pipelines.detect import backtest
from pipelines.detect.judge import Judge
from schemas.alerts import Alert
from schemas.records import Record
from schemas.topics import ROLLUPS
from tailrace.events.capsule import NoCapsuleError, compared, export, judge_capsule
from tests.pipelines.detect.test_backtest import heard, land
from tests.pipelines.detect.traffic import T0
from tests.tailrace.alerts import alert
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return heard()


@pytest.fixture(scope="module")
def told(records: list[Record]) -> dict[str, list[Alert]]:
    found: dict[str, list[Alert]] = {}
    for each in Judge().run(records):
        found.setdefault(each.id, []).append(each)
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Iterator[ReadOnlyLake]:
    folder = tmp_path_factory.mktemp("lake")
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    with Lake.open(config, now=lambda: T0) as opened:
        opened.ensure_partitions(ROLLUPS, "one", {0: 0})
        land(opened, records)
    with ReadOnlyLake.open(config) as reader:
        yield reader


@pytest.fixture(scope="module")
def capsules(lake: ReadOnlyLake, told: dict[str, list[Alert]]) -> list[tuple[Capsule, bytes]]:
    return [export(lake, states, {}, warm_up=DAY) for states in told.values()]


def test_it_gives_the_same_alert_in_the_same_words(
    capsules: list[tuple[Capsule, bytes]], told: dict[str, list[Alert]]
) -> None:
    assert len(capsules) == 2
    for made, data in capsules:
        read, alerts = judge_capsule(data, "x.capsule")
        states = told[made.manifest.alert_id]
        assert [a.to_json() for a in alerts if a.id == states[0].id] == [a.to_json() for a in states]
        assert compared(read, alerts) == len(states) == read.manifest.states
        assert len(data) < 1_000_000


@pytest.mark.extended
def test_the_same_alert_gives_the_same_bytes(lake: ReadOnlyLake, told: dict[str, list[Alert]]) -> None:
    states = next(iter(told.values()))
    assert export(lake, states, {}, warm_up=DAY)[1] == export(lake, states, {}, warm_up=DAY)[1]


def test_it_begins_before_the_alert_and_ends_with_its_last_state(capsules: list[tuple[Capsule, bytes]]) -> None:
    for made, _ in capsules:
        offsets = made.ticks.column("_offset").to_pylist()
        assert min(offsets) >= made.manifest.first
        assert max(offsets) == made.manifest.upto - 1
        assert set(made.rollups.column("key").to_pylist()) == {"bot"}


def test_other_rules_are_laid_over_those_of_the_capsule(capsules: list[tuple[Capsule, bytes]]) -> None:
    _, data = capsules[0]
    _, alerts = judge_capsule(data, "x.capsule", {"spike": {"ratio": 1e6, "ratio_per_call": 1e6}})
    assert not [a for a in alerts if a.detector == "spike"]


def test_rules_of_another_time_do_not_give_it_and_that_is_said(
    lake: ReadOnlyLake, told: dict[str, list[Alert]]
) -> None:
    states = next(s for s in told.values() if s[0].detector == "spike")
    with pytest.raises(NoCapsuleError, match=r"were the rules changed since|are the rules still those"):
        export(lake, states, {"spike": {"ratio": 1e6, "ratio_per_call": 1e6}}, warm_up=DAY)


def test_what_no_rollup_gives_is_refused_by_name(lake: ReadOnlyLake) -> None:
    with pytest.raises(NoCapsuleError, match="it is of the detector drift; only alerts of spike, surge"):
        export(lake, [alert({"app": "bot"}, detector="drift")], {}, warm_up=DAY)
    with pytest.raises(NoCapsuleError, match="the landed rollups do not give it"):
        export(lake, [alert({"app": "nobody"})], {}, warm_up=DAY)


@pytest.mark.extended
def test_one_that_is_too_large_is_cut_to_its_firing_and_then_refused(
    lake: ReadOnlyLake, told: dict[str, list[Alert]], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = next(s for s in told.values() if s[0].detector == "surge")
    whole = len(export(lake, states, {}, warm_up=DAY)[1])
    monkeypatch.setattr("tailrace.events.capsule.MOST_BYTES", whole - 1)
    made, data = export(lake, states, {}, warm_up=DAY)
    assert (made.manifest.states, made.manifest.landed_states) == (1, len(states))
    assert len(data) < whole
    monkeypatch.setattr("tailrace.events.capsule.MOST_BYTES", 1000)
    with pytest.raises(NoCapsuleError, match=r"it takes [\d,]+ bytes, and 1,000 are allowed"):
        export(lake, states, {}, warm_up=DAY)


def test_the_state_in_the_file_holds_no_other_app_and_nothing_before_is_judged_twice(
    lake: ReadOnlyLake, told: dict[str, list[Alert]]
) -> None:
    states = next(iter(told.values()))
    found = backtest.ranges(lake.query, since=0, until=2 * T0)
    cut = find_cut(lake.query, found, Judge(), states, start=T0)
    assert cut is not None
    assert cut.first > found[0].first
    assert all(same(a, cut.alerts[a.seq]) for a in states)
    assert find_cut(lake.query, [], Judge(), states, start=T0) is None


def rewritten(data: bytes, name: str, content: bytes | None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for each in old.namelist():
            part = content if each == name else old.read(each)
            if part is not None:
                new.writestr(each, part)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("state.bin", b"\x92\x05\xc4\x01x", "state.bin is damaged"),
        ("rollups.arrow", None, "it has no rollups.arrow"),
        ("manifest.json", b"{}", "it cannot be read"),
        ("manifest.json", b'{"format": 1}', "it cannot be read"),
    ],
)
def test_a_damaged_one_is_refused_by_name(
    capsules: list[tuple[Capsule, bytes]], name: str, content: bytes | None, said: str
) -> None:
    with pytest.raises(CapsuleError, match=f"capsule x.capsule: .*{said}"):
        unpacked(rewritten(capsules[0][1], name, content), "x.capsule")


def test_what_is_no_zip_and_what_is_cut_off_is_refused(capsules: list[tuple[Capsule, bytes]], tmp_path: Path) -> None:
    data = capsules[0][1]
    for broken in (b"PK\x03\x04", data[:-40], data[: len(data) // 2], b""):
        with pytest.raises(CapsuleError, match="it cannot be read"):
            unpacked(broken, "x.capsule")


def test_one_of_another_version_is_refused_with_the_remedy(capsules: list[tuple[Capsule, bytes]]) -> None:
    made, data = capsules[0]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = archive.read("manifest.json").replace(b'"version": 1', b'"version": 99')
    with pytest.raises(CapsuleError, match="it has version 99, and 1 can be read; judge it with the version"):
        unpacked(rewritten(data, "manifest.json", manifest), "x.capsule")
    assert packed(made) == data
