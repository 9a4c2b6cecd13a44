"""Events out of files: JSON lines as they are, or Parquet traffic (times and token counts) joined with texts.

Traffic files are distinguished by their columns: Azure (``service, t_s``), Mooncake (``workload, t_s``)
and ServeGen (``t_ms, model, client_id``). Everything is a function of the file, the texts and the seed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from schemas.errors import UNREADABLE, FatalError
from tailrace.files import FileRefusedError, refused

SECOND = 1_000_000


class NotEventsError(FatalError):
    """A file has neither events nor traffic of a known format."""

    def __init__(self, path: Path, found: Sequence[str]) -> None:
        super().__init__(
            f"cannot replay {path}: columns {', '.join(found)} are neither events (one column `event` of JSON) "
            "nor Azure, Mooncake or ServeGen traffic"
        )


@dataclass(frozen=True)
class Texts:
    """Pairs of a question and an answer, drawn by the seed."""

    pairs: tuple[tuple[str, str], ...]

    @staticmethod
    def read(folder: Path, *, model: str = "gpt4_1106_preview") -> Texts:
        """Read AlpacaEval's instructions and one model's answers from ``folder``."""
        with _parquet_errors(folder):
            asked = _parquet(folder / "alpaca_eval_instructions.parquet").select("instruction_id", "instruction")
            answers = _parquet(folder / "alpaca_eval_outputs.parquet").filter(pl.col("model") == model)
        joined = asked.with_columns(pl.col("instruction_id").cast(pl.Int64)).join(
            answers.with_columns(pl.col("instruction_id").cast(pl.Int64)), on="instruction_id"
        )
        rows = joined.sort("instruction_id").select("instruction", "output").rows()
        return Texts(tuple((str(q), str(a)) for q, a in rows))


@dataclass(frozen=True)
class Timed:
    """One event as it goes on the wire, and when it happened: µs from the start of the file."""

    after: int
    key: bytes
    event: dict[str, Any]


def key_of(event: dict[str, Any]) -> bytes:
    """Return the Kafka key: trace, else session, else the event's own id."""
    return str(event.get("trace_id") or event.get("session_id") or event.get("id") or "").encode()


def key_of_line(line: bytes) -> bytes | None:
    """Return the Kafka key of one event as JSON; None where it cannot be read as an object."""
    try:
        event = msgspec.json.decode(line)
        return key_of(event) if isinstance(event, dict) else None
    except UNREADABLE:
        return None


def read_traffic(
    path: Path, *, texts: Texts | None, seed: int, start: int, limit: int | None = None
) -> Iterator[Timed]:
    """Yield the calls of a Parquet traffic file, in the order of their time.

    Args:
        path: the file.
        texts: their texts; None = no content.
        seed: draws texts, users and ids.
        start: event time of the first moment, µs UTC.
        limit: the most events.
    """
    frame = _parquet(path)
    calls = _calls(path, frame).sort("t_us", maintain_order=True)
    rng = random.Random(f"{seed}-{path.name}")
    for row in calls.head(limit or len(calls)).iter_rows(named=True):
        after = int(row["t_us"])
        event = _event(row, rng, start + after, texts)
        yield Timed(after, key_of(event), event)


