"""docs/reference/events.md: each example lands as it is, each snippet sends an event that lands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tailrace_emitter
from pipelines.decode import Accepted, DuplicateWindow, decode, verdict
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.encode import Policy, encode

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
KAFKA_TIME = 1_795_244_400_000_000
AN_ID = "0199f3a4-0000-7000-8000-000000000001"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def landed(values: list[bytes]) -> list[dict[str, Any]]:
    n = len(values)
    records = Records("llm.events", [0] * n, list(range(n)), [KAFKA_TIME] * n, [None] * n, values, [()] * n)
    decoded = decode(records, PriceBooks([default_book()]), DuplicateWindow(), epoch=0, landed_at=KAFKA_TIME)
    assert decoded.dead.to_pylist() == []
    rows: list[dict[str, Any]] = decoded.calls.to_pylist()
    return rows


def test_the_five_examples_land_whole_and_priced():
    minimal, full, stream, rag, tool = landed([text.encode() for text in blocks("json")])
    for row in (minimal, full, stream, rag, tool):
        assert row["cost_status"] == "computed", row["app"]
        assert row["_flags"] is None
        assert row["extra"] in (None, '{"region":"eu-1"}')
    assert (minimal["input_tokens"], minimal["output_tokens"], minimal["latency_ms"]) == (420, 97, 812.4)
    assert (full["user_id"], full["tenant_id"], full["prompt_version"]) == ("u-17", "acme", "17")
    assert (full["input_text"], full["guardrail_triggered"]) == ("My address is <EMAIL_1>. How do I change it?", True)
    assert (stream["stream"], stream["ttft_ms"]) == (True, 380.5)
    assert [doc["id"] for doc in rag["retrieval_docs"]] == ["contract-7", "contract-3"]
    assert tool["tools"][0]["name"] == "search_flights"


def test_the_python_snippet_runs_as_it_stands(monkeypatch):
    emitter = Emitter("docs", bootstrap_servers="127.0.0.1:9", sigterm=False)
    sent: list[tuple[str, dict[str, Any]]] = []

    def put(kind: str, fields: dict[str, Any], **_: Any) -> str:
        sent.append((kind, fields))
        return AN_ID

    monkeypatch.setattr(emitter._sender, "put", put)
    monkeypatch.setattr(tailrace_emitter, "_default", emitter)
    (snippet,) = blocks("python")
    exec(compile(snippet, "docs/reference/events.md", "exec"), {})
    messages = [encode(kind, AN_ID, 0, fields, Policy("docs")) for kind, fields in sent]
    assert [kind for kind, _ in sent] == ["call", "feedback", "feedback"]
    assert all(not message.remarks for message in messages)
    assert all(isinstance(found := verdict(m.value), Accepted) and not found.flags for m in messages)
    (row,) = landed([messages[0].value])
    assert (row["input_tokens"], row["response_id"], row["output_text"][:4]) == (420, "chatcmpl-9x", "Open")


def stub(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def test_the_kcat_snippet_sends_an_event_that_lands(tmp_path):
    snippet = next(text for text in blocks("sh") if text.startswith("kcat"))
    stub(tmp_path, "kcat", f'#!/bin/sh\necho "$@" > {tmp_path}/options\ncat > {tmp_path}/sent\n')
    stub(tmp_path, "uuidgen", f"#!/bin/sh\n{sys.executable} -c 'import uuid; print(uuid.uuid4())'\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TAILRACE_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
    subprocess.run(["sh", "-eu", "-c", snippet], env=env, check=True)
    assert (tmp_path / "options").read_text() == "-P -b 127.0.0.1:9092 -t llm.events -H v=1\n"
    (row,) = landed([(tmp_path / "sent").read_bytes().strip()])
    assert (row["input_tokens"], row["cost_status"]) == (420, "computed")


def run_with_node(snippet: str, folder: Path) -> bytes:
    module = folder / "node_modules" / "kafkajs"
    module.mkdir(parents=True)
    (module / "index.js").write_text(
        "exports.Kafka = class { constructor(options) { this.options = options; }\n"
        "  producer() { return { connect: async () => {}, disconnect: async () => {},\n"
        "    send: async (sent) => console.log(JSON.stringify({ ...this.options, ...sent })) }; } };\n"
    )
    (folder / "send.js").write_text(snippet)
    env = {"PATH": os.environ["PATH"], "TAILRACE_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
    done = subprocess.run(["node", "send.js"], cwd=folder, env=env, capture_output=True, text=True, check=True)
    sent = json.loads(done.stdout)
    assert (sent["brokers"], sent["topic"]) == (["127.0.0.1:9092"], "llm.events")
    assert sent["messages"][0]["headers"] == {"v": "1"}
    return bytes(sent["messages"][0]["value"], "utf-8")


def read_as_written(snippet: str) -> bytes:
    event = re.search(r"const event = (\{.*?\n  \});", snippet, re.DOTALL)
    assert event
    text = event.group(1).replace("randomUUID()", f'"{AN_ID}"')
    text = text.replace("new Date().toISOString()", '"2026-11-21T07:00:00Z"')
    text = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', text)
    return json.dumps(json.loads(re.sub(r",(\s*\})", r"\1", text))).encode()


def test_the_node_snippet_sends_an_event_that_lands(tmp_path):
    (snippet,) = blocks("js")
    values = [read_as_written(snippet)]
    if shutil.which("node"):
        values.append(run_with_node(snippet, tmp_path))
    for row in landed(values):
        assert (row["stream"], row["ttft_ms"], row["cost_status"]) == (True, 380.5, "computed")


@pytest.mark.parametrize("name", ["input_token", "prompt_tokens", "sessionId", "gen_ai.usage.input_tokens"])
def test_the_names_that_the_page_calls_unknown_are_flagged(name):
    event = json.loads(blocks("json")[0]) | {name: 1}
    found = verdict(json.dumps(event).encode())
    assert isinstance(found, Accepted)
    assert found.flags == (f"unknown_field:{name}",)
    assert f"`{name}`" in PAGE
