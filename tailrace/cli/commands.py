"""The commands: where each is defined, and the line that `tailrace --help` shows of it.

A command's module is imported when the command is called. Together they import seconds of libraries, of which most
commands need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One command or command group."""

    module: str
    """Module of ``tailrace.cli``; its ``add_to`` adds the command."""
    help: str
    """First line of the command's own help."""
    numpy: bool = True
    """Whether it may need numpy; pyarrow does without, and is imported in a tenth of the time."""
    numpy_for: tuple[str, ...] = ()
    """Commands of a group that need numpy although the others do not."""

    def needs_numpy(self, words: Sequence[str]) -> bool:
        """Whether the call ``words``, from the name of the command or group on, may need numpy."""
        return self.numpy or next((w for w in words[1:] if not w.startswith("-")), "") in self.numpy_for


COMMANDS = {
    "demo": Entry(
        "demo",
        "Broker, stages, traffic with three incidents, alerts on the screen, a summary; fails if any other alert "
        "comes.",
    ),
    "up": Entry(
        "operate",
        "Run everything on this machine: broker (unless Kafka is given), topics, every stage; restart what ends.",
    ),
    "status": Entry("operate", "What runs, where it is, how far behind it is, when it will be done."),
    "settings": Entry(
        "settings", "Print every setting as it holds, from file, environment and defaults; secrets as ***."
    ),
    "land": Entry("operate", "One stage: events, rollups, embeddings, alerts -> the lake, exactly once."),
    "meter": Entry("operate", "One stage: events -> rollups, samples, ticks."),
    "detect": Entry("operate", "One stage: rollups -> alerts."),
    "drift": Entry("operate", "One stage: samples -> embeddings, alerts."),
    "notify": Entry("operate", "One stage: alerts -> Slack, webhooks, anything Apprise reaches."),
    "schedule": Entry("operate", "One stage: batch jobs, each when it is due, once."),
    "emit": Entry("events", "Send events as they are."),
    "replay": Entry("events", "Play a file of events or of traffic, at any speed."),
    "tail": Entry("events", "Show events as they land: model, tokens, cost; or why they are dead."),
    "sql": Entry("sql", "Read-only SQL on the lake.", numpy=False),
    "attach": Entry(
        "sql",
        "Print the lines that open the lake, read-only, in DuckDB (CLI and Python), pandas and polars.",
        numpy=False,
    ),
    "verify": Entry(
        "lake", "Prove the lake from its rows: every position once, gaps accounted for, ledger against data."
    ),
    "lake": Entry("lake_copy", "Move the lake to other storage, back it up, restore it."),
    "alerts": Entry(
        "alerts",
        "Alerts as landed; acknowledge and silence them.",
        numpy=False,
        numpy_for=("why", "precision", "export", "test"),
    ),
    "call": Entry(
        "call", "Show one call whole: prompt, answer, tools, retrieval, checks, and its cost with the price."
    ),
    "backtest": Entry(
        "backtest", "Judge what has landed again: the same rollups give the same alerts under the same ids."
    ),
    "dead": Entry("dead", "Records that did not fit."),
    "doctor": Entry(
        "doctor", "Send one call and show it published, landed, priced and queryable, or which hop failed."
    ),
    "topics": Entry("infrastructure", "Make the topics; adopt one that was made again."),
    "kafka": Entry("infrastructure", "The embedded broker by itself."),
    "audit": Entry(
        "audit",
        "Count what the lake holds of a tenant or a user, table by table, and name what was not looked through.",
    ),
    "forget": Entry(
        "forget", "Remove what the lake holds of a user or a tenant; without --yes count it, and change nothing."
    ),
    "upgrade": Entry(
        "upgrade",
        "Show what the next start of the stages changes in the lake, the topics and the states of detect and drift.",
    ),
    "retention": Entry(
        "retention",
        "Count what the next run of maintain would drop by age, table by table and app by app; nothing is dropped.",
    ),
    "job": Entry("jobs", "Batch jobs."),
    "prices": Entry("prices", "Price books, and re-pricing of what has landed."),
    "eval": Entry("evals", "Scores of production calls, and the weekly report."),
    "data-quality": Entry("data_quality", "What was expected of the rows of an hour, and what failed."),
    "budgets": Entry(
        "budgets",
        "Show what every budget of the settings has spent in its period, and the forecast of the period's end.",
    ),
    "release": Entry("release", "Releases of apps: mark one, list them, see the last known-good one.", numpy=False),
    "golden": Entry("golden", "Test cases out of what failed in production."),
    "gate": Entry("gate", "Compare a candidate with its baseline on a golden set: pass, regress or undecided."),
    "ab": Entry(
        "ab", "Compare two variants or prompt versions over landed calls, with intervals that hold at every look."
    ),
    "user": Entry("people", "Pseudonyms of users."),
}
