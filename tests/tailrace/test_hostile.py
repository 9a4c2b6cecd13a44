"""Hostile text in every field that takes text, through every output that people or programs look at."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import types
import uuid
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa
import pytest
from fault_harness.zygote import run_command

from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.land import LandConfig, run
from pipelines.notify.channels.slack import payload
from pipelines.notify.plain import plain as as_text
from schemas.alerts import Alert, Cause, Change, Evidence
from schemas.topics import ALERTS, EVENTS, TOPICS
from tailrace.cli.render.rows import json_lines, table, to_csv
from tailrace.events import landed
from tailrace.settings.model import KafkaSettings, Settings
from tailrace_emitter.event import Call, Eval, Feedback
from tests.tailrace.alerts import alert
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig
from warehouse.verify.verify import verify

HOSTILE = (
    "<script>alert(1)</script>",
    "=1+1",
    '=HYPERLINK("http://evil.example","x")',
    "@SUM(A1)",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "\t=1+1",
    " =1+1",
    "\uff1d1+1",
    "x;=1+1",
    "x; \u200b=1+1;y",
    "x\t@SUM(A1)",
    "x|+1+cmd",
    "x\n=1+1",
    "\ufeff=1+1",
    "\u200b=1+1",
    "\u00ad=1",
    "\u2028=1+1",
    "../../etc/passwd",
    "%2e%2e%2f",
    "..\\..\\x",
    "'; DROP TABLE raw_calls; --",
    '" OR 1=1 --',
    "{{7*7}}",
    "${7*7}",
    "{0.__class__}",
    "%s%n%(x)s",
    "<!channel>",
    "<@U123>",
    "<https://evil.example|pay here>",
    "```\nescaped```",
    "[link=https://evil.example]rich[/link]",
    "\u202egnp.exe",
    "a\u0000b",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31mred\x9d0;title\x9c",
    "del\x7fete",
    "\u2066left\u2069",
    "\u200bzero\ufeff",
    "line\nbreak\r\nand more",
    "__proto__",
)
CONTROLS = ("\x1b", "\x00", "\x07", "\u202e", "\u200b", "\ufeff", "\r", "\x9b", "\x9d", "\x7f", "\u2066")
APP = "hostile"


def fill(kind: Any, text: str) -> Any:
    """A value of ``kind`` whose every string is ``text``; None where it takes no string."""
    if get_origin(kind) is Annotated:
        unpad, *metas = get_args(kind)
        longest = next((m.max_length for m in metas if isinstance(m, msgspec.Meta) and m.max_length), None)
        value = fill(unpad, text)
        return value[:longest] if isinstance(value, str) and longest else value
    if get_origin(kind) in (Union, types.UnionType):
        return next((v for arm in get_args(kind) if (v := fill(arm, text)) is not None), None)
    if get_origin(kind) is list:
        inner = fill(get_args(kind)[0], text)
        return None if inner is None else [inner]
    if get_origin(kind) is dict:
        return {text or "k": text, "nested": {"list": [text]}}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind, include_extras=True)
        return {n: v for n, h in hints.items() if (v := fill(h, text)) is not None} or None
    return text if kind is str else None


def hostile_event(struct: type[msgspec.Struct], text: str) -> dict[str, Any]:
    body = fill(struct, text)
    body |= {"v": 1, "type": struct.__struct_config__.tag, "id": str(uuid.uuid4()), "ts": now_us() // 1000}
    if struct is Feedback:
        body |= {"target_id": str(uuid.uuid4())} if "target_id" in Feedback.__struct_fields__ else {}
    if struct is Eval:
        body |= {"score": 1.0}
    return body


def hostile_alert(text: str) -> Alert:
    return alert(
        {"app": text, "user": text},
        cause=(Cause("user", text, 0.9, text), Cause(text, text, 0.1, "")),
        changes=(Change("2026-07-01T09:00:00Z", "release", text),),
        evidence=Evidence("SELECT 1", (text,)),
        runbook=(text,),
        links={text: "https://runbooks.example/x", "bad": f"https://x.example/{text}"},
        title=f"Cost of {text} rose",
    )


@pytest.fixture(scope="module")
def lake(broker, tmp_path_factory):
    """A lake in which every text field of every event and alert was hostile once, in each of the ways."""
    home = tmp_path_factory.mktemp("hostile")
    kafka = KafkaConfig(broker.bootstrap, f"h-{uuid.uuid4().hex[:8]}.")
    Admin(kafka).create_topics(TOPICS, partitions=1)
    settings = Settings(
        home=home, kafka=KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=kafka.prefix), web={"port": 0}
    )
    producer = Producer(kafka)
    sent = 0
    for text in HOSTILE:
        for struct in (Call, Feedback, Eval):
            producer.send(EVENTS, json.dumps(hostile_event(struct, text)).encode())
            sent += 1
        producer.send(EVENTS, json.dumps({"v": 1, "type": text, "app": text, "id": text}).encode())
        producer.send(EVENTS, text.encode())
        producer.send(ALERTS, hostile_alert(text).to_json())
        sent += 2
    producer.flush(30)
    producer.close()
    config = LakeConfig(str(home / "lake" / "catalog.sqlite"), str(home / "lake" / "data"))
    stop, facts = threading.Event(), {}
    land = LandConfig(kafka, config, batch_wait_s=0.2, dead_ratio_limit=1.0)
    thread = threading.Thread(
        target=run, args=(land,), kwargs={"stop": stop, "heartbeat": lambda report: facts.update(report.flat())}
    )
    thread.start()
    deadline = time.monotonic() + 90
    try:
        while not (facts.get("commits", 0) >= 1 and facts.get("lag") == 0):
            assert thread.is_alive()
            assert time.monotonic() < deadline, facts
            time.sleep(0.2)
    finally:
        stop.set()
        thread.join(30)
    assert verify(config).ok
    with ReadOnlyLake.open(config) as found:
        yield found, settings, home, sent


def rows(lake, sql):
    return lake[0].query(sql)


def test_every_event_landed_or_is_dead_and_every_valid_text_is_kept_as_data(lake):
    counts = rows(
        lake,
        "SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM feedback) AS feedback, "
        "(SELECT count(*) FROM evals) AS evals, (SELECT count(*) FROM dead) AS dead, "
        "(SELECT count(*) FROM alerts) AS alerts",
    ).to_pylist()[0]
    assert counts["alerts"] == len(HOSTILE)
    assert counts["calls"] + counts["feedback"] + counts["evals"] + counts["dead"] == lake[3]
    # some fields are lists of words (status, kind ...): an event with them all hostile is dead by that
    told = rows(lake, "SELECT DISTINCT reason FROM dead").column(0).to_pylist()
    assert all(
        r.partition(":")[0] in ("not_json", "unknown_type", "range", "type", "missing", "not_object") for r in told
    )


def _terminal(capsys) -> str:
    text = capsys.readouterr().out
    for control in CONTROLS:
        assert control not in text, f"U+{ord(control):04X} reached a terminal"
    return text


QUERIES = (
    "SELECT reason, detail, app, event_id, head FROM dead",
    "SELECT * EXCLUDE (alert) FROM alerts",
    "SELECT title, series, rule FROM alerts",
    "SELECT * FROM calls",
    "SELECT * FROM feedback",
    "SELECT * FROM evals",
)


@pytest.mark.parametrize("sql", QUERIES)
def test_tables_csv_and_json_hold_no_live_text(lake, sql, capsys):
    found = rows(lake, sql)
    table(found)
    _terminal(capsys)
    for line in csv.reader(io.StringIO(to_csv(found))):
        for cell in line:
            for part in re.split(r"[;,\t|\r\n]", cell):
                seen = part.lstrip(" \u00a0\u00ad\u200b\u2028\u202e\u2066\ufeff\x00\x1b\x7f\x9b")
                live = seen.startswith(("=", "+", "-", "@", "\uff1d")) or cell[:1] in ("\t", "\r")
                assert not live or _number(part), f"{cell!r} runs in a spreadsheet"
    text = json_lines(found)
    assert text.isascii()
    assert len([json.loads(line) for line in text.splitlines()]) == found.num_rows


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_csv_round_trip_numbers_stay_numbers_and_text_comes_back_but_for_the_guard():
    texts = [*HOSTILE, "plain", "", "a,b", 'quo"te']
    given = pa.table(
        {
            "text": texts,
            "number": [-1.5] * len(texts),
            "whole": [-7] * len(texts),
            "money": pa.array([Decimal("-0.000000001")] * len(texts), pa.decimal128(18, 9)),
            "as_text": ["-12.5"] * len(texts),
        }
    )
    read = list(csv.DictReader(io.StringIO(to_csv(given), newline="")))
    guard = re.compile("(^|[;,\t|\r\n])'(?=[\t\r\n]|[\\s\u00ad\u200b\ufeff]*[=+@\uff1d-])")
    undone = [r["text"] if r["text"] == t else guard.sub(r"\1", r["text"]) for r, t in zip(read, texts, strict=True)]
    assert undone == texts
    assert {r["number"] for r in read} == {"-1.5"}
    assert {r["whole"] for r in read} == {"-7"}
    assert {Decimal(r["money"]) for r in read} == {Decimal("-0.000000001")}
    assert {r["as_text"] for r in read} == {"-12.5"}, "a number is no formula"
    guarded = [r["text"] for r, t in zip(read, texts, strict=True) if r["text"] != t]
    assert len(guarded) == 18, "seven formulas, one full-width, four behind nothing visible, six behind a separator"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("a, -cmd", "a,' -cmd"),
        ("\u200b=1+1", "'\u200b=1+1"),
        ("-5", "-5"),
        ("1,-5;+2.5e3", "1,-5;+2.5e3"),
        ("a-b=c", "a-b=c"),
        ("", ""),
    ],
)
def test_the_apostrophe_stands_where_a_spreadsheet_would_begin_a_formula(cell, written):
    (_, row) = csv.reader(io.StringIO(to_csv(pa.table({"t": [cell], "n": [1]})), newline=""))
    assert row == [written, "1"]


class Command:
    """``tailrace`` on the hostile lake, on a pipe or on a terminal of its own."""

    def __init__(self, home):
        self._home = home
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"}

    def piped(self, *arguments, stdin=b""):
        done = run_command(self._words(arguments), env=self._env, input=stdin.decode())
        return SimpleNamespace(returncode=done.returncode, stdout=done.stdout.encode(), stderr=done.stderr.encode())

    def on_a_terminal(self, *arguments):
        """(exit code, all that the terminal got)."""
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "tailrace", *self._words(arguments)]
        running = subprocess.Popen(command, env=self._env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        os.close(theirs)
        got = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not read:
                break
            got += read
        os.close(ours)
        return running.wait(60), got.decode()

    def _words(self, arguments):
        return ["--home", str(self._home), *arguments]


@pytest.fixture(scope="module")
def command(lake):
    return Command(lake[2])


LIVE = [c for c in CONTROLS if c not in "\r\x1b"]
"""On a terminal lines end in CR LF, and the log's own colours are escape sequences."""


