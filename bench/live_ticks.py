"""What detect costs live, part by part, and the least that reading its messages can cost.

The traffic is that of ``live`` in ``bench/catch_up.py``: apps of 0.1 to 5 calls a second, record by record as they
arrive, a tick a second, three incidents. Times are CPU time of one core.

``app_buckets_per_s`` counts ticks, in which all judging is done; ``all_per_s`` reading the rollups as well; ``spread``
is of the first. ``parts``: µs an app-bucket, measured in rounds of their own, for each look at the clock costs a few
µs. decode: a message to columns; windows and side: adding it to the sums, and to what the tests of a minute read;
learn: buckets that closed; bounds: making bounds again; minutes: the tests of a minute; tick: the rest of a tick.
``floor``: the same messages opened and read by pyarrow, and their integers taken, and no more: ``open_us`` and
``read_us`` a message, ``us`` an app-bucket, ``per_s`` the app-buckets a second that this alone would allow.
``checkpoint_ms``: of one, every 15 s; ``checkpoint_us`` an app-bucket.

    python bench/live_ticks.py [--apps 200]     (QUICK=1 for a short form)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from _report import machine, report, spread
from catch_up import LIVE_APPS, LIVE_S, live, run, run_live

from pipelines.detect import judge as judge_module
from pipelines.detect.app_judge import AppJudge
from pipelines.detect.detectors.minute import MinuteTable
from pipelines.detect.guards import Guards
from pipelines.detect.items import COLUMNS
from pipelines.detect.judge import Judge
from pipelines.detect.side import Side
from pipelines.detect.snapshot import dump, load
from pipelines.detect.windows import Windows
from schemas.records import Record
from schemas.rollups import H_KIND, ROLLUP, SPAN_KEY

ROUNDS = 3
CHECKPOINT_S = 15
_MEASURED: tuple[tuple[Any, str, str], ...] = (
    (judge_module, "parse", "decode"),
    (Windows, "add", "windows"),
    (Side, "note", "side"),
    (Side, "read", "side"),
    (AppJudge, "learn", "learn"),
    (AppJudge, "_is_quiet", "bounds"),
    (Judge, "step", "tick"),
    (Guards, "look", "tick"),
    (MinuteTable, "may_find", "minutes"),
)


class Parts:
    """CPU time by part; what a part calls of another counts there alone."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._open: list[str] = ["bench"]
        self._since = 0.0
        self._kept = [(owner, name, getattr(owner, name)) for owner, name, _ in _MEASURED]

    def __enter__(self) -> Parts:
        self._since = time.process_time()
        for owner, name, part in _MEASURED:
            setattr(owner, name, self._measured(getattr(owner, name), part))
        return self

    def __exit__(self, *error: object) -> None:
        for owner, name, function in self._kept:
            setattr(owner, name, function)
        self._switch("bench")
        del self.spent["bench"]

    def _switch(self, part: str) -> None:
        now = time.process_time()
        self.spent[self._open[-1]] = self.spent.get(self._open[-1], 0.0) + now - self._since
        self._since = now
        self._open.append(part)

    def _measured(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._switch(part)
            try:
                return function(*arguments, **options)
            finally:
                self._switch(self._open[-2])
                del self._open[-2:]

        return call


def messages(records: list[Record]) -> list[bytes]:
    """Return the rollups that detect reads."""
    found = [r for r in records if dict(r.headers).get(H_KIND) != b"tick" and r.key != SPAN_KEY.encode()]
    return [record.value or b"" for record in found]


def floor(values: list[bytes]) -> tuple[float, float]:
    """µs a message to open it, and to read it with as many integers as detect reads."""
    places = range(3, 3 + len(COLUMNS))
    assert all(ROLLUP.field(place).type == pa.int64() for place in places)
    began = time.process_time()
    for value in values:
        with pa.ipc.open_stream(value):
            pass
    opened = time.process_time()
    for value in values:
        with pa.ipc.open_stream(value) as reader:
            batch = reader.read_next_batch()
            for place in places:
                batch.column(place).to_numpy(zero_copy_only=False)
    return 1e6 * (opened - began) / len(values), 1e6 * (time.process_time() - opened) / len(values)


def checkpoint_ms(state: bytes) -> float:
    """CPU time of one, ms: of a state whose buckets are merged, but for the last 15 s."""
    held = load(state)
    began = time.process_time()
    dump(held)
    return 1e3 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, default=LIVE_APPS)
    number = parser.parse_args().apps
    print(machine("numpy", "pyarrow"), flush=True)
    past, records = live(number)
    before, values = dump(run(Judge(), past)[1]), messages(records)
    rates, every, parts, floors, checkpoints, buckets = [], [], list[dict[str, float]](), [], [], 1
    floor(values[:50])
    for _ in range(ROUNDS):
        rollups, ticks = run_live(Judge(), before, records)
        buckets = ticks.buckets
        rates.append(buckets / ticks.cpu_s)
        every.append(buckets / (ticks.cpu_s + rollups.cpu_s))
        floors.append(floor(values))
        checkpoints.append(checkpoint_ms(before))
        with Parts() as measured:
            run_live(Judge(), before, records)
        parts.append(measured.spent)
        sys.stdout.write(f"{rates[-1]:.0f} app-buckets a CPU-second, {every[-1]:.0f} with reading\n")
        sys.stdout.flush()
    opened, read = (spread([each[i] for each in floors], 1)[1] for i in (0, 1))
    least = read * len(values) / buckets
    checkpoint = spread(checkpoints, 2)[1]
    report(
        {
            "apps": number,
            "app_buckets_per_s": spread(rates)[1],
            "all_per_s": spread(every)[1],
            "messages_per_app_bucket": round(len(values) / buckets, 2),
            "bytes_per_message": round(sum(map(len, values)) / len(values)),
            "parts": {n: round(1e6 * spread([p[n] for p in parts], 6)[1] / buckets, 1) for n in sorted(parts[0])},
            "floor": {"open_us": opened, "read_us": read, "us": round(least, 1), "per_s": round(1e6 / least)},
            "checkpoint_ms": checkpoint,
            "checkpoint_us": round(1e3 * checkpoint * LIVE_S / CHECKPOINT_S / buckets, 1),
            "spread": spread(rates),
        },
        "numpy",
        "pyarrow",
    )


if __name__ == "__main__":
    main()
