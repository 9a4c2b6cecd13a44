"""The fault matrix in short, and the table that a test run makes of it."""

from collections.abc import Mapping, Sequence

MATRIX: dict[int, tuple[str, str]] = {
    1: ("land killed before the insert", "nothing was written; the batch is read again"),
    2: ("land killed after the files, before the commit", "the files are orphans; the rows land once"),
    3: ("land killed inside its commit", "all or nothing of events, dead and ledger"),
    4: ("land killed after the commit", "goes on from the lake's offset; no double"),
    5: ("meter killed anywhere", "rollups count every call once: offsets and messages are one transaction"),
    6: ("detect killed in mid window", "state comes back; an alert repeats under its id at most"),
    7: ("notify killed around the POST", "delivered again under the same id"),
    8: ("kill -9 in merge, expiry, clean-up", "the lake reads as before or after, never between"),
    9: ("a reader killed (dashboard, sql)", "no effect on what lands"),
    10: ("SIGTERM to everything", "all ends within 10 s, flushed"),
    11: ("supervisor killed", "its children end too; the next start recovers"),
    12: ("broker killed and restarted", "acknowledged events survive; stages go on"),
    13: ("power loss", "the lake stays consistent; events of the last flush interval may be lost on one broker"),
    14: ("broker frozen", "no loss, no double; sessions recover"),
    15: ("broker gone for good", "stages wait, say so, and stay within their bounds"),
    16: ("cluster made again, ledger above the log's end", "land refuses and names the step; adopt goes on"),
    17: ("topic deleted and made again", "found by its id; as 16"),
    18: ("disk full: data", "land waits; nothing half-visible"),
    19: ("disk full: catalog", "land waits; nothing half-visible"),
    20: ("disk full: broker's log", "the broker stops; the emitter counts; all goes on after space"),
    21: ("disk full: spill", "the query fails with a message; land is unaffected"),
    22: ("catalog locked by another writer", "retried; slower, nothing lost"),
    23: ("catalog away", "land pauses and resumes"),
    24: ("connection cut during COMMIT", "the outcome is read, never guessed; never twice, never without its files"),
    25: ("older catalog put back", "the rest lands again from Kafka"),
    26: ("data file deleted or truncated", "verify names exactly that file"),
    27: ("webhook unreachable", "retried for 24 h, then failed and shown"),
    28: ("429 with Retry-After", "waits at least that long; no alert lost"),
    29: ("5xx, time-out, slow drip", "same id again; a total deadline; bounded read"),
    30: ("400, 401, 403, 404, 410", "one attempt; 410 disables the channel"),
    31: ("redirects", "never followed"),
    32: ("bad TLS certificate", "refused before a byte of the body"),
    33: ("not JSON, wrong root, deep nesting, repeated keys", "dead with its reason; neighbours land"),
    34: ("wrong types, missing fields, bad ids", "dead with its reason; neighbours land"),
    35: ("bad UTF-8, surrogates, NUL", "invalid bytes dead; NUL and surrogates replaced and flagged"),
    36: ("NaN, infinities, negative or fractional counts", "dead by the field's name; sums stay finite"),
    37: ("oversized event", "cut by the emitter; else dead by size, unparsed"),
    38: ("every event bad", "the breaker opens; nothing is drained"),
    39: ("a stage that lives and stands still", "restarted by the supervisor"),
    40: ("unknown model", "lands unpriced, is counted and raised; priced, once, when a book has it"),
    41: ("price changed in mid-day", "the book in force at LogAppendTime; a price known later corrects by event time"),
    42: ("late events", "up to 7 days late they land in their own day; closed windows stay closed"),
    43: ("1970, 9999, skewed clocks", "kept and flagged; the day is that of their arrival"),
    44: ("same event twice", "two positions, one id, one cost"),
    45: ("same id, other content", "the first position wins, the contradiction is counted"),
    46: ("fields of a newer emitter", "kept in extra"),
    47: ("events of an older emitter", "missing fields are NULL or default"),
    48: ("ALTER TABLE while landing", "retried; no outage"),
    49: ("hot key", "keyed by trace or session, not by team"),
    50: ("a million users", "tables are capped; memory bounded"),
    51: ("rebalance storm", "land and meter have no group to rebalance; Faust goes on"),
    52: ("two landers", "the stale one is refused and ends"),
    53: ("partitions added", "seen within 60 s, from offset 0"),
    54: ("retention before consumption", "a gap is recorded and raised; land goes on"),
    55: ("emitter without a broker", "never blocks, never raises; counted"),
    56: ("emitter at exit", "flushes for 2 s; what is left is said"),
    57: ("emitter after fork", "each child delivers its own"),
    58: ("emitter in threads, asyncio and gevent", "thread-safe; the loop is not blocked"),
    59: ("emitter killed", "what was acknowledged has landed"),
    60: ("emitter's hook raises", "no content on the wire; counted"),
    61: ("laptop asleep for 8 h", "no storm; missed jobs run once"),
    62: (
        "clock jumps back",
        "ids lose their order; detectors see nothing new until event time has caught up; no timer waits longer",
    ),
    63: ("object store slow or cut", "invisible before the commit"),
    64: ("two schedulers", "one run per due time"),
    65: ("golden refresh killed", "old or new set, never mixed"),
    66: ("embedding model missing", "drift says unknown; the others go on"),
    67: ("land short of memory", "the batch is halved; a single row too big is dead"),
    68: (
        "100,000 small files",
        "merged within the memory limit (300 files here; thousands in bench/commits and bench/soak)",
    ),
    69: ("a newer lake, an older lake", "refused, or migrated whole"),
    70: ("embedded broker: port, pid, cluster, Java", "a clear message; no data touched"),
    71: ("copies come, are killed and go", "what one copy without kills lands, rolls up, embeds and raises"),
    72: ("a copy of the lake killed: backup, restore, move", "nothing lands in half a lake; run again it goes on"),
    73: ("stages of two versions at a time", "an upgrade under load, stage by stage: nothing lost or doubled"),
}
"""Row -> (fault, promise). 5, 39 and those above 70 are ours: the matrix we were given leaves those numbers free."""

