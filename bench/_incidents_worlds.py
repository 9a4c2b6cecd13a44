"""Streams without an incident, made of the real traces: what every scenario begins with, and the quiet stretches."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from _incidents_calls import DAY, MODEL_SHARES, SECOND, T0, Array, Calls, Naming
from _report import REPO

DATA = Path(os.environ.get("TAILRACE_TEST_DATA", REPO.parent / "shared" / "data"))
CUT_OFF, FAILED, FLAGGED = 0.01, 0.005, 0.005
"""Shares in quiet traffic: of answers cut off, of calls that fail, of calls that a guardrail flags."""
_GROWTH = 1.02
"""A day, of the stretch that grows."""
_SERVEGEN = "SELECT t_ms * 1000 AS t, client_id AS client, input_tokens AS i, output_tokens AS o FROM read_parquet($1)"
_AZURE = "SELECT (t_s * 1e6)::BIGINT AS t, 0 AS client, input_tokens AS i, output_tokens AS o FROM read_parquet($1)"
_MOONCAKE = """
SELECT (t_s * 1e6)::BIGINT AS t, (hash_ids[2] % 5)::BIGINT AS client, input_tokens AS i, output_tokens AS o,
    cached_tokens_ideal AS cached FROM read_parquet($1) WHERE workload = 'conversation' ORDER BY t
"""


@dataclass(frozen=True)
class World:
    """A quiet stream, and how its clients are called."""

    calls: Calls
    naming: Naming
    shares: dict[int, float]
    """Client -> its share of the calls."""

    @property
    def days(self) -> float:
        """Length of the stream."""
        return float((self.calls.t[-1] - self.calls.t[0]) / DAY)

    def client_near(self, share: float, calls: Calls, draws: np.random.Generator) -> int:
        """Draw one of the three clients whose share of ``calls`` is nearest to ``share``."""
        clients, counts = np.unique(calls.client, return_counts=True)
        nearest = np.argsort(np.abs(np.log(counts / len(calls) / share)), kind="stable")[:3]
        return int(draws.choice(clients[nearest]))


def world(trace: str, since_day: float, days: float, seed: int) -> World:
    """Return ``days`` of a trace (m-large or m-small) with quiet shares of everything else, drawn from ``seed``."""
    table = _table("servegen_realised_14d", f"{_SERVEGEN} WHERE model = '{trace}' ORDER BY t_ms")
    inside = (table["t"] >= since_day * DAY) & (table["t"] < (since_day + days) * DAY)
    return _dressed({name: column[inside] for name, column in table.items()}, seed)


def hour(service: str, seed: int) -> World:
    """Return an hour of Azure's service (code or conv)."""
    table = _table("azure_llm_2023", f"{_AZURE} WHERE service = '{service}' ORDER BY t_s")
    return _dressed(table, seed, named=False)


def cached_hours(repeats: int, seed: int) -> World:
    """Return Mooncake's hour of conversation ``repeats`` times, with the tokens that an ideal cache serves."""
    table = _table("mooncake_fast25", _MOONCAKE)
    count, length = len(table["t"]), int(table["t"].max()) + SECOND
    again = {name: np.tile(column, repeats) for name, column in table.items()}
    again["t"] = again["t"] + np.repeat(np.arange(repeats) * length, count)
    return _dressed(again, seed)


def hourly(days: int, seed: int) -> World:
    """Return BurstGPT's first ``days``: calls spread evenly inside the hours, lengths of m-small."""
    query = """SELECT t_s, requests_of_those_sessions AS n FROM read_parquet($1)
    WHERE bin_s = 3600 AND t_s < $2 ORDER BY t_s"""
    path = str(DATA / "traffic" / "burstgpt_binned.parquet")
    bins = duckdb.execute(query, [path, days * 86_400]).fetchnumpy()
    draws = np.random.default_rng(seed)
    t = np.sort(np.repeat(bins["t_s"], bins["n"]) * SECOND + draws.integers(0, 3600 * SECOND, int(bins["n"].sum())))
    lengths = _table("servegen_realised_14d", f"{_SERVEGEN} WHERE model = 'm-small' LIMIT 200000")
    drawn = draws.integers(0, len(lengths["t"]), len(t))
    table = {"t": t, "client": np.zeros(len(t), np.int64), "i": lengths["i"][drawn], "o": lengths["o"][drawn]}
    return _dressed(table, seed, named=False)