@pytest.mark.parametrize("control", ["chr(27)", "chr(155)", "chr(8238)"])
def test_a_cell_in_an_error_reaches_the_terminal_without_controls(command, control):
    sql = f"SELECT CAST(title AS INTEGER) FROM alerts WHERE contains(title, {control})"
    code, got = command.on_a_terminal("sql", sql)
    assert code == 2
    assert "Could not convert string" in got
    assert "\x1b[31mred" not in got
    assert not any(c in got for c in LIVE), repr(got)
    asked = command.piped("sql", stdin=sql.encode() + b"\n")
    assert b"Could not convert string" in asked.stderr
    assert not any(c in asked.stderr.decode() for c in CONTROLS), asked.stderr


def test_alerts_as_json_are_printable_ascii_and_the_same_alerts(lake, command):
    got = command.piped("alerts", "list", "--json", "--limit", "1000")
    lines = got.stdout.decode("ascii").splitlines()
    assert all(line.isprintable() for line in lines)
    kept = [json.loads(a) for a in rows(lake, "SELECT alert FROM alerts").column(0).to_pylist()]
    assert sorted(map(json.dumps, map(json.loads, lines))) == sorted(map(json.dumps, kept))


def test_pages_of_alerts_and_calls_reach_the_terminal_without_controls(lake, command):
    escape = "contains(title, chr(27)) OR contains(title, chr(8238))"
    ids = rows(lake, f"SELECT id FROM alerts WHERE {escape}").column(0).to_pylist()
    calls = (
        rows(lake, "SELECT id::VARCHAR FROM raw_calls WHERE contains(output_text, '[31mred') LIMIT 1")
        .column(0)
        .to_pylist()
    )
    assert (len(ids), len(calls)) == (2, 1)
    pages = [("alerts", "list", "--limit", "1000"), *(("alerts", "show", i) for i in ids), ("call", calls[0])]
    for words_ in pages:
        code, got = command.on_a_terminal(*words_)
        assert code == 0, got
        assert "red" in got or "gnp.exe" in got
        plain = re.sub(r"\x1b\[[0-9;]*m", "", got)  # colours of ours: the hostile ones lost their escape
        assert "\ufffd[31mred" in plain or "[31mred" in plain or "gnp.exe" in plain
        assert not any(c in plain.replace("\r\n", "\n") for c in CONTROLS), repr(plain)
        assert "\x1b[31m" not in got