NOT_COVERED: dict[int, str] = {}
"""Why a row has no test."""

_HEAD = """# Faults

Written by `make faults` from the tests that carry `@pytest.mark.row(number)`; do not edit. A row passed when every test
of it passed. `make test` runs the core rows, `make zippy` draws random sequences against a model, `make bench-kills`
counts from the raw Parquet what kills under load lose.

Long runs, by hand (November 2026; docs/operate/performance.md has the commands):

| what | figures |
|---|---|
| kill -9 of land, meter, detect, notify | 201 over 5,494,308 events: 0 lost, 0 doubled, bill exact, live equal |
| alerts under those kills | 18 of 18 incidents told; 0 missed, 0 doubled, 0 altered; 13 delivered twice under one id |
| random programs (zippy) | 98 minutes; three bugs found in the product, and fixed |
| bad inputs to decoding | 1,000,000 from the fuzzer, no failure |
| load and memory | 30 minutes at 13,415 events/s, 38,488,891 in all: 0 lost, 0 doubled; 4.7 GB, +0.2 GB |

"""

Outcome = tuple[str, str, str]
"""(test id, passed / failed / skipped, reason)."""


def table(outcomes: Mapping[int, Sequence[Outcome]], when: str) -> str:
    """Return the page."""
    lines = ["| # | fault | promised | result | tests |", "|--:|---|---|---|---|"]
    counts = {"passed": 0, "failed": 0, "skipped": 0, "not covered": 0}
    for row, (fault, promise) in MATRIX.items():
        found = outcomes.get(row, ())
        kind, said = _result(found, row)
        counts[kind] += 1
        files = sorted({test.split("::")[0].removeprefix("tests/") for test, _, _ in found})
        tests = "; ".join(f"{file} ({sum(t.split('::')[0].endswith(file) for t, _, _ in found)})" for file in files)
        lines.append(f"| {row} | {fault} | {promise} | {said} | {tests} |")
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{_HEAD}{when}: {len(MATRIX)} rows: {summary}.\n\n" + "\n".join(lines) + "\n"


def _result(found: Sequence[Outcome], row: int) -> tuple[str, str]:
    if any(kind == "failed" for _, kind, _ in found):
        return "failed", "**failed**: " + ", ".join(t.split("::")[-1] for t, kind, _ in found if kind == "failed")
    if any(kind == "passed" for _, kind, _ in found):
        skipped = sum(kind == "skipped" for _, kind, _ in found)
        return "passed", "passed" + (f", {skipped} skipped: {_reason(found)}" if skipped else "")
    if found:
        return "skipped", f"skipped: {_reason(found)}"
    return "not covered", f"not covered: {NOT_COVERED.get(row, 'no test yet')}"


def _reason(found: Sequence[Outcome]) -> str:
    return next((reason.replace("|", "/").replace("\n", " ") for _, kind, reason in found if kind == "skipped"), "")
