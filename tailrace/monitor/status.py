"""What is the case now, from what the supervisor and the stages wrote into the home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.clock import now_us
from schemas.stage_facts import ENDED, TROUBLE, StageState
from schemas.usage import compared
from tailrace.home import disk
from tailrace.home.layout import Home, reported
from tailrace.settings.model import Settings
from tailrace.supervisor import pace
from tailrace.supervisor.failing import Mark
from tailrace.supervisor.pace import Sample
from tailrace.supervisor.stages import STAGES, Stage
from warehouse.errors import without_password
from warehouse.storage.locks import is_running, pid_namespace

FRESH_S = 30.0


def status(settings: Settings, *, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """Return the document of ``tailrace status --json`` (its keys are in the design)."""
    home = Home(settings.home)
    supervisor = home.read_run("up")
    killed = None
    if supervisor and not _is_running(supervisor):
        killed = supervisor["pid"]
        supervisor = None
    if supervisor:  # of `up --only` the stages that it runs
        stages = [stage for stage in stages if stage.name in supervisor["stages"]]
    found = {stage.name: _stage(home, stage, supervisor, killed) for stage in stages}
    bootstrap = settings.kafka.bootstrap_servers or (supervisor["bootstrap_servers"] if supervisor else None)
    healthy = supervisor is not None and all(s["state"] == StageState.RUNNING for s in found.values())
    return {
        "ready": healthy and all(s["current"] for s in found.values()),
        "healthy": healthy,
        "kafka": {"bootstrap_servers": bootstrap},
        "lake": {
            "catalog": without_password(settings.lake.catalog or str(home.catalog)),
            "data_path": settings.lake.data_path or str(home.data_path),
        },
        "costs": _costs(home),
        "learning": _learning(home),
        "disk": disk.facts(home, settings.lake.data_path or str(home.data_path)),
        "web": {"url": supervisor.get("web") if supervisor else None},
        "stages": found,
    }


def _costs(home: Home) -> dict[str, Any]:
    """Calls with a reported and a computed cost since the counters of land began, and the share that differs."""
    both, differing = compared(reported(home.read_run("land")).details.get("usage") or {})
    return {"compared": both, "differing": differing, "differing_share": differing / both if both else None}


def _learning(home: Home) -> dict[str, Any]:
    """Series that detect judges, and how many of them are too new to be compared with what is usual."""
    facts = reported(home.read_run("detect")).details.get("learning") or {}
    series, learning = facts.get("series", 0), facts.get("learning", 0)
    return {"series": series, "learning": learning, "learning_share": learning / series if series else None}


def _stage(home: Home, stage: Stage, supervisor: dict[str, Any] | None, killed: int | None) -> dict[str, Any]:
    report = home.read_run(stage.name)
    known = (supervisor or {}).get("stages", {}).get(stage.name, {})
    running = report is not None and _is_running(report)
    state, error = (
        _running_state(report, stage)
        if report and running
        else _stopped_state(report, known, supervisor is None, killed)
    )
    if failing := known.get("failing"):
        last_error = (known.get("last_exit") or {}).get("error")
        text = f"ended {failing['ends']} times at {failing['position']}: {failing['cause']}"
        state, error = StageState.FAILING, f"{text}: {last_error}" if last_error else text
    facts = reported(report if running else None)
    lag, mark = facts.lag, Mark.of(facts)
    samples = [Sample(**sample) for sample in known.get("samples", [])]
    until = pace.worked_until(facts) or known.get("worked_until")
    if lag is None and not (samples and samples[-1].lag):
        until = None  # nothing waited at its last report: what came since then is unknown
    behind_s = pace.behind(lag, until, now_us())
    return {
        "state": state,
        "pid": report["pid"] if report and running else None,
        "lag": lag,
        "behind_s": behind_s,
        "current": pace.is_ready(behind_s, samples),
        "done_in_s": pace.done_in(samples),
        "position": mark.position or known.get("position") or {},
        "restarts": known.get("restarts", 0),
        "last_exit": known.get("last_exit"),
        "error": error,
        "isolated": list(facts.isolated),
    }


def _is_running(report: dict[str, Any]) -> bool:
    """Whether the process that wrote ``report`` runs.

    The pid of a process in another container means nothing here: it counts as running while its reports are recent.
    """
    namespace = report.get("pid_namespace")
    if namespace is not None and namespace != pid_namespace():
        return bool((now_us() - report["at"]) / 1e6 <= FRESH_S)
    return is_running(report["pid"], report.get("born"))


def _running_state(report: dict[str, Any], stage: Stage) -> tuple[StageState, str | None]:
    """State and error of a stage whose process runs."""
    facts, process = reported(report), StageState.of(report["state"])
    in_trouble = facts.state in TROUBLE
    error = report["error"] or (facts.error if in_trouble else None)
    if (now_us() - report["at"]) / 1e6 > min(FRESH_S, stage.stall_after_s / 2):
        return StageState.SILENT, error
    return facts.state if in_trouble and process is StageState.RUNNING else process, error


def _stopped_state(
    report: dict[str, Any] | None, known: dict[str, Any], stopped: bool, killed: int | None
) -> tuple[StageState, str | None]:
    """State and error of a stage without a process: why it ended, from its run file or its supervisor's."""
    if not stopped:
        last = known.get("last_exit")
        text = f"{last['reason']}: {last['error']}" if last and last["error"] else last and last["reason"]
        return StageState.RESTARTING, text
    if report and report["state"] not in ENDED:
        owner = f"its supervisor, process {killed}" if killed else "the process that started it"
        return StageState.STOPPED, report["error"] or f"it was killed: by hand, or with {owner}"
    return StageState.STOPPED, (report or {}).get("error")
