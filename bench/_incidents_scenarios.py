"""The incidents: what changes in a quiet stream from a moment on, who is affected, and what should be said by when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _incidents_calls import HOUR, MINUTE, MODELS, SECOND, Array, Calls
from _incidents_worlds import DATA, World

from pipelines.detect.detectors.per_call import PerCall

Slice = frozenset[tuple[str, str]]
"""Pairs of dimension and value, each of which names the affected calls; empty: all calls of the app."""
SPEND = ("spike_cost", "spike_cost_per_call", "cost_per_call", "new_model_cost")
TOKENS = ("spike_tokens", "spike_tokens_per_call", "tokens_per_call")
VOLUME = ("spike_calls",)
CACHE = ("cache_hit_rate",)
PER_CALL = PerCall()
LATENCY = tuple(f"{measure}_{q}" for measure in ("ttft", "latency") for q in ("p50", "p95", "p99"))


@dataclass(frozen=True)
class Incident:
    """One incident as it is composed: the calls since its start, and the truth about it."""

    calls: Calls
    affected: Array
    """(n,) bool: these calls are other than they would have been."""
    where: Slice
    around: Slice = frozenset()
    """Slices that hold the affected calls and others: an alert that names one is right, and not exact."""


Make = Callable[[World, Calls, np.random.Generator], Incident]


@dataclass(frozen=True)
class Scenario:
    """One grade of one kind of incident."""

    name: str
    rules: tuple[str, ...]
    """Any of these names the right family of measures."""
    deadline_min: float
    make: Make
    world: str = "m-large"
    """Which quiet stream it is played in."""
    lasts_min: float = 40.0
    shares: tuple[float, float] | None = None
    """Of the calls in the slice, before and after the start, where a share is what changes."""
    least_calls: int = 0
    """Fewest affected calls that any rule of its family takes; 0 = not counted in calls."""

    @property
    def lasts(self) -> int:
        """Duration, µs."""
        return int(max(self.lasts_min, self.deadline_min) * MINUTE)


def bloat(share: float) -> Make:
    """S6: three times the input tokens for one client with about ``share`` of the calls."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        client = world.client_near(share, calls, draws)
        mine = calls.client == client
        return Incident(calls.changed(mine, input=3 * calls.input[mine]), mine, _client(world, client))

    return make


def loop(prompts: str) -> Make:
    """S8: one user adds 20 % of the volume: a coding agent whose context grows, or one prompt at a fixed period."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        first, last = int(calls.t[0]), int(calls.t[-1])
        size = max(1, int(0.2 * len(calls)))
        t = np.linspace(first, last, size).astype(np.int64)
        user = -int(draws.integers(2, 1000))
        if prompts == "agent":
            turns = _agent(draws)
            tokens_in, tokens_out = (np.resize(column, size) for column in turns)
        else:
            tokens_in, tokens_out = np.full(size, int(draws.integers(500, 4000))), np.full(size, 120)
        client = int(draws.choice(np.unique(calls.client)))
        more = calls.take(np.resize(np.arange(len(calls)), size)).changed(
            np.arange(size),
            t=t,
            user=user,
            client=client,
            model=0,
            input=tokens_in,
            output=tokens_out,
            cached=tokens_in // 2,
            failed=False,
            flagged=False,
            cut_off=False,
        )
        both = calls.merged(more)
        where = frozenset({("user", world.naming.user(user))})
        return Incident(both, both.user == user, where, _client(world, client) | _model(0))

    return make


def cache_misses(part: bool) -> Make:
    """S9: nothing is served from the cache any more; with ``part`` only for the prefixes of one client."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        client = int(draws.choice(np.unique(calls.client)))
        mine = calls.client == client if part else np.ones(len(calls), bool)
        where = _client(world, client) if part else frozenset()
        return Incident(calls.changed(mine, cached=0), mine, where)

    return make


def misroute(moved: float) -> Make:
    """S10: this share of one client's calls goes to a model with 10 to 30 times the price."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        client = world.client_near(float(draws.choice([0.1, 0.04])), calls, draws)
        mine = (calls.client == client) & (draws.random(len(calls)) < moved)
        where = {*_client(world, client), *(("model", name) for name in ("gpt-4.5-preview", "gpt-4"))}
        return Incident(calls.changed(mine, model=calls.model[mine] + len(MODELS)), mine, frozenset(where))

    return make


def cut_off(model: int | None) -> Make:
    """S11: answers that are cut off go from 1 to 6 %, of all models or of one."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        of = np.ones(len(calls), bool) if model is None else calls.model == model
        more = of & (draws.random(len(calls)) < 0.0505)
        return Incident(calls.changed(more, cut_off=True), more, frozenset() if model is None else _model(model))

    return make


def outage(model: int | None, share: float, retries: int) -> Make:
    """S14: ``share`` of the calls fail, of all models or of one; each that fails is tried again ``retries`` times."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        of = np.ones(len(calls), bool) if model is None else calls.model == model
        failing = calls.changed(of & (draws.random(len(calls)) < share), failed=True)
        for _ in range(retries):
            again = failing.take(failing.failed & of & (draws.random(len(failing)) < 0.9))
            again.t = again.t + draws.integers(SECOND, 8 * SECOND, len(again))
            again.failed, again.attempt = draws.random(len(again)) < share, again.attempt + 1
            failing = failing.merged(again)
            of = np.ones(len(failing), bool) if model is None else failing.model == model
        return Incident(failing, failing.failed & of, frozenset() if model is None else _model(model))

    return make


def attacks(share: float, narrow: bool) -> Make:
    """S3: attacks go from 0.5 % of the calls to ``share``, or of one client's; a guardrail flags 70 % of them."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        client = world.client_near(0.02, calls, draws)
        of = calls.client == client if narrow else np.ones(len(calls), bool)
        more = of & (draws.random(len(calls)) < share * 0.7)
        where = _client(world, client) if narrow else frozenset()
        return Incident(calls.changed(more, flagged=True), more, where)

    return make


