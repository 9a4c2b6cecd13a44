"""``tailrace up`` as a benchmark runs it: a process of its own with its own broker, and a webhook to tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _report import REPO

from tailrace.demo.receiver import Receiver


class Up:
    """``tailrace up`` with its own broker, and a webhook that notes when each alert came."""

    def __init__(self, home: Path, receiver: Receiver) -> None:
        self.environment = {
            **os.environ,
            "TAILRACE_HOME": str(home),
            "TAILRACE_ALERT_CHANNELS": json.dumps([receiver.url]),
            "TAILRACE_WEBHOOK_SECRET": receiver.secret,
            "TAILRACE_WEBHOOK_ALLOW_HOSTS": receiver.url.split("/")[2],
        }
        self.log = home / "up.log"
        with self.log.open("wb") as out:
            command = [sys.executable, "-m", "tailrace", "up", "--no-web"]
            self.process = subprocess.Popen(command, cwd=REPO, env=self.environment, stdout=out, stderr=out)

    def status(self, wait_s: float = 0) -> dict[str, Any]:
        """Return what ``tailrace status`` says."""
        command = [sys.executable, "-m", "tailrace", "status", "--json", "--wait", str(wait_s)]
        told = subprocess.run(command, cwd=REPO, env=self.environment, capture_output=True, text=True, check=False)
        found: dict[str, Any] = json.loads(told.stdout)
        return found

    def ready(self) -> dict[str, Any]:
        """Wait until every stage runs."""
        told = self.status(180)
        assert told["ready"], f"{told['stages']}\n{self.log.read_text()}"
        return told

    def caught_up(self, within_s: float = 180) -> None:
        """Wait until no stage is behind but drift: it embeds what was sampled in its own time."""
        deadline = time.monotonic() + within_s
        while any(stage["lag"] for name, stage in self.status()["stages"].items() if name != "drift"):
            assert time.monotonic() < deadline, self.status()["stages"]
            time.sleep(0.5)

    def kill(self, stage: str) -> None:
        """SIGKILL to one stage; the supervisor starts it anew."""
        os.kill(self.status()["stages"][stage]["pid"], signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; what stays is killed."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
