"""Every panel of the dashboards as a picture, from a real Prometheus: ``python -m tests.monitoring.picture FOLDER``.

Grafana is in no package registry; this shows what its panels would have to draw.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import altair as alt
import polars as pl

from tests.monitoring import prometheus as real
from tests.monitoring.home import Living


def rows(prometheus: real.Prometheus, panel: dict, seconds: int) -> pl.DataFrame:
    found = []
    for target in panel["targets"]:
        for series in prometheus.range(target["expr"].replace("$app", ".*"), seconds):
            name = target["legendFormat"]
            for key, value in series["metric"].items():
                name = name.replace("{{" + key + "}}", value)
            found += [{"time": at, "value": float(value), "series": name} for at, value in series["values"]]
    frame = pl.DataFrame(found)
    return frame.with_columns(pl.from_epoch(pl.col("time").cast(pl.Int64)))


def chart(prometheus: real.Prometheus, panel: dict, seconds: int) -> alt.Chart:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = alt.Chart(rows(prometheus, panel, seconds)).mark_line(point=True)
    return lines.encode(
        alt.X("time:T", title=None), alt.Y("value:Q", title=unit), alt.Color("series:N", title=None)
    ).properties(title=f"{panel['title']}", width=330, height=150)


def main(folder: Path, seconds: int = 30) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp())
    living = Living(work / "home")
    (work / "prometheus").mkdir()
    with real.page(living.page) as port, real.running(work / "prometheus", port, real.free_port()) as prometheus:
        time.sleep(seconds)
        for file in sorted((real.DEPLOY / "grafana" / "dashboards").glob("*.json")):
            panels = json.loads(file.read_text())["panels"]
            charts = [chart(prometheus, panel, seconds) for panel in panels]
            picture = alt.concat(*charts, columns=3).resolve_scale(color="independent")
            picture.save(folder / f"{file.stem}.png", scale_factor=1.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