def test_csv_is_cleaned_for_a_terminal_and_exact_in_a_pipe_and_a_file(lake, command, tmp_path):
    sql = "SELECT title FROM alerts ORDER BY title"
    exact = to_csv(rows(lake, sql)).encode()
    assert b"\x1b[31m" in exact
    assert command.piped("sql", sql, "--format", "csv").stdout == exact
    assert command.piped("sql", sql, "--format", "csv", "--out", str(tmp_path / "a.csv")).returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == exact
    code, got = command.on_a_terminal("sql", sql, "--format", "csv")
    assert code == 0
    assert "Cost of {{7*7}} rose" in got
    assert not any(c in got.replace("\r\n", "\n") for c in CONTROLS), repr(got)


def test_names_of_columns_are_cleaned_too(capsys):
    table(pa.table({"\x1b[31mred\u202e": [1]}))
    _terminal(capsys)


def test_whole_dead_events_do_not_go_to_a_terminal(command):
    code, got = command.on_a_terminal("dead", "repair")
    assert code == 2
    assert "--out" in got
    assert "repaired," not in got
    piped = command.piped("dead", "repair", "--quiet")
    assert piped.returncode == 0, piped.stderr
    assert b"still dead" in piped.stderr


def test_what_dead_repair_tells_holds_no_controls(command):
    told = command.piped("dead", "repair").stderr.decode()
    assert "still dead: " in told
    assert not any(c in told for c in CONTROLS)