def usage_gone(model: int) -> Make:
    """S17: the calls of one provider become streams without usage."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        mine = calls.model == model
        return Incident(calls.changed(mine, no_usage=True), mine, _model(model))

    return make


def slow_first_token(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
    """S15: calls over 200,000 input tokens wait twice as long for their first token; the median of all is unchanged."""
    mine = calls.input > 200_000
    return Incident(calls.changed(mine, ttft=2 * calls.ttft[mine]), mine, frozenset({("input_size", "over 200k")}))


def verbose(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
    """S7: each hour a further 5 % of the answers are 29 % longer."""
    share = 0.05 * np.ceil((calls.t - calls.t[0] + 1) / HOUR)
    mine = draws.random(len(calls)) < share
    return Incident(calls.changed(mine, output=(1.29 * calls.output[mine]).astype(np.int64)), mine, frozenset())


SCENARIOS = (
    Scenario("S3 attacks 8 %", ("surge_guardrail",), 10, attacks(0.08, False), shares=(0.005, 0.061)),
    Scenario("S3 attacks 2 %", ("surge_guardrail",), 30, attacks(0.02, False), shares=(0.005, 0.019), lasts_min=90),
    Scenario(
        "S3 attacks, one client", ("surge_guardrail",), 10, attacks(0.5, True), shares=(0.005, 0.355), lasts_min=90
    ),
    Scenario("S6 bloat, 10 % client", (*SPEND, *TOKENS), 10, bloat(0.1), least_calls=PER_CALL.min_calls),
    Scenario("S6 bloat, 4 % client", (*SPEND, *TOKENS), 10, bloat(0.04), least_calls=PER_CALL.min_calls),
    Scenario("S6 bloat, 2 % client", (*SPEND, *TOKENS), 10, bloat(0.02), least_calls=PER_CALL.min_calls),
    Scenario("S7 verbosity creep", (*SPEND, *TOKENS), 600, verbose),
    Scenario("S8 loop, agent", (*SPEND, *TOKENS, *VOLUME), 5, loop("agent")),
    Scenario("S8 loop, same prompt", (*SPEND, *TOKENS, *VOLUME), 5, loop("same")),
    Scenario("S9 cache misses", (*CACHE, *SPEND), 5, cache_misses(False), world="mooncake", lasts_min=20),
    Scenario("S9 cache misses, part", (*CACHE, *SPEND), 5, cache_misses(True), world="mooncake", lasts_min=20),
    Scenario("S10 misroute 5 %", SPEND, 15, misroute(0.05), least_calls=PER_CALL.new_calls),
    Scenario("S10 misroute 20 %", SPEND, 15, misroute(0.2), least_calls=PER_CALL.new_calls),
    Scenario("S10 misroute 100 %", SPEND, 15, misroute(1.0), least_calls=PER_CALL.new_calls),
    Scenario("S11 cut off", ("surge_truncated",), 10, cut_off(None), shares=(0.01, 0.06)),
    Scenario("S11 cut off, one model", ("surge_truncated",), 10, cut_off(2), shares=(0.01, 0.06), lasts_min=90),
    Scenario("S14 outage 30 %", ("surge_errors",), 3, outage(None, 0.3, 2), shares=(0.005, 0.3)),
    Scenario("S14 one model 3 %", ("surge_errors",), 15, outage(1, 0.03, 0), shares=(0.005, 0.035), lasts_min=90),
    Scenario("S15 slow first token", LATENCY, 15, slow_first_token, world="agents"),
    Scenario("S17 usage gone", ("surge_usage_missing",), 5, usage_gone(0), shares=(0.005, 1.0)),
)
NOT_WATCHED = {
    "S16 judge being gamed": "the signal near_duplicate is off by default; the line S16 is with it on",
    "S4 attacks that succeed": "no detector watches a falling share of refusals",
}
"""Scenario -> why nothing that --events runs can find it: it counts as not found."""


def _client(world: World, client: int) -> Slice:
    return frozenset({(world.naming.dimension, world.naming.client(client))})


def _model(model: int) -> Slice:
    provider, name = MODELS[model]
    return frozenset({("provider", provider), ("model", name)})


def _agent(draws: np.random.Generator) -> tuple[Array, Array]:
    """Return input and output tokens of one session of a coding agent, turn by turn."""
    import duckdb

    path = str(DATA / "traffic" / "coding_agent_sessions.parquet")
    query = "SELECT session, input_tokens AS i, output_tokens AS o FROM read_parquet($1) ORDER BY session, turn"
    found = duckdb.execute(query, [path]).fetchnumpy()
    sessions, counts = np.unique(found["session"], return_counts=True)
    session = draws.choice(sessions[counts >= 50])
    mine = found["session"] == session
    return found["i"][mine].astype(np.int64), found["o"][mine].astype(np.int64)
