"""A week of calls scored: time and memory of the job ``evals`` on a synthetic lake, all scorers but a judge.

The lake is made by appending Arrow batches: 1,000,000 calls (QUICK=1: 100,000) of 7 days, 4 apps, 30 features, 6 models
and 12 prompt versions, with prompts and answers; a third has retrieved texts. The job runs in a process of its own with
its defaults: 2,000 calls drawn, every scorer. Its scores go into memory, encoded as they go to Kafka. ``peak_mib`` is
the peak of the job's process and that of the embedding model's process added.

``limit_s`` 600 and ``limit_mib`` 2048 hold for the million.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from _report import QUICK, REPO, report

from jobs.evals.job import evals
from jobs.evals.scorers import Embedding, scorers_with
from schemas.records import Move
from schemas.tables import RAW_CALLS
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

CALLS = 100_000 if QUICK else 1_000_000
BATCH = 50_000
LIMIT_S, LIMIT_MIB = 600, 2048
EVENTS = "llm.events"
MONDAY = date(2026, 11, 9)
NOW = 1_795_000_000_000_000
_WORDS = [
    f"{a}{b}"
    for a in ("re", "con", "per", "sub", "trans", "in")
    for b in ("fund", "tract", "mit", "form", "fer", "vent", "sist")
]


def texts(rng: np.random.Generator, count: int, sentences: int) -> list[str]:
    words = np.array(_WORDS)
    return [
        " ".join(" ".join(words[rng.integers(len(words), size=12)]).capitalize() + "." for _ in range(sentences))
        for _ in range(count)
    ]


def batch(rng: np.random.Generator, start: int, pool: dict[str, list[str]]) -> pa.Table:
    at = datetime(MONDAY.year, MONDAY.month, MONDAY.day, tzinfo=UTC)
    rows = range(start, start + BATCH)
    times = [at + timedelta(microseconds=int(i * 604_800_000_000 // CALLS)) for i in rows]
    app, feature, model, prompt = (rng.zipf(1.6, BATCH) % n for n in (4, 30, 6, 12))
    asked = [pool["questions"][i] for i in rng.integers(len(pool["questions"]), size=BATCH)]
    docs = [
        [{"id": "d", "rank": 1, "text": pool["answers"][i]}] if i % 3 == 0 else None
        for i in rng.integers(len(pool["answers"]), size=BATCH)
    ]
    columns = {
        "v": [1] * BATCH,
        "id": [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in rows],
        "ts": times,
        "app": [f"app-{i}" for i in app],
        "feature": [f"feature-{i}" for i in feature],
        "model": [f"model-{i}" for i in model],
        "prompt_name": ["answer"] * BATCH,
        "prompt_version": [str(i) for i in prompt],
        "status": ["ok"] * BATCH,
        "finish_reason": ["length" if x else "stop" for x in rng.random(BATCH) < 0.03],
        "content_mode": ["redacted" if x else "none" for x in rng.random(BATCH) < 0.7],
        "messages": [[{"role": "user", "text": text}] for text in asked],
        "input_text": asked,
        "output_text": [pool["answers"][i] for i in rng.integers(len(pool["answers"]), size=BATCH)],
        "retrieval_docs": docs,
        "_epoch": [0] * BATCH,
        "_partition": [0] * BATCH,
        "_offset": list(rows),
        "_kafka_time": times,
        "_landed_at": times,
        "_dup": [False] * BATCH,
        "day": [time.date() for time in times],
    }
    return pa.table({name: pa.array(values, RAW_CALLS.schema.field(name).type) for name, values in columns.items()})


def make(config: LakeConfig) -> None:
    rng = np.random.default_rng(1)
    pool = {"questions": texts(rng, 5_000, 2), "answers": texts(rng, 20_000, 5)}
    with Lake.open(config, now=lambda: NOW) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        for start in range(0, CALLS, BATCH):
            lake.append({"raw_calls": batch(rng, start, pool)}, [Move(EVENTS, 0, start, start + BATCH)])


class Counted:
    """An outlet that keeps nothing."""

    def __init__(self) -> None:
        self.events = self.bytes = 0

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Count."""
        for _, value in messages:
            self.events += 1
            self.bytes += len(value)

    def catch_up(self) -> bool:
        """Nothing is under way."""
        return True


def job(home: Path) -> None:
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    outlet, embedding, steps = Counted(), Embedding(), []
    began = time.monotonic()
    found = evals(
        config,
        outlet,
        (MONDAY, MONDAY + timedelta(days=6)),
        now=lambda: NOW + int((time.monotonic() - began) * 1e6),
        scorers=scorers_with(embedding),
        progress=lambda done, total: steps.append(time.monotonic() - began),
    )
    embedding.close()
    peaks = [resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used, model = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        **{"calls": found.calls, "strata": found.strata, "sampled": found.sampled, "scores": found.scores},
        **{
            "took_s": found.took_s,
            "first_slice_s": round(steps[0], 1),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "cpu_model_s": round(model.ru_utime + model.ru_stime, 1),
        },
        **{"peak_mib": sum(peaks), "peak_job_mib": peaks[0], "peak_model_mib": peaks[1], "bytes": outlet.bytes},
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        began = time.monotonic()
        make(LakeConfig(str(home / "catalog.sqlite"), str(home / "data"), memory_limit="1GiB"))
        print(f"{CALLS} calls appended in {time.monotonic() - began:.0f} s", flush=True)
        command = [sys.executable, __file__, "job", folder]
        done = subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    ok = figures["took_s"] < LIMIT_S and figures["peak_mib"] < LIMIT_MIB
    print(
        f"{figures['took_s']:.0f} s of {LIMIT_S}, {figures['peak_mib']} MiB of {LIMIT_MIB}: {'ok' if ok else 'FAILED'}"
    )
    report({**figures, "limit_s": LIMIT_S, "limit_mib": LIMIT_MIB, "ok": ok}, "duckdb", "pyarrow", "numpy")
    if not ok:
        sys.exit(1)


if __name__ == "__main__":
    job(Path(sys.argv[2])) if sys.argv[1:2] == ["job"] else main()