def growing(days: float, seed: int) -> World:
    """Return m-small with arrivals that grow by 2 % a day: calls are repeated at random, up to 26 % of them twice."""
    found = world("m-small", 0, days, seed)
    draws = np.random.default_rng([seed, 6])
    age = (found.calls.t - found.calls.t[0]) / DAY
    twice = draws.random(len(found.calls)) < _GROWTH**age - 1
    again = found.calls.take(twice)
    again.t = again.t + draws.integers(1, 120 * SECOND, len(again))
    return replace(found, calls=found.calls.merged(again))


def many_series(days: float, seed: int) -> World:
    """Return m-large cut into about 2,000 series of a tenant or a feature."""
    found = world("m-large", 3, days, seed)
    return replace(found, naming=replace(found.naming, dimension="tenant", tenants_per_client=14, features=40))


def agents(found: World, seed: int) -> World:
    """Return ``found`` with times to the first token: a fifth of the calls has its input and time from turns of coding
    agents, half of which read over 200,000 tokens; the others have the times of Bedrock's calls.
    """
    turns = "SELECT input_tokens AS i, ttft_s AS s FROM read_parquet($1) WHERE ttft_s > 0 AND input_tokens > 0"
    table = duckdb.execute(turns, [str(DATA / "traffic" / "coding_agent_sessions.parquet")]).fetchnumpy()
    short = duckdb.execute(
        "SELECT ttft_s AS s FROM read_parquet($1)", [str(DATA / "traffic" / "bedrock_latency.parquet")]
    )
    calls, draws = found.calls, np.random.default_rng([seed, 15])
    turn = draws.integers(0, len(table["i"]), len(calls))
    ttft = 1000.0 * draws.choice(np.asarray(short.fetchnumpy()["s"], np.float64), len(calls))
    of_agent = draws.random(len(calls)) < 0.2
    ttft[of_agent] = 1000.0 * np.asarray(table["s"], np.float64)[turn[of_agent]]
    tokens = np.where(of_agent, np.asarray(table["i"], np.int64)[turn], calls.input)
    cached = np.where(of_agent, tokens // 2, calls.cached)
    return replace(found, calls=replace(calls, ttft=ttft, input=tokens, cached=cached))


def mix_shift(found: World, seed: int) -> World:
    """Return ``found`` with other clients in front from its middle on: every overall mean moves, no client does."""
    middle = int(np.median(found.calls.t))
    order = sorted(found.shares, key=lambda c: found.shares[c])
    busy = np.isin(found.calls.client, order[-4:])
    draws = np.random.default_rng([seed, 5])
    kept = ~((found.calls.t >= middle) & busy & (draws.random(len(found.calls)) < 0.7))
    return replace(found, calls=found.calls.take(kept))


def _table(name: str, query: str) -> dict[str, Array]:
    found: dict[str, Any] = duckdb.execute(query, [str(DATA / "traffic" / f"{name}.parquet")]).fetchnumpy()
    return {column: np.asarray(values).astype(np.int64) for column, values in found.items()}


def _dressed(table: dict[str, Array], seed: int, *, named: bool = True) -> World:
    draws = np.random.default_rng([seed, 1])
    size = len(table["t"])
    client = table["client"] if named else np.full(size, -1)
    values, counts = np.unique(table["client"], return_counts=True)
    # 200 users a client, some of them far more active than others
    user = table["client"] * 1000 + (200 * draws.random(size) ** 2).astype(np.int64)
    cached = table.get("cached")
    if cached is None:
        cached = (table["i"] * np.where(draws.random(size) < 0.6, draws.beta(4.0, 2.4, size), 0.0)).astype(np.int64)
    calls = Calls(
        t=table["t"] + T0,
        client=client,
        user=user,
        model=draws.choice(len(MODEL_SHARES), size, p=MODEL_SHARES),
        input=table["i"],
        output=table["o"],
        cached=np.minimum(cached, table["i"]),
        cut_off=draws.random(size) < CUT_OFF,
        failed=draws.random(size) < FAILED,
        flagged=draws.random(size) < FLAGGED,
        no_usage=np.zeros(size, bool),
        attempt=np.ones(size, np.int64),
        ttft=np.zeros(size),
        text=np.full(size, -1),
        answer=np.full(size, -1),
        document=np.full(size, -1),
    )
    naming = Naming(dimension=str(draws.choice(["tenant", "feature"])))
    return World(calls, naming, dict(zip(values.tolist(), (counts / size).tolist(), strict=True)))
