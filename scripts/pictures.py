"""Write the pictures of README and docs: docs/pictures/alert.svg and flow.svg; `make docs` runs it.

The alert is docs/pictures/alert.json, as it landed in a run of `tailrace demo --here`; it is shown in the words that
Slack gets. Pictures are plain SVG: no script, no font, no address of another host, so that GitHub shows them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pipelines.notify import format as words
from pipelines.notify import times
from schemas.alerts import Alert
from schemas.topics import TOPICS
from tailrace.supervisor.stages import STAGES

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
WIDTH, MARGIN, LINE = 760, 28, 19
_CHARS = 104
"""Characters of a line at 13 px, so that the widest of common fonts fits."""
_SANS = "font-family=\"-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Helvetica, Arial, sans-serif\""
_INK, _PALE, _LINE, _PAPER = "#1d2939", "#667085", "#d0d5dd", "#ffffff"
_DELIVERED_AFTER_US = 2_000_000


def alert_svg(alert: Alert) -> str:
    """Return one message of an alert."""
    at = times.parsed(alert.detected_at)
    line = words.headline(alert, int(at.timestamp() * 1e6) + _DELIVERED_AFTER_US if at else None)
    colour = words.COLOURS[words.look(alert)]
    rows: list[tuple[str, int, bool, str]] = [(text, 15, True, _INK) for text in textwrap.wrap(line, 84)]
    rows += [("", 8, False, _INK)]
    fields = (
        ("Series", [words.series(alert)]),
        ("Measure", [words.comparison(alert)]),
        ("Impact", [words.impact(alert)]),
        (words.cause_title(alert), words.causes(alert)),
        ("What to do", words.steps(alert)),
        ("Calls", [", ".join(call[:13] + "…" for call in alert.evidence.call_ids[:5])]),
    )
    parts, y = [], MARGIN
    for text, size, bold, ink in rows:
        y += LINE + 2 if text else size
        if text:
            parts.append(_text(MARGIN + 10, y, text, size=size, bold=bold, ink=ink))
    for name, entries in fields:
        for number, wrapped in enumerate(_wrapped(entries)):
            y += LINE
            if number == 0:
                y += 5
                parts.append(_text(MARGIN + 10, y, name, bold=True, ink=_PALE))
            parts.append(_text(MARGIN + 100, y, wrapped))
    height = y + MARGIN
    bar = f'<rect x="12" y="12" width="6" height="{height - 24}" rx="3" fill="{colour}"/>'
    return _svg(WIDTH, height, [_card(WIDTH, height), bar, *parts], f"Alert: {line}")


def flow_svg() -> str:
    """Return the way of an event: processes as boxes, topics as rounded ones."""
    boxes = {
        "your app": (0, 1, "emitter"),
        "llm.events": (1, 1, ""),
        "land": (2, 0, "exactly once"),
        "meter": (2, 2, "sums, samples"),
        "lake": (3, 0, "Parquet, DuckDB"),
        "llm.rollups": (3, 1.5, ""),
        "llm.samples": (3, 2.5, ""),
        "detect": (4, 1.5, "spike, surge"),
        "drift": (4, 2.5, "texts"),
        "llm.alerts": (5, 2, ""),
        "schedule": (4, 0, "evals, upkeep"),
        "notify": (6, 2, "Slack, webhook"),
    }
    arrows = (
        *(("your app", "llm.events"), ("llm.events", "land"), ("llm.events", "meter"), ("land", "lake")),
        *(("meter", "llm.rollups"), ("meter", "llm.samples"), ("llm.rollups", "detect"), ("llm.samples", "drift")),
        *(("detect", "llm.alerts"), ("drift", "llm.alerts"), ("llm.alerts", "notify"), ("lake", "schedule")),
    )
    known = {stage.name for stage in STAGES} | {topic.name for topic in TOPICS} | {"your app", "lake"}
    if strange := set(boxes) - known:
        raise ValueError(f"no stage and no topic: {', '.join(sorted(strange))}")
    wide, tall, step, row = 98, 46, 130, 62
    width, height = 6 * step + wide + 2 * MARGIN, int(2.5 * row) + tall + 2 * MARGIN
    place = {name: (MARGIN + column * step, MARGIN + at * row) for name, (column, at, _) in boxes.items()}
    parts = [_card(width, height), _ARROW]
    for source, target in arrows:
        (x1, y1), (x2, y2) = place[source], place[target]
        parts.append(
            f'<path d="M{x1 + wide} {y1 + tall / 2:g} C{x1 + wide + 16} {y1 + tall / 2:g} {x2 - 20} {y2 + tall / 2:g} '
            f'{x2 - 4} {y2 + tall / 2:g}" fill="none" stroke="{_PALE}" stroke-width="1.4" marker-end="url(#end)"/>'
        )
    for name, (_, _, below) in boxes.items():
        x, y = place[name]
        topic = name.startswith("llm.")
        fill, stroke = ("#fff7e6", "#f79009") if topic else ("#eef4ff", "#2e90fa")
        radius = tall / 2 if topic else 6
        parts.append(
            f'<rect x="{x}" y="{y:g}" width="{wide}" height="{tall}" rx="{radius:g}" fill="{fill}" stroke="{stroke}"/>'
        )
        parts.append(_text(x + wide / 2, y + (20 if below else 27), name, bold=not topic, middle=True))
        if below:
            parts.append(_text(x + wide / 2, y + 36, below, size=10, ink=_PALE, middle=True))
    return _svg(width, height, parts, "The way of an event: app, Kafka, lake, detectors, alert")


_ARROW = (
    '<defs><marker id="end" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0 8 4 0 8z" fill="{_PALE}"/></marker></defs>'
)


def _wrapped(entries: Sequence[str]) -> Iterator[str]:
    for entry in filter(None, entries):
        mark = "• " if len(entries) > 1 else ""
        for number, line in enumerate(textwrap.wrap(entry.replace("`", ""), _CHARS - 13)):
            yield (mark if number == 0 else "\u2003" * bool(mark)) + line


def _text(
    x: float, y: float, text: str, *, size: int = 13, bold: bool = False, ink: str = _INK, middle: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    anchor = ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{ink}"{weight}{anchor}>{escape(text, quote=False)}</text>'
    )


def _card(width: int, height: int) -> str:
    return f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{_PAPER}" stroke="{_LINE}"/>'


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'{_SANS} role="img">\n<title>{escape(title, quote=False)}</title>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def pictures() -> dict[str, str]:
    """Return name -> picture."""
    alert = Alert.from_json((FOLDER / "alert.json").read_bytes())
    return {"alert.svg": alert_svg(alert), "flow.svg": flow_svg()}


if __name__ == "__main__":
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
        print(f"wrote docs/pictures/{name}")
