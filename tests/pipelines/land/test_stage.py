"""land on a real broker: every position once, whatever is killed, lost, replaced or bad."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from fault_harness.zygote import Code, Forked
from structlog.testing import capture_logs

from pipelines.clock import now_us
from pipelines.decode import Redaction
from pipelines.kafka import (
    Admin,
    KafkaConfig,
    LogTruncatedError,
    PartitionStalledError,
    Producer,
    Source,
    TopicReplacedError,
    TransactionalProducer,
)
from pipelines.land import LandConfig, adopt, run
from pipelines.land.stage import Land
from schemas.alerts import Alert, Delivery, LogRecord, Window
from schemas.rollups import ROLLUP, SourceTick, Tick
from schemas.topics import ALERTS, DELIVERIES, EVENTS, HISTORY_HEADER, LOG, ROLLUPS, TOPICS, Topic
from tailrace_emitter.people import People
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect
from warehouse.storage.dead_bytes import unpad
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[3]


class Rig:
    """A cluster prefix and a home of its own."""

    def __init__(self, bootstrap: str, prefix: str, home: Path) -> None:
        self.kafka = KafkaConfig(bootstrap, prefix)
        self.admin = Admin(self.kafka)
        self.admin.create_topics(TOPICS, partitions=2)
        self.config = LandConfig(
            self.kafka,
            LakeConfig(str(home / "catalog.sqlite"), str(home / "data")),
            batch_wait_s=0.2,
            check_every_s=0.5,
        )
        self.sent = 0

    def send(self, values, topic=EVENTS, headers=(), partition=None):
        producer = Producer(self.kafka)
        for value in values:
            producer.send(topic, value, key=b"k" if topic == DELIVERIES else None, partition=partition, headers=headers)
        producer.flush(10)
        producer.close()
        self.sent += len(values)

    def query(self, sql):
        connection = connect(self.config.lake, read_only=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def landed(self):
        """Positions with a row, counted from the tables, not through verify."""
        ((n,),) = self.query(
            "SELECT (SELECT count(*) FROM raw_calls) + (SELECT count(*) FROM raw_feedback) "
            "+ (SELECT count(*) FROM raw_evals) + (SELECT count(*) FROM dead)"
        )
        return n

    @contextmanager
    def landing(self, **changes):
        """Land in a thread; yields the facts of its last beat and, once over, its error."""
        config = replaced(self.config, **changes)
        stop, facts = threading.Event(), {}

        def body():
            try:
                run(config, stop=stop, heartbeat=lambda report: facts.update(report.flat()))
            except BaseException as error:  # noqa: BLE001
                facts["raised"] = error

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield facts
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def land_all(self, expected, **changes):
        with self.landing(**changes) as facts:
            wait_for(lambda: "raised" in facts or self.landed() >= expected)
        if "raised" in facts:
            raise facts["raised"]

    def land_until_raises(self, kind):
        with self.landing() as facts:
            wait_for(lambda: "raised" in facts)
        assert isinstance(facts["raised"], kind), facts["raised"]
        return facts["raised"]


def replaced(config, **changes):
    from dataclasses import replace

    return replace(config, **changes)


def wait_for(done, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.4)


def call(n=0, **said):
    event = {
        "v": 1,
        "type": "call",
        "id": str(uuid.uuid4()),
        "ts": "2026-11-21T07:00:00Z",
        "app": "bot",
        "model": "gpt-4o",
        "provider": "openai",
        "tokens": {"input": 100 + n, "output": 10},
        **said,
    }
    return msgspec.json.encode(event)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    home = tmp_path_factory.mktemp("fresh") / "home"
    Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: 1).close()
    return home


@pytest.fixture
def rig(broker, prefix, tmp_path, fresh):
    shutil.copytree(fresh, tmp_path, dirs_exist_ok=True)
    return Rig(broker.bootstrap, prefix, tmp_path)


def proved(rig):
    report = verify(rig.config.lake)
    assert report.ok, report.problems
    return {(p.topic, p.partition, p.epoch): p for p in report.partitions}


def test_transactions_of_an_app_land_without_the_aborted_one_and_verify_still_finds_a_lost_row(rig):
    app = TransactionalProducer(rig.kafka, "an-app")
    source = Source(rig.kafka, [EVENTS])
    for n in range(3):
        app.begin()
        app.send(EVENTS, call(n), partition=0)
        if n == 1:
            app.flush()
            app.abort()
        else:
            app.commit({}, source)
    source.close()
    app.close()
    with rig.landing():
        wait_for(
            lambda: rig.query(f"SELECT next_offset FROM ledger WHERE topic = '{EVENTS}' AND partition = 0") == [(6,)]
        )
    assert rig.query("SELECT _offset, input_tokens FROM raw_calls ORDER BY 1") == [(0, 100), (4, 102)]
    assert rig.query("SELECT from_offset, to_offset FROM no_record_ranges ORDER BY 1") in (
        [(1, 4), (5, 6)],
        [(1, 2), (2, 4), (5, 6)],  # the second batch began behind the first marker
    )
    assert rig.query("SELECT * FROM gaps") == []
    report = verify(rig.config.lake)
    assert report.ok, report.problems
    assert next(p for p in report.partitions if p.topic == EVENTS and p.partition == 0).no_record == 4
    connection = connect(rig.config.lake)
    connection.execute("DELETE FROM raw_calls WHERE _offset = 4")
    connection.close()
    (problem,) = verify(rig.config.lake).problems
    assert "without a row: ['4..4']" in problem.detail


def test_good_and_bad_events_land_once_and_are_priced(rig):
    bad = [b"", b"{", b"null", b'{"v":1}']
    rig.send([call(n) for n in range(50)] + bad + [call(), call()])
    rig.land_all(56)
    assert rig.query("SELECT count(*), count(DISTINCT id), count(cost_usd) FROM calls") == [(52, 52, 52)]
    assert rig.query("SELECT count(*), count(bytes) FROM dead_bytes")[0][0] == 4
    assert rig.query("SELECT count(*) FROM prices")[0][0] == 1
    assert sum(p.landed + p.dead for (t, *_), p in proved(rig).items() if t == EVENTS) == 56


def test_history_lands_on_its_own_days_so_many_of_them_a_commit(rig, monkeypatch):
    monkeypatch.setattr("pipelines.land.split_batch.MOST_DAYS", 20)
    first = date(2025, 1, 1)
    days = [first + timedelta(days=n) for n in range(45)]
    rig.send([call(ts=f"{day}T12:00:00Z") for day in days], headers=(HISTORY_HEADER,), partition=0)
    rig.send([call(ts="2025-01-01T12:00:00Z")], partition=0)  # not marked: its clock is not believed
    rig.land_all(46, batch_wait_s=2.0)
    rows = rig.query("SELECT day, calls FROM cost_daily ORDER BY day")
    assert [day for day, _ in rows[:45]] == days
    assert {calls for _, calls in rows} == {1}
    assert len(rows) == 46
    assert rows[-1][0] > days[-1], "the day of arrival"
    written = rig.query(
        "SELECT count(DISTINCT p.partition_value) FROM __ducklake_metadata_lake.ducklake_data_file AS f "
        "JOIN __ducklake_metadata_lake.ducklake_file_partition_value AS p USING (data_file_id) "
        "GROUP BY f.begin_snapshot"
    )
    assert sum(n for (n,) in written) >= 46
    assert max(n for (n,) in written) <= 20
    assert verify(rig.config.lake).ok


def test_what_the_stage_reports_is_what_has_landed_and_a_commit_that_lasts_is_reported(rig, monkeypatch):
    append, facts = Lake.append, {}

    def slow(lake, batches, moves):
        if facts and "before" not in facts and "raw_calls" in batches:
            # the reports while this lasts come from no loop of land's
            wait_for(lambda: facts.get("state") == "committing")
            facts["before"] = dict(facts["position"])
        append(lake, batches, moves)

    monkeypatch.setattr(Lake, "append", slow)
    with rig.landing() as reported:
        facts = reported
        wait_for(lambda: "position" in facts)
        rig.send([call(i) for i in range(20)])
        wait_for(lambda: sum(facts["position"].get(f"{EVENTS}[{p}]", 0) for p in range(8)) >= 20)
        wait_for(lambda: facts["lag"] == 0)
    assert sum(n for at, n in facts["before"].items() if at.startswith(EVENTS)) == 0, "read is not landed"
    assert facts["arrival_time"] > 0
    assert facts["progress"] >= 1
    assert set(facts["waiting"].values()) == {0}


@pytest.mark.row(44)
def test_an_id_sent_again_is_marked_also_across_a_restart(rig):
    twice = call()
    rig.send([twice, twice, call()], partition=0)
    rig.land_all(3)
    rig.send([twice, call()], partition=0)
    rig.land_all(5)
    assert rig.query("SELECT _offset FROM raw_calls WHERE _dup ORDER BY 1") == [(1,), (3,)]
    assert rig.query("SELECT count(*) FROM calls") == [(3,)]
    proved(rig)


def test_messages_between_stages_land_and_poison_among_them_goes_to_dead(rig):
    sink = pa.BufferOutputStream()
    row = {f.name: 0 if f.type == pa.int64() else None for f in ROLLUP} | {"dims": "app", "series": '{"app":"bot"}'}
    with pa.ipc.new_stream(sink, ROLLUP) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=ROLLUP))
    span = [("kind", b"rollup"), ("partition", b"0"), ("from", b"0"), ("to", b"5"), ("part", b"1/1"), ("epoch", b"0")]
    rig.send([sink.getvalue().to_pybytes(), b"no arrow"], ROLLUPS, span, 0)
    rig.send([Tick(1, {0: SourceTick(5, 1, 1, 1)}).to_json()], ROLLUPS, [("kind", b"tick")], 0)
    alert = Alert(
        id="a", seq=0, fingerprint="f", detector="spike", rule="r", severity="warning", state="firing",
        series={"app": "bot"}, window=Window("2026-11-21T07:00:00Z", "2026-11-21T07:01:00Z"), observed=2.0,
        expected=1.0, score=9.0, unit="USD", detected_at="2026-11-21T07:01:01Z",
    )  # fmt: skip
    rig.send([alert.to_json(), b"[]"], ALERTS)
    delivery = Delivery(alert_id="a", seq=0, channel="hook", state="delivered", at=1)
    rig.send([msgspec.json.encode(delivery)], DELIVERIES)
    rig.send([msgspec.json.encode(LogRecord(table="audit", at=1, row={"actor": "me"}))], LOG)
    rig.send([call()])
    with rig.landing():
        wait_for(lambda: rig.landed() >= 3 and rig.query("SELECT count(*) FROM audit") == [(1,)])
    assert rig.query("SELECT source_from, source_to, part, dims FROM rollups") == [(0, 5, "1/1", "app")]
    assert rig.query("SELECT sources[1].next_offset FROM ticks") == [(5,)]
    assert rig.query("SELECT id, severity, series FROM alerts") == [("a", "warning", '{"app":"bot"}')]
    assert rig.query("SELECT alert_id, state FROM deliveries") == [("a", "delivered")]
    assert rig.query("SELECT actor FROM audit") == [("me",)]
    assert rig.query("SELECT topic, reason FROM dead ORDER BY 1") == [(ALERTS, "not_json"), (ROLLUPS, "type:arrow")]
    proved(rig)


PROGRAM = textwrap.dedent(
    """
    import threading
    from pipelines.kafka import KafkaConfig
    from pipelines.land import LandConfig, run
    from warehouse.storage.connect import LakeConfig
    run(LandConfig(KafkaConfig({bootstrap!r}, {prefix!r}), LakeConfig({catalog!r}, {data!r}), batch_rows=20,
        batch_wait_s=0.1), stop=threading.Event())
    """
)


def process(rig, fault=""):
    program = PROGRAM.format(
        bootstrap=rig.kafka.bootstrap_servers,
        prefix=rig.kafka.prefix,
        catalog=rig.config.lake.catalog,
        data=rig.config.lake.data_path,
    )
    env = {**os.environ, "TAILRACE_FAULT": fault}
    return Forked([], Path(os.devnull), env, Code(program, ("pipelines.land",)))


@pytest.mark.faults
@pytest.mark.row(1, 2, 4)
def test_kill_9_at_every_point_of_the_stage_loses_and_doubles_nothing(rig):
    ids = {str(uuid.uuid4()) for _ in range(200)}
    rig.send([call(id=i) for i in ids] + [b"bad"])
    for point in ("after_poll", "after_insert", "before_commit", "after_commit"):
        with process(rig, f"land.{point}:kill:2") as dying:
            assert dying.wait(60) == -signal.SIGKILL
    rig.land_all(201)
    landed = [str(row[0]) for row in rig.query("SELECT id FROM raw_calls")]
    assert len(landed) == 200
    assert set(landed) == ids
    proved(rig)


@pytest.mark.faults
@pytest.mark.row(25)
def test_an_older_catalog_put_back_makes_land_read_the_rest_again(rig, tmp_path):
    """What Kafka's group has committed is no matter: the ledger of the older catalog says where to go on."""
    rig.send([call() for _ in range(20)] + [b"bad"])
    rig.land_all(21)
    catalog, backup = Path(rig.config.lake.catalog), tmp_path / "backup.sqlite"
    vacuum = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', (sys.argv[2],))"
    subprocess.run([sys.executable, "-c", vacuum, catalog, backup], check=True)
    rig.send([call() for _ in range(30)] + [b"bad"])
    rig.land_all(52)
    told = rig.query("SELECT id, cost_usd FROM calls ORDER BY 1")
    for suffix in ("-wal", "-shm"):
        Path(f"{catalog}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, catalog)
    assert rig.landed() == 21
    rig.land_all(52)
    assert rig.landed() == 52
    assert rig.query("SELECT id, cost_usd FROM calls ORDER BY 1") == told
    assert len(told) == 50
    assert rig.query("SELECT count(DISTINCT (_partition, _offset)), count_if(_dup) FROM raw_calls") == [(50, 0)]
    assert sum(p.landed + p.dead for (topic, *_), p in proved(rig).items() if topic == EVENTS) == 52


@pytest.mark.row(16, 17)
def test_a_topic_made_again_is_refused_until_it_is_adopted(rig):
    rig.send([call()])
    rig.land_all(1)
    rig.admin.delete_topics([EVENTS])
    wait_for(lambda: EVENTS not in rig.admin.topics())
    rig.admin.create_topics([t for t in TOPICS if t.name == EVENTS], partitions=2)
    rig.send([call(), call()])
    error = rig.land_until_raises((TopicReplacedError, LogTruncatedError))
    assert "tailrace topics adopt llm.events" in str(error)
    adopted = adopt(rig.config, [EVENTS, ROLLUPS], now=lambda: 1)
    assert {topic: found.epoch for topic, found in adopted.items()} == {EVENTS: 1}
    assert adopted[EVENTS].was != adopted[EVENTS].now
    rig.land_all(3)
    assert rig.query("SELECT _epoch, count(*) FROM raw_calls GROUP BY 1 ORDER BY 1") == [(0, 1), (1, 2)]
    assert rig.query("SELECT count(*) FROM gaps")[0][0] > 0
    proved(rig)


@pytest.mark.extended
@pytest.mark.row(53)
def test_partitions_added_under_us_are_landed_from_their_first_offset(rig):
    rig.send([call()], partition=0)
    with rig.landing():
        wait_for(lambda: rig.landed() == 1)
        rig.admin.add_partitions(EVENTS, 4)
        rig.send([call(), call()], partition=3)
        wait_for(lambda: rig.landed() == 3)
    assert proved(rig)[EVENTS, 3, 0].landed == 2


@pytest.mark.faults
@pytest.mark.row(39)
def test_a_partition_that_the_client_forgot_makes_land_start_over_and_nothing_is_lost(rig):
    rig.send([call()], partition=0)
    rig.send([call()], partition=1)
    rig.land_all(2)
    config, stop = replaced(rig.config, check_every_s=0.1, stalled_s=1.0), threading.Event()
    with Lake.open(config.lake, now=now_us) as lake:
        land = Land(config, lake, stop, now=now_us, heartbeat=lambda facts: None)
        with land:
            land.start()
            # as a resume that was lost would leave it (librdkafka#5591)
            land._source._consumer.pause([TopicPartition(config.kafka.on_wire(EVENTS), 1)])
            rig.send([call()], partition=1)

            def step_with_traffic():
                for _ in range(200):
                    rig.send([call()], partition=0)
                    land.step()

            with pytest.raises(PartitionStalledError, match=r"llm\.events\[1\]"):
                step_with_traffic()
    sent = rig.sent
    rig.land_all(sent)
    assert rig.landed() == sent
    proved(rig)


@pytest.mark.row(54)
def test_records_that_retention_took_become_a_gap_and_an_alert(rig):
    rig.send([call()], partition=0)
    rig.land_all(1)
    rig.send([call() for _ in range(9)], partition=0)
    rig.admin.delete_records({(EVENTS, 0): 6})
    with rig.landing():
        wait_for(lambda: rig.landed() == 5 and rig.query("SELECT count(*) FROM alerts") == [(1,)])
    assert rig.query("SELECT partition, from_offset, to_offset FROM gaps") == [(0, 1, 6)]
    assert rig.query("SELECT rule FROM alerts") == [("land.gap",)]
    assert proved(rig)[EVENTS, 0, 0].lost == 5


@pytest.mark.row(38)
def test_mostly_bad_events_open_the_breaker_and_the_other_topics_go_on(rig):
    rig.send([b"bad"] * 300, partition=0)
    with rig.landing() as facts:
        wait_for(lambda: facts.get("state") == "held")
        rig.send([msgspec.json.encode(LogRecord(table="audit", at=1, row={}))], LOG)
        wait_for(lambda: rig.query("SELECT count(*) FROM audit") == [(1,)])
        wait_for(lambda: rig.query("SELECT rule FROM alerts") == [("land.breaker",)])
        assert "not_json" in facts["error"]
    assert rig.landed() == 0
    rig.land_all(300, dead_ratio_limit=1.0)
    assert proved(rig)[EVENTS, 0, 0].dead == 300


@pytest.mark.row(67)
def test_a_small_memory_limit_lands_the_batch_in_pieces(rig):
    rig.send([call(content={"mode": "full", "output": "x" * 100_000 + str(n)}) for n in range(150)])
    with capture_logs() as said:
        rig.land_all(150, batch_rows=150, batch_wait_s=3.0, lake=short_of_memory(rig, "40MB"))
    assert max((line["rows"] for line in said if line["event"] == "batch_halved"), default=0) > 1, "memory sufficed"
    assert rig.query("SELECT count(*), count(DISTINCT id) FROM calls") == [(150, 150)]
    assert rig.query("SELECT count(*) FROM dead") == [(0,)]
    proved(rig)


@pytest.mark.extended
@pytest.mark.row(67)
def test_a_single_row_that_does_not_fit_the_memory_is_dead_and_its_neighbours_land(rig):
    """Empty objects of 3 bytes are a column of structs many times as big; that of 60,000 still fits into 36 MB."""
    bloated = call(guardrails=[{}] * 250_000)
    rig.send([call(), call(), bloated, call(), call()], partition=0)
    with capture_logs() as said:
        rig.land_all(5, batch_rows=5, batch_wait_s=3.0, lake=short_of_memory(rig, "40MB"))
    assert [line["rows"] for line in said if line["event"] == "batch_halved"][-1] == 1
    why = ("too_large", "does not fit the memory limit of land", len(bloated))
    assert rig.query("SELECT _partition, _offset, reason, detail, size FROM dead") == [(0, 2, *why)]
    ((original,),) = rig.query("SELECT bytes FROM dead_bytes")
    assert unpad(original) == bloated
    assert rig.query("SELECT _offset FROM calls ORDER BY 1") == [(0,), (1,), (3,), (4,)]
    found = proved(rig)[EVENTS, 0, 0]
    assert (found.landed, found.dead) == (4, 1)


def short_of_memory(rig, limit):
    """A lake whose DuckDB may neither take more nor spill."""
    return replaced(rig.config.lake, memory_limit=limit, temp_dir="/nonexistent")


def test_topic_of_stage_tables_is_complete():
    from pipelines.land.split_batch import TOPIC_OF
    from schemas.topics import LANDED

    assert set(TOPIC_OF.values()) == set(LANDED)
    assert isinstance(TOPICS[0], Topic)


def test_events_with_unknown_fields_and_ids_of_people_land_flagged_and_counted(rig):
    rig.send([call(), call(input_token=8), call(user="ann@example.org"), call(user="u-17", sesion_id="s")])
    people = People("key")
    with rig.landing(rules=Redaction(people=people)) as facts:
        wait_for(lambda: "raised" in facts or (rig.landed() >= 4 and facts.get("unknown_fields") == 2))
    assert "raised" not in facts
    rows = rig.query(
        "SELECT user_id, list_filter(_flags, lambda f: f LIKE 'unknown%' OR f LIKE 'pseudo%') FROM raw_calls"
    )
    assert sorted((user or "", flags or []) for user, flags in rows) == [
        ("", []),
        ("", ["unknown_field:input_token"]),
        ("u-17", ["unknown_field:sesion_id"]),
        (people.user("ann@example.org"), ["pseudonymised"]),
    ]
