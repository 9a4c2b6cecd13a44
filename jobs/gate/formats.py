"""A report in the forms that others read: JUnit XML for CI, Markdown for a pull request, HTML for a person. Pure.

Names and texts in a report are strangers': each form escapes what would be markup in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from jinja2 import Environment, FileSystemLoader, select_autoescape

from jobs.markdown import block

_HTML = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True))
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKDOWN = re.compile(r"([\\`*_\[\]|<>~&])")
_ACTIVE = re.compile(r"(?<=[@#])|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""Characters that get a word joiner, so that a pull request shows a name without mentioning a user or making a link."""
_IN_PULL_REQUEST = 5
"""Cases that became worse; the others are in the HTML."""


def files(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what is written: name of the file -> content."""
    return {
        "report.json": (json.dumps(report, indent=1, ensure_ascii=True) + "\n").encode(),
        "junit.xml": junit(report),
        "report.md": markdown(report).encode("utf-8", "replace"),
        "report.html": html(report).encode("utf-8", "replace"),
    }


def junit(report: Mapping[str, Any]) -> bytes:
    """Return a suite with a test case a check: a regress and an undecided check that block are failures."""
    suite = ET.Element("testsuite", name="tailrace gate", timestamp=_xml(report["made_at"]))
    failed = skipped = 0
    for check in report["checks"]:
        name = f"{check['name']}{' of ' + check['scope'] if check['scope'] else ''}"
        case = ET.SubElement(suite, "testcase", classname=f"gate.{check['kind']}", name=_xml(name))
        if not may_block(check):
            if check["verdict"] != "pass":
                ET.SubElement(case, "skipped", message=_xml(f"{check['verdict']}, does not block: {check['text']}"))
                skipped += 1
        elif check["verdict"] != "pass":
            ET.SubElement(case, "failure", type=check["verdict"], message=_xml(check["text"]))
            failed += 1
    whole = ET.SubElement(suite, "testcase", classname="gate", name="verdict")
    if report["verdict"] != "pass":
        ET.SubElement(whole, "failure", type=report["verdict"], message=_xml("; ".join(report["reasons"])))
        failed += 1
    suite.attrib.update(tests=str(len(report["checks"]) + 1), failures=str(failed), skipped=str(skipped), errors="0")
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def may_block(check: Mapping[str, Any]) -> bool:
    """Return whether what a check found counts for the verdict."""
    mode, verdict = str(check["mode"]), str(check["verdict"])
    return mode == "must_pass" or (mode == "must_not_regress" and verdict == "regress")


def markdown(report: Mapping[str, Any]) -> str:
    """Return a comment for a pull request."""
    golden = report["golden"]
    lines = [
        f"## Tailrace gate: {report['verdict']}",
        "",
        f"{_md(report['candidate']['name'])} against {_md(report['baseline']['name'])} on {golden['cases']} cases of "
        f"{_md(golden['name'])}, {report['samples']} samples a case.",
        "",
        *[f"- {_md(reason)}" for reason in report["reasons"]],
        *([""] if report["reasons"] else []),
        "| check | verdict | baseline | candidate | change, 95 % interval | blocks |",
        "|---|---|---|---|---|---|",
    ]
    for check in report["checks"]:
        name = _md(f"{check['name']}{' of ' + check['scope'] if check['scope'] else ''}")
        values = " | ".join(value(check, side) for side in ("baseline", "candidate"))
        blocks = {"must_pass": "yes", "must_not_regress": "a regress", "inform": "no"}[check["mode"]]
        lines.append(f"| {name} | {check['verdict']} | {values} | {_md(check['text'])} | {blocks} |")
    notes = [f"{c['name']}: {note}" for c in report["checks"] for note in c["notes"]]
    remarks = [*report["golden"]["problems"], *report["warnings"], *notes]
    lines += ["", *[f"- {_md(text)}" for text in remarks]] if remarks else []
    lines += _worse(report["worse"])
    return "\n".join([*lines, "", f"Report sha256 `{report['sha256']}`", ""])


def _worse(rows: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows[:_IN_PULL_REQUEST]:
        fell = ", ".join(f"{s['scorer']} {s['baseline']:.2f} to {s['candidate']:.2f}" for s in row["scores"])
        summary = _inert(escape(f"{row['case_id']}: {fell}"))  # inside of HTML Markdown's own escapes do not hold
        lines += ["", f"<details><summary>{summary}</summary>", ""]
        if row["input"]:
            lines += ["", *block(row["input"], "text")]
        if row["diff"]:
            lines += ["", *block("\n".join(row["diff"]), "diff")]
        lines += ["", "</details>"]
    return ["", f"### Worse: {len(rows)} cases", *lines] if rows else []


def html(report: Mapping[str, Any]) -> str:
    """Return one page without a script and without anything from elsewhere."""
    return _HTML.get_template("report.html.j2").render(report=report, value=value, may_block=may_block)


def value(check: Mapping[str, Any], side: str) -> str:
    """Return the mean of one side as people read it."""
    found = check[side]
    if found is None:
        return "not known"
    if check["kind"] == "cost":
        return f"{found:.6f} USD"
    return f"{found:.0f} ms" if check["kind"] == "latency" else f"{found * 100:.1f}"


def _md(text: str) -> str:
    return _inert(_MARKDOWN.sub(r"\\\1", " ".join(text.split())))


def _inert(text: str) -> str:
    return _ACTIVE.sub("\u2060", " ".join(text.split()))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
