"""``tailrace ab --watch``: stage by stage, each decision a signed webhook, and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from standardwebhooks import Webhook
from typer.testing import CliRunner

from jobs.gate.canary import Canary, Decision
from jobs.gate.sequential import Comparison
from jobs.gate.variants import comparisons
from pipelines.notify.channels import Report
from pipelines.notify.reports import Delivered
from schemas.errors import RetryableError
from tailrace.cli import ab as command
from tailrace.job_runs import canary as shell
from tailrace.job_runs.canary import Outside, Pace, watch
from tailrace.settings.model import LakeSettings, Settings
from tests.jobs.golden.lake import Here, Home, call, copied, now
from tests.pipelines.notify.conftest import Receiver
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"
CANARY = Canary("old", "new", None)
PACE = Pace(every_s=60, stage_s=3600)


def measured(users: int, slower: float = 1.0) -> list[Comparison]:
    sides = {"a": 300.0, "b": 300.0 * slower}
    calls = [
        {"side": side, "replied": 1.0, "cost_usd": None, "latency_ms": ms}
        for side, ms in sides.items()
        for _ in range(users)
    ]
    return comparisons(calls, [], stages=2)


class World:
    """A lake that answers as told, a channel that writes down, a clock that only waiting moves."""

    def __init__(self, *looks: list[Comparison] | Exception, lost: int = 0) -> None:
        self.looks, self.lost = list(looks), lost
        self.time = 0.0
        self.sent: list[dict[str, Any]] = []
        self.asked: list[int] = []

    def outside(self) -> Outside:
        return Outside(self.look, self.send, lambda: int(self.time * 1e6), self.wait, lambda decision, found: None)

    def look(self, began: int) -> Sequence[Comparison]:
        self.asked.append(began)
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    def send(self, report: Report) -> list[Delivered]:
        self.lost -= 1
        ok = self.lost < 0
        if ok:
            self.sent.append(json.loads(report.body))
        return [Delivered("hook", ok, "" if ok else "503")]

    def wait(self, seconds: float) -> bool:
        self.time += seconds
        return False

    def run(self, share: int = 5) -> Decision:
        return watch(CANARY, share, 0, self.outside(), PACE)


def test_equal_variants_go_through_all_stages_each_with_calls_of_its_own() -> None:
    world = World(measured(20), measured(500), measured(20), measured(500))
    last = world.run()
    assert [(d["action"], d["share"], d["next_share"]) for d in world.sent] == [
        ("advance", 5, 50),
        ("advance", 50, 100),
    ]
    assert (last.action, last.next_share) == ("advance", 100)
    assert world.asked == [0, 0, 60_000_000, 60_000_000], "a stage looks at calls since it began"


def test_a_worse_variant_is_withdrawn_at_once() -> None:
    world = World(measured(500), measured(500, slower=2.0))
    assert world.run().action == "rollback"
    assert [d["action"] for d in world.sent] == ["advance", "rollback"]
    assert world.sent[-1]["next_share"] == 0


def test_a_stage_without_a_verdict_ends_as_hold_and_says_so_once() -> None:
    world = World(measured(20))
    assert world.run().action == "hold"
    assert [d["action"] for d in world.sent] == ["hold"]
    assert world.time == PACE.stage_s


def test_an_advance_that_no_channel_got_is_sent_again_and_is_no_advance_until_then() -> None:
    world = World(measured(500), lost=2)
    assert world.run(share=50).action == "advance"
    assert world.time == 2 * PACE.every_s
    assert len({d["id"] for d in world.sent}) == 1
    never = World(measured(500), lost=10_000)
    assert never.run().action == "hold"


def test_a_lake_that_does_not_answer_is_a_hold_and_is_asked_again() -> None:
    assert World(RetryableError("the catalog is away"), measured(500)).run(share=50).action == "advance"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("canary") / "home"
    Lake.open(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), now=now).close()
    made = copied(folder, folder.parent / "copy")
    made.land(
        [call(i, user_id=f"u{i}", variant=("old", "canary")[i % 2], latency_ms=300.0 * (1 + i % 2)) for i in range(400)]
    )
    return made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.close()


@pytest.fixture
def ab(home: Home, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    class NoSignals:
        wait = staticmethod(lambda seconds: False)

    def run(*words: str, channels: bool = True) -> tuple[int, str]:
        monkeypatch.setattr(command, "on_stop_signals", NoSignals)
        app = typer.Typer(callback=lambda: None)
        command.add_to(app)
        here = Here(home.config)
        here.settings = Settings(
            home=Path(home.config.catalog).parent,
            lake=LakeSettings(catalog=home.config.catalog, data_path=home.config.data_path),
            alert_channels=[{"name": "router", "url": receiver.url("/canary"), "secret": SECRET}] if channels else [],
            webhook_allow_hosts=[receiver.host],
        )
        here.as_json = False  # type: ignore[attr-defined]
        done = CliRunner().invoke(app, ("ab", "--a", "old", "--b", "canary", *words), obj=here)
        return done.exit_code, done.stdout + done.stderr

    return run


def test_the_webhook_is_signed_and_the_exit_code_says_rollback(ab: Any, receiver: Receiver) -> None:
    code, out = ab("--watch", "--since", "2026-11-01")
    assert code == 1
    assert out.startswith("rollback at 5 %\n")
    (got,) = receiver.got
    body = Webhook(SECRET).verify(got.body, {k.lower(): v for k, v in got.headers.items()})
    assert (body["action"], body["share"], body["next_share"], body["b"]) == ("rollback", 5, 0, "canary")
    assert {m["measure"]: m["verdict"] for m in body["measures"]}["latency_ms"] == "regress"


def test_a_watch_without_a_channel_says_so_and_a_stage_that_is_over_is_a_hold(ab: Any, receiver: Receiver) -> None:
    code, out = ab("--watch", "--stage", "0s", channels=False)
    assert (code, receiver.got) == (2, [])
    assert "no channel is set" in out
    assert "hold at 5 %" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--share", "7"), "give one of 5, 50"), (("--shares", "5"), "--shares"), (("--every", "x"), "how long")],
)
def test_bad_options_are_refused(ab: Any, words: tuple[str, ...], said: str) -> None:
    code, out = ab("--watch", *words)
    assert code == 3
    assert said in out


def test_the_shell_has_no_clock_of_its_own() -> None:
    assert not hasattr(shell, "time")
