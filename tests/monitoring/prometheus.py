"""A real Prometheus with the shipped configuration, which scrapes a page of metrics that the test makes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def page(text: Callable[[], bytes], received: Callable[[bytes], None] = lambda body: None) -> Iterator[int]:
    """Serve what ``text`` returns, and hand on what is posted; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            received(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def until(look: Callable[[], Any], what: str, *, within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, promql: str) -> list[dict[str, Any]]:
        found = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
        assert found["status"] == "success", promql
        return list(found["data"]["result"])

    def range(self, promql: str, seconds: int = 60) -> list[dict[str, Any]]:
        now = time.time()
        asked = {"query": promql, "start": now - seconds, "end": now, "step": 1}
        return list(get(f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}")["data"]["result"])

    def alerts(self) -> set[str]:
        return {each["labels"]["alertname"] for each in get(f"{self.url}/api/v1/alerts")["data"]["alerts"]}

    def rules(self) -> list[dict[str, Any]]:
        groups = get(f"{self.url}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def running(folder: Path, target: int, alertmanager: int) -> Iterator[Prometheus]:
    """Start it on the shipped prometheus.yml and rules, at another pace and with other addresses."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    # a scrape that is late by more than its timeout makes every series of the page stale
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "250ms", "scrape_timeout": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager}"]}]
    (scrape,) = [job for job in config["scrape_configs"] if job["job_name"] == "tailrace"]
    assert scrape.pop("dns_sd_configs")
    assert scrape.pop("authorization")
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    config["scrape_configs"] = [scrape]
    shutil.copytree(DEPLOY / "prometheus" / "rules", folder / "rules")
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    checked = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    port = free_port()
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log"):
        prometheus = Prometheus(port)
        until(lambda: ready(f"{prometheus.url}/-/ready"), "Prometheus is ready")
        yield prometheus


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
