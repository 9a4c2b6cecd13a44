"""Throws mutated events at decoding: no input may raise, hang, lose a neighbour, or part land from meter.

    python bench/fuzz.py [INPUTS] [SEED]      (default 1,000,000; QUICK=1: 20,000)

The last line is {"inputs": ..., "failures": ...}. A failing batch is halved until one input is left, which is printed.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
import time
import uuid
from pathlib import Path

from pipelines.decode import DuplicateWindow, Reject, decode, decode_metered, verdict
from pipelines.decode.reasons import FIELD_REASONS, REASONS
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter.event import Call, Eval, Feedback

CORPUS = Path(__file__).parent.parent / "tests" / "corpus" / "events.jsonl"
SIZE = 2_000
TIME = 1_795_244_400_000_000
TOKENS = [
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"null",
        b"true",
        b"NaN",
        b"1e309",
        b"-0",
        b"0.1",
        b"\n",
        b"\x00",
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\u003a",
        b"\\u0022",
        b"\xff",
        b"\xc2\x80",
        b'"_x":1,',
        b'"id":',
        b'"extra":{',
        b"9" * 30,
        b" ",
    ),
]
KEYS = sorted(
    {k for t in (Call, Feedback, Eval) for k in t.__struct_fields__} | {"type", "new", "_x", "input", "text", ""}
)
GOOD = json.dumps({"v": 1, "type": "call", "ts": 0, "app": "a", "model": "m", "id": "%s"})


def seeds() -> list[bytes]:
    values = []
    for line in CORPUS.read_text().splitlines():
        case = json.loads(line)
        value = base64.b64decode(case["base64"]) if "base64" in case else (case.get("value") or "").encode()
        if 0 < len(value) < 3000:
            values.append(value)
    return values


def anything(draw: random.Random, depth: int = 0) -> object:
    kind = draw.randrange(9 if depth < 4 else 7)
    if kind < 2:
        return draw.choice([None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, 10**30, 1.5, -0.0, 1e308, 5e-324])
    if kind < 5:
        return draw.choice(
            [
                "",
                "x",
                "ok",
                "full",
                "2026-11-21T07:00:00Z",
                str(uuid.UUID(int=draw.getrandbits(128))),
                "é\x00\ud800",
                "x" * 300,
            ]
        )
    if kind < 7:
        return draw.randrange(-5, 2**40)
    if kind == 7:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(KEYS): anything(draw, depth + 1) for _ in range(draw.randrange(5))}


def plausible(draw: random.Random, value: object) -> object:
    """A value of the same kind, so that many inputs are accepted and reach the columns."""
    if isinstance(value, bool) or value is None:
        return draw.choice([True, False, None])
    if isinstance(value, int | float):
        return draw.choice([0, 1, 7, 2**31 - 1, 2**53 - 1, value])
    if isinstance(value, str):
        return value[: draw.randrange(len(value) + 1)] + draw.choice(
            ["", "é", "\x00", "\x1b", "\ud800", "\\", '"', ":", "\n", "\x7f", "a@b.example", "\u202e"]
        )
    return anything(draw)


def reshaped(draw: random.Random, event: dict[str, object]) -> bytes:
    """An event with a leaf replaced, dropped or added somewhere, in one of the spellings that JSON allows."""
    event = json.loads(json.dumps(event))
    for _ in range(draw.randrange(1, 4)):
        holder = event
        while (inner := [v for v in holder.values() if isinstance(v, dict) and v]) and draw.random() < 0.6:
            holder = draw.choice(inner)
        key = draw.choice(list(holder))
        how = draw.randrange(6)
        if how == 0:
            holder[draw.choice(KEYS)] = anything(draw)
        elif how == 1 and key not in ("v", "type", "id", "ts", "app", "model"):
            del holder[key]
        elif key not in ("v", "type", "id", "ts"):
            holder[key] = plausible(draw, holder[key])
        if not holder:
            break
    event["id"] = str(uuid.UUID(int=draw.getrandbits(128)))
    separators = draw.choice([None, (",", ":"), (", ", " : "), (",\n", ":\t")])
    return json.dumps(event, ensure_ascii=draw.random() < 0.7, separators=separators).encode("utf-8", "surrogatepass")


def mutate(draw: random.Random, pool: list[bytes], events: list[dict[str, object]]) -> bytes:
    if draw.random() < 0.5:
        return reshaped(draw, draw.choice(events))
    value = bytearray(draw.choice(pool))
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(value) + 1)
        how = draw.randrange(5)
        if how == 0:
            value[at:at] = draw.choice(TOKENS)
        elif how == 1:
            del value[at : at + draw.randrange(1, 9)]
        elif how == 2 and at < len(value):
            value[at] = draw.randrange(256)
        elif how == 3:
            other = draw.choice(pool)
            start = draw.randrange(len(other))
            value[at:at] = other[start : start + draw.randrange(1, 60)]
        else:
            value[at : at + draw.randrange(4)] = draw.choice(TOKENS)
    return bytes(value)


def wrong(values: list[bytes], books: PriceBooks) -> str:
    """Return what went wrong with a batch, empty if nothing did."""
    mixed = [v for i, value in enumerate(values) for v in ((GOOD % uuid.UUID(int=2**100 + i)).encode(), value)]
    n = len(mixed)
    batch = Records("llm.events", [0] * n, list(range(n)), [TIME] * n, [None] * n, list(mixed), [()] * n)
    try:
        dead = {2 * i + 1: v.reason for i, value in enumerate(values) if isinstance(v := verdict(value), Reject)}
        landed = decode(batch, books, DuplicateWindow(), epoch=0, landed_at=0)
        metered = decode_metered(batch, books, DuplicateWindow(), epoch=0)
    except Exception as error:  # noqa: BLE001 - finding these is what a fuzzer is for
        return f"raised {type(error).__name__}: {error}"
    if dict(zip(landed.dead["_offset"].to_pylist(), landed.dead["reason"].to_pylist(), strict=True)) != dead:
        return "dead rows differ from the verdicts"
    if landed.dead_bytes["bytes"].to_pylist() != [mixed[offset] for offset in dead]:
        return "dead_bytes differ from what came in"
    if any(r not in REASONS and r.split(":")[0] not in FIELD_REASONS for r in dead.values()):
        return "a reason outside the closed list"
    ids = dict(zip(landed.calls["_offset"].to_pylist(), landed.calls["id"].to_pylist(), strict=True))
    if any(ids.get(2 * i) != str(uuid.UUID(int=2**100 + i)) for i in range(len(values))):
        return "a good neighbour is lost or shifted"
    if landed.accepted + len(dead) != n:
        return "rows do not add up"
    if metered.dead != len(dead) or metered.dups != landed.dups:
        return "meter counts otherwise than land"
    alive = [not dup for dup in landed.calls["_dup"].to_pylist()]
    if not metered.table.select(["_offset", "id", "cost_usd"]).equals(
        landed.calls.filter(alive).select(["_offset", "id", "cost_usd"])
    ):
        return "meter's calls differ from land's"
    return ""


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000 if os.environ.get("QUICK") else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    draw, pool, books = random.Random(seed), seeds(), PriceBooks([default_book()])
    events = [json.loads(v) for v in pool if not isinstance(verdict(v), Reject)]
    failures, done, began, slowest, dead = 0, 0, time.monotonic(), 0.0, 0
    print(f"seed {seed}, {len(pool)} events to start from", flush=True)
    while done < total:
        values = [mutate(draw, pool, events) for _ in range(min(SIZE, total - done))]
        start = time.process_time()
        problem = wrong(values, books)
        slowest = max(slowest, time.process_time() - start)
        done += len(values)
        dead += sum(isinstance(verdict(v), Reject) for v in values[:100])
        while problem:
            failures += 1
            while len(values) > 1:
                half = values[: len(values) // 2]
                values = half if wrong(half, books) else values[len(values) // 2 :]
            print(f"FAILED ({problem}; {wrong(values, books)}): {values[0]!r}", flush=True)
            break
        if done % (50 * SIZE) == 0:
            print(f"{done:,} inputs, {failures} failures, {done / (time.monotonic() - began):,.0f}/s", flush=True)
    print(
        json.dumps(
            {
                "inputs": done,
                "failures": failures,
                "seed": seed,
                "dead_share": round(dead / max(1, done // SIZE * 100), 3),
                "slowest_batch_cpu_s": round(slowest, 3),
                "seconds": round(time.monotonic() - began),
            }
        )
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
