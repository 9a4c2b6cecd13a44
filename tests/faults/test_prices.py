"""Price books by the command line: published ahead, remembered by their time, believed when calls are priced again."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from fault_harness.scene import Scene
from fault_harness.traffic import MODEL, PRICES, call

from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer, read_all
from pipelines.pricing import default_book
from pipelines.pricing.published import LEAD_S, ClockAheadError, PriceFeed, announce, published
from schemas import topics
from schemas.errors import KafkaUnavailableError
from schemas.topics import TOPICS
from tailrace import wiring
from tailrace.broker import Broker
from tailrace.settings.model import Settings

NEW = {"model": "inhouse-7b", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
SECOND = 1_000_000
MINUTE = 60 * SECOND


@pytest.fixture
def kafka(scene: Scene) -> KafkaConfig:
    return scene.kafka


def test_a_book_holds_two_minutes_later_and_the_same_one_is_published_once(kafka: KafkaConfig) -> None:
    first, second = default_book(PRICES), default_book([NEW])
    now = now_us()
    announced = announce(kafka, first, now=now)
    assert announced is not None
    assert LEAD_S * SECOND < announced.effective_from - now < (LEAD_S + 30) * SECOND
    assert published(kafka) == [announced]
    assert announce(kafka, first, now=now + MINUTE) is None
    # announced sooner than the last one holds: it comes after it all the same
    later = announce(kafka, second, now=now + MINUTE)
    assert later is not None
    assert later.effective_from > announced.effective_from + LEAD_S * SECOND
    assert [book.version for book in published(kafka)] == [first.version, second.version]


@pytest.mark.row(41, 62)
def test_clocks_of_those_who_announce_may_be_wrong(kafka: KafkaConfig) -> None:
    first, second = default_book(PRICES), default_book([NEW])
    began = now_us()
    announce(kafka, first, now=began - 60 * MINUTE)  # it would hold in the past: some have priced by it, some have not
    (taken,) = published(kafka)
    assert taken.effective_from >= began + LEAD_S * SECOND
    with pytest.raises(ClockAheadError, match="clock"):
        announce(kafka, second, now=now_us() + 365 * 24 * 60 * MINUTE)
    assert published(kafka) == [taken]
    assert announce(kafka, second, now=now_us()) is not None
    feed = PriceFeed(kafka)
    assert [b.version for b in feed.books().books][1:] == [first.version, second.version]
    feed.close()


@pytest.mark.faults
@pytest.mark.row(14, 41)
def test_who_cannot_know_whether_there_is_another_book_gives_none(
    own_broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = KafkaConfig(own_broker.bootstrap, prefix)
    Admin(kafka).create_topics(TOPICS, partitions=1)
    monkeypatch.setattr("pipelines.pricing.published._ASK_S", 1.0)
    monkeypatch.setattr("pipelines.pricing.published._SURE_S", 3.0)
    feed = PriceFeed(kafka)
    own_broker.pause()
    until = time.monotonic() + 60
    while _known(feed):
        assert time.monotonic() < until, "it still answers"
        time.sleep(0.1)
    own_broker.resume()
    announce(kafka, default_book([NEW]), now=now_us())
    until = time.monotonic() + 60
    while len(books := _known(feed)) < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert books[1] == default_book([NEW]).version
    feed.close()


def _known(feed: PriceFeed) -> list[str]:
    try:
        return [book.version for book in feed.books().books]
    except KafkaUnavailableError:
        return []


def test_books_are_read_once_their_topic_is_there(broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.pricing.published._ASK_S", 0.0)
    kafka = KafkaConfig(broker.bootstrap, prefix)
    feed = PriceFeed(kafka)
    assert len(feed.books().books) == 1
    Admin(kafka).create_topics(TOPICS, partitions=1)
    announce(kafka, default_book([NEW]), now=now_us())
    until = time.monotonic() + 30
    while len(_known(feed)) < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    feed.close()


@pytest.mark.row(41)
def test_a_book_that_comes_back_leaves_its_first_time_as_it_was(kafka: KafkaConfig) -> None:
    first, second = default_book(PRICES), default_book([NEW])
    now = now_us()
    for book, minutes in ((first, 0), (second, 10), (first, 20)):
        assert announce(kafka, book, now=now + minutes * MINUTE) is not None
    producer = Producer(kafka)
    producer.send(topics.PRICES, b"no book", b"pb-x@1")
    producer.flush()
    feed = PriceFeed(kafka)
    books = feed.books()
    feed.close()
    held = [books.at(now + minutes * MINUTE).version for minutes in (5, 15, 25)]
    assert held == [first.version, second.version, first.version]
    keys = {record.key for record in read_all(kafka, topics.PRICES)}
    assert len(keys) == 4, "compaction would take a book's first time"


def test_up_announces_changed_settings_once_books_are_published_and_not_before(kafka: KafkaConfig) -> None:
    changed = Settings(kafka={"prefix": kafka.prefix}, prices=[NEW])
    wiring.announce_prices(changed, kafka.bootstrap_servers)
    assert published(kafka) == []
    announce(kafka, default_book(PRICES), now=now_us())
    wiring.announce_prices(changed, kafka.bootstrap_servers)
    wiring.announce_prices(changed, kafka.bootstrap_servers)
    assert [book.version for book in published(kafka)][1:] == [default_book([NEW]).version]


def test_a_book_that_cannot_be_announced_yet_stops_nothing(kafka: KafkaConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(kafka, default_book(PRICES), now=now_us())
    before = read_all(kafka, topics.PRICES)
    ahead = now_us() + 2 * 60 * MINUTE
    monkeypatch.setattr(
        "pipelines.pricing.published.published", lambda config: [default_book(PRICES).with_effective_from(ahead)]
    )
    with pytest.raises(ClockAheadError):
        announce(kafka, default_book([NEW]), now=now_us())
    wiring.announce_prices(Settings(kafka={"prefix": kafka.prefix}, prices=[NEW]), kafka.bootstrap_servers)
    assert read_all(kafka, topics.PRICES) == before, "what no stage would take is not sent"


def test_the_commands_say_what_there_is_and_what_a_call_costs(scene: Scene) -> None:
    prices = json.dumps([*PRICES, {**NEW, "from": "2026-11-01", "provider": "Own"}])
    before = scene.tailrace("prices", "list", "--json", TAILRACE_PRICES=prices)
    (only,) = [json.loads(line) for line in before.stdout.splitlines()]
    assert (only["in_force"], only["overrides"], only["effective_from"]) == (True, 2, "1970-01-01T00:00:00+00:00")
    done = json.loads(scene.tailrace("prices", "publish", "--json", TAILRACE_PRICES=prices).stdout)
    assert (done["published"], done["version"]) == (True, only["version"])
    again = scene.tailrace("prices", "publish", TAILRACE_PRICES=prices)
    assert "nothing to do" in again.stdout
    assert len(scene.tailrace("prices", "list", TAILRACE_PRICES=prices).stdout.splitlines()) == 2

    def show(*words: str) -> Any:
        return scene.tailrace("prices", "show", *words, TAILRACE_PRICES=prices)

    told = json.loads(show("inhouse-7b", "--provider", "own", "--json").stdout)
    (band,) = told["usd_per_mtok"]
    assert (band["input"], band["output"], band["cache_read"]) == ("1", "2", "1")
    assert "inhouse-7b" in show("inhouse-7b", "--provider", "own").stdout
    missing = show("inhouse-7b", "--provider", "own", "--at", "2026-10-31T23:00:00Z")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no price of inhouse-7b" in missing.stderr
    assert show("no\x1bmodel").stderr.count("\x1b") == 0
    wrong = show("inhouse-7b", "--at", "then")
    assert wrong.returncode == 2
    assert "how long ago" in wrong.stderr
    for words in (("--from", "soon"), ("--from", "2026-11-02", "--to", "2026-11-01")):
        refused = scene.tailrace("prices", "reprice", *words)
        assert refused.returncode == 2, refused.stdout + refused.stderr


@pytest.mark.row(40)
@pytest.mark.timeout(240)
def test_a_model_without_a_price_is_counted_and_priced_once_its_book_is_there(scene: Scene) -> None:
    land = scene.start("land")
    scene.start("meter")
    known = [call() for _ in range(300)]
    unknown = [call(model="inhouse-7b") for _ in range(200)]
    scene.traffic.send_all([*known, *unknown])
    scene.settle()

    def bill() -> dict[str, Any]:
        sql = "SELECT sum(cost_usd)::VARCHAR AS usd, count(*) FILTER (cost_usd IS NULL) AS unpriced FROM calls"
        told = scene.tailrace("sql", sql, "--format", "json")
        assert told.returncode == 0, told.stderr
        return dict(json.loads(told.stdout))

    of_known = sum((scene.traffic.sent.cost[e["id"]] for e in known), Decimal(0))
    of_unknown = sum(Decimal(e["tokens"]["input"] + 2 * e["tokens"]["output"]) / 1_000_000 for e in unknown)
    assert {**bill(), "usd": Decimal(bill()["usd"])} == {"usd": of_known, "unpriced": 200}
    live = "SELECT sum(unpriced)::BIGINT AS n FROM live_minutes WHERE dims = 'app'"
    deadline = time.monotonic() + 60
    while json.loads(scene.tailrace("sql", live, "--format", "json").stdout or '{"n": 0}')["n"] != 200:
        assert time.monotonic() < deadline, scene.tails()
        time.sleep(0.5)

    prices = json.dumps([*PRICES, NEW])
    dry = scene.tailrace("prices", "reprice", "--from", "2020-01-01", "--dry-run", "--json", TAILRACE_PRICES=prices)
    assert json.loads(dry.stdout)["priced"] == 200, "nothing is published: the settings' own book counts"
    ran = scene.tailrace("job", "run", "prices", "--json", TAILRACE_PRICES=prices)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["announced"], report["repriced"]["priced"], report["repriced"]["corrected"]) == (True, 200, 0)
    assert {**bill(), "usd": Decimal(bill()["usd"])} == {"usd": of_known + of_unknown, "unpriced": 0}
    again = json.loads(scene.tailrace("job", "run", "prices", "--json", TAILRACE_PRICES=prices).stdout)
    assert (again["announced"], again["repriced"]["looked_at"]) == (False, 0)

    # what lands from now on is unpriced until the book holds; a person re-prices it, and that is written down
    scene.traffic.send_all([call(model="inhouse-7b") for _ in range(5)])
    scene.settle()
    assert land.alive
    by_hand = scene.tailrace("prices", "reprice", "--from", "2020-01-01", "--json", TAILRACE_PRICES=prices)
    assert json.loads(by_hand.stdout)["priced"] == 5, by_hand.stderr
    deadline = time.monotonic() + 60
    while "prices.reprice" not in scene.tailrace("sql", "FROM audit", "--format", "json").stdout:
        assert time.monotonic() < deadline, scene.tails()
        time.sleep(0.5)
    scene.verified()
    assert MODEL in {e["model"] for e in known}