def _calls(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    have = set(frame.columns)
    tokens = ["input_tokens", "output_tokens"]
    no_cache = pl.lit(None, pl.Int64).alias("cached")
    seconds = (pl.col("t_s") * SECOND).round().cast(pl.Int64).alias("t_us") if "t_s" in have else pl.lit(0)
    if {"service", "t_s", *tokens} <= have:
        names = [(pl.lit("azure-") + pl.col("service")).alias("app"), pl.lit("gpt-4o").alias("model")]
        return frame.select(seconds, *names, pl.lit(None, pl.String).alias("tenant"), *tokens, no_cache)
    if {"workload", "t_s", "cached_tokens_ideal", *tokens} <= have:
        names = [(pl.lit("mooncake-") + pl.col("workload")).alias("app"), pl.lit("kimi-k2").alias("model")]
        cached = pl.col("cached_tokens_ideal").alias("cached")
        return frame.select(seconds, *names, pl.lit(None, pl.String).alias("tenant"), *tokens, cached)
    if {"t_ms", "model", "client_id", *tokens} <= have:
        names = [(pl.lit("servegen-") + pl.col("model")).alias("app"), pl.lit("qwen-max").alias("model")]
        client = (pl.lit("client-") + pl.col("client_id").cast(pl.String)).alias("tenant")
        return frame.select((pl.col("t_ms") * 1000).alias("t_us"), *names, client, *tokens, no_cache)
    raise NotEventsError(path, frame.columns)


def _event(row: dict[str, Any], rng: random.Random, time: int, texts: Texts | None) -> dict[str, Any]:
    user = f"user-{int(1000 * rng.random() ** 2)}"
    value = (time // 1000 & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64
    tokens = {"input": row["input_tokens"], "output": row["output_tokens"]}
    if row["cached"] is not None:
        tokens["cache_read"] = row["cached"]
    event: dict[str, Any] = {
        "v": 1,
        "type": "call",
        "id": str(uuid.UUID(int=value | 0b10 << 62 | rng.getrandbits(62))),
        "ts": _rfc3339(time),
        "app": row["app"],
        "model": row["model"],
        "provider": "openai" if row["model"].startswith("gpt") else None,
        "user": user,
        "feature": "chat",
        "latency": {"total_ms": round(150 + row["output_tokens"] * 12 * rng.lognormvariate(0, 0.2), 1)},
        "tokens": tokens,
        "finish_reason": "stop",
    }
    if row["tenant"] is not None:
        event["tenant"] = row["tenant"]
    if event["provider"] is None:
        del event["provider"]
    if texts is not None:
        question, answer = rng.choice(texts.pairs)
        event["content"] = {"mode": "redacted", "input": [{"role": "user", "text": question}], "output": answer}
    return event


def _rfc3339(time: int) -> str:
    seconds, micros = divmod(time, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def read_json_lines(path: Path) -> Iterator[bytes]:
    """Yield the unchanged lines of a file of events, without empty ones; Parquet: its column ``event``."""
    if path.suffix == ".parquet":
        frame = _parquet(path)
        if "event" not in frame.columns:
            raise NotEventsError(path, frame.columns)
        yield from (str(v).encode() for v in frame["event"])
        return
    with refused("read", path), path.open("rb") as lines:
        yield from (line.rstrip(b"\r\n") for line in lines if line.strip())


def is_traffic(path: Path) -> bool:
    """Return whether ``path`` is Parquet of traffic rather than of events."""
    with _parquet_errors(path):
        return path.suffix == ".parquet" and "event" not in pl.read_parquet_schema(_file(path))


def _parquet(path: Path) -> pl.DataFrame:
    with _parquet_errors(path):
        return pl.read_parquet(_file(path))


def _file(path: Path) -> Path:
    """Return ``path``; polars would take a folder for a data set of all files below it.

    Raises:
        FileRefusedError: it cannot be read.
    """
    with refused("read", path), path.open("rb"):
        return path


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileRefusedError("read", path, cause, "name a Parquet file that is whole") from error


def rebased(line: bytes, shift: int) -> bytes:
    """Return an event with its time moved by ``shift`` µs; a line that is no event with a time stays as it is."""
    try:
        event = msgspec.json.decode(line)
        time = event["ts"]
        if isinstance(time, str):
            moved = datetime.fromisoformat(time).timestamp() * SECOND + shift
            event["ts"] = _rfc3339(int(moved))
        else:
            event["ts"] = time + shift // 1000
    except UNREADABLE:
        return line
    return msgspec.json.encode(event)


def time_of(line: bytes) -> int | None:
    """Return the event time of a line, µs UTC; None where it has none."""
    try:
        time = msgspec.json.decode(line)["ts"]
        return int(datetime.fromisoformat(time).timestamp() * SECOND) if isinstance(time, str) else int(time) * 1000
    except UNREADABLE:
        return None