def test_tail_shows_strangers_texts_without_controls(lake):
    found = list(landed.follow(lake[1], since=0, until=iter([False, True]).__next__))
    assert len(found) == lake[3]
    for row in found:
        line = landed.line(row)
        assert "\n" not in line
        assert not any(control in line for control in CONTROLS)
        assert json.dumps(row, default=str).isascii(), "--json is ASCII"


@pytest.mark.parametrize("text", HOSTILE)
def test_slack_gets_literal_text_and_nothing_that_slack_would_run(text):
    body = json.dumps(payload(hostile_alert(text)), ensure_ascii=False)
    whole = [v for v in _strings(payload(hostile_alert(text))) if not v.startswith(("https://runbooks", "#"))]
    for value in whole:
        for match in _angles(value):
            assert match.startswith(("https://runbooks.example/x|", "https://x.example/")), match
            assert "evil" not in match.partition("|")[0] or match.startswith("https://x.example/")
        assert "<!" not in value
        assert "<@" not in value
    assert not any(control in body for control in ("\x1b", "\u202e", "\\u0000", "\\u001b"))
    title, plain = as_text(hostile_alert(text))
    # a zero width space behind every @ is ours: it takes the meaning away
    assert not any(control in (title + plain).replace("@\u200b", "@") for control in CONTROLS)
    assert "<!channel>" not in plain
    assert "@everyone" not in plain


def _angles(value: str) -> list[str]:
    return [part.partition(">")[0] for part in value.split("<")[1:]]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _strings(item)]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_webhook_body_is_json_that_gives_the_text_back_and_no_raw_control(text):
    body = hostile_alert(text).to_json()
    assert Alert.from_json(body).series["app"] == text
    assert not any(byte < 0x20 for byte in body)


def test_evidence_sql_of_a_hostile_series_is_a_literal(lake):
    from pipelines.alerts.evidence import literal

    for text in HOSTILE:
        if "\0" in text:
            continue  # land replaced it: no series can hold one
        found = rows(lake, f"SELECT {literal(text)} AS said, (SELECT count(*) FROM alerts) AS n").to_pylist()
        assert found == [{"said": text, "n": len(HOSTILE)}]


def test_names_from_events_never_become_paths(lake):
    _, _, home, _ = lake
    names = [str(p.relative_to(home)) for p in Path(home).rglob("*")]
    assert names
    for name in names:
        assert ".." not in name
        assert "etc" not in name.split("/")
        assert "%2e" not in name.lower()
        assert not any(word in name for word in ("DROP", "script", "evil", "hostile'"))
    assert not list(Path(home).parent.glob("passwd"))
