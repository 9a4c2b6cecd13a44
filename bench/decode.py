"""What decoding costs: events per CPU-second, clean, redacting, one bad in 10,000, all with a new key.

    python bench/decode.py        (QUICK=1 for a short form)

The last line is one JSON object. Rounds are interleaved; the limit in the same run is msgspec alone, decode and encode.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import statistics
import time
import uuid
from collections.abc import Callable

import msgspec

from pipelines.decode import DuplicateWindow, Redaction, decode, decode_metered
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter.event import AnyEvent
from tailrace_emitter.people import People

ROWS = 10_000
ROUNDS = 3 if os.environ.get("QUICK") else 7
TIME = 1_795_244_400_000_000


def events(n: int, words: int, *, marked: bool = True, **more: object) -> list[bytes]:
    """Events of about 1 KB (words=45 a side) or 4 KB (words=300), made-up text."""
    draw = random.Random(n + words)
    lexicon = [
        f"{draw.choice('bcdfglmnprstv')}{draw.choice('aeiou')}{draw.choice('lmnrst')}{i % 97}" for i in range(4000)
    ]

    def text() -> str:
        return " ".join(draw.choices(lexicon, k=words))

    out = []
    mode = {"mode": "redacted"} if marked else {}
    for i in range(n):
        event = {
            "v": 1, "type": "call", "id": str(uuid.UUID(int=draw.getrandbits(128))),
            "ts": f"2026-11-21T07:00:{i % 60:02d}.{i % 1000:03d}Z", "app": "support-bot",
            "model": draw.choice(["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"]), "feature": f"f{i % 7}",
            "team": "support", "tenant": f"t{i % 50}", "user": f"u{i % 1000}", "status": "ok", "finish_reason": "stop",
            "latency": {"total_ms": 812.4 + i, "ttft_ms": 120.5}, "release": "2.4.1",
            "tokens": {"input": 420 + i % 50, "output": 97, "cache_read": 10},
            "prompt": {"name": "answer", "version": "17"},
            "content": {"input": [{"role": "user", "text": text()}], "output": text()} | mode,
            "guardrails": [{"name": "pii", "stage": "input", "action": "pass"}],
        }  # fmt: skip
        out.append(json.dumps(event | more).encode())
    return out


def records(values: list[bytes]) -> Records:
    n = len(values)
    return Records(
        "llm.events",
        [i % 4 for i in range(n)],
        [i // 4 for i in range(n)],
        [TIME] * n,
        [None] * n,
        list(values),
        [()] * n,
    )


def cases() -> dict[str, Callable[[], object]]:
    books = PriceBooks([default_book()])
    small = events(ROWS, 45)
    large = events(ROWS // 4, 300)
    one_bad = [*small[: ROWS // 2], b'{"v":1,"type":"call"', *small[ROWS // 2 + 1 :]]
    decoder = msgspec.json.Decoder(AnyEvent)
    encode = msgspec.json.encode
    batches = {
        "clean": records(small),
        "emitter_form": records([encode(decoder.decode(value)) for value in small]),
        "clean_4kb": records(large),
        "one_bad": records(one_bad),
        "redacting": records(events(ROWS, 45, marked=False)),
        "redacting_4kb": records(events(ROWS // 4, 300, marked=False)),
        "new_key_everywhere": records(events(ROWS, 45, shiny=1)),
    }

    people = Redaction(people=People("key"))

    def land(batch: Records, rules: Redaction | None = None) -> Callable[[], object]:
        return lambda: decode(batch, books, DuplicateWindow(), epoch=0, landed_at=TIME, rules=rules)

    def limit() -> None:
        for value in small:
            encode(decoder.decode(value))

    found: dict[str, Callable[[], object]] = {name: land(batch) for name, batch in batches.items()}
    found["clean_people"] = land(batches["clean"], people)  # as land runs it: users are looked at
    found["metered_people"] = lambda: decode_metered(batches["clean"], books, DuplicateWindow(), epoch=0, rules=people)
    found["metered"] = lambda: decode_metered(batches["clean"], books, DuplicateWindow(), epoch=0)
    found["metered_4kb"] = lambda: decode_metered(batches["clean_4kb"], books, DuplicateWindow(), epoch=0)
    found["msgspec_limit"] = limit
    return found


def main() -> None:
    todo = cases()
    took: dict[str, list[float]] = {name: [] for name in todo}
    for run in todo.values():
        run()  # warm
    for _ in range(ROUNDS):
        for name, run in todo.items():
            began = time.process_time()
            run()
            took[name].append(time.process_time() - began)
    rows = {name: ROWS // 4 if name.endswith("4kb") else ROWS for name in todo}
    per_cpu_s = {name: round(rows[name] / statistics.median(t)) for name, t in took.items()}
    for name, rate in per_cpu_s.items():
        lo, hi = (round(rows[name] / t) for t in (max(took[name]), min(took[name])))
        print(f"{name:20s} {rate:>9,} events per CPU-second  [{lo:,} .. {hi:,}]  {1e6 / rate:.1f} us")
    print(
        json.dumps(
            {
                **{f"{name}_per_cpu_s": rate for name, rate in per_cpu_s.items()},
                "one_bad_ratio": round(statistics.median(took["one_bad"]) / statistics.median(took["clean"]), 3),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "date": time.strftime("%Y-%m-%d"),
            }
        )
    )


if __name__ == "__main__":
    main()
