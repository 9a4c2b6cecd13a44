"""Runs the services of docker-compose.yml as processes of this machine, each on a loopback address of its own.

What changes on the way from a container to a process: names of services become their addresses, ``0.0.0.0`` and
``localhost`` become the service's own address, and the mount points become folders of the test. Ports, commands,
environments, health checks, dependencies and secrets are used as they are written.
"""

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from compose_harness import servers
from compose_harness.document import REPO, image_environment

HEALTHY_WITHIN_S = 150.0


class Stack:
    """The services that were started, and what they were given."""

    def __init__(self, document: Mapping[str, Any], folder: Path, more: Mapping[str, str] = {}) -> None:
        """``more`` is added to the environment of Tailrace's own services, as ``deploy/tailrace.env`` would."""
        self.document, self.folder, self.more = document, folder, dict(more)
        net = f"127.{random.randrange(16, 250)}.{random.randrange(1, 250)}"
        self.addresses = {name: f"{net}.{n}" for n, name in enumerate(document["services"], start=1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.substituted: dict[str, str] = {}
        """Service -> what ran in the place of its image."""
        self.secrets = folder / "secrets"
        self._secrets()

    def start(self, name: str) -> None:
        """Start a service after what it depends on is healthy."""
        if name in self.processes:
            return
        service = self.document["services"][name]
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                self.start(other)
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                self.await_healthy(other)
        command, environment, how = servers.launch(self, name, service)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, **how
            )

    def await_healthy(self, name: str) -> None:
        """Wait until the health check of the service succeeds."""
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while (answer := self.health(name)) is not None:
            assert self.processes[name].poll() is None, f"{name} ended\n{self.tail(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy: {answer}\n{self.tail(name)}"
            time.sleep(0.3)

    def health(self, name: str) -> str | None:
        """Run the health check once, as it is written; None where it succeeds, else what it printed."""
        words = [self.translate(word, name) for word in self.document["services"][name]["healthcheck"]["test"][1:]]
        words[0] = {"python": sys.executable, "pg_isready": servers.postgres_program("pg_isready")}.get(
            words[0], words[0]
        )
        done = subprocess.run(words, env=self.environment(name), capture_output=True, text=True, check=False)
        return None if done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"

    def environment(self, name: str) -> dict[str, str]:
        """What a service of ours sees."""
        service = self.document["services"][name]
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("TAILRACE_", "AWS_"))}
        given = {**image_environment(), **service.get("environment", {}), **self.more}
        given.pop("PATH", None), given.pop("TAILRACE_CACHE", None)
        if cache := os.environ.get("TAILRACE_CACHE"):
            given["TAILRACE_CACHE"] = cache
        del given["HOME"]  # the cache of jars is below it
        return {**outer, **{k: self.translate(v, name) for k, v in given.items()}}

    def translate(self, text: str, name: str) -> str:
        """Return ``text`` of service ``name`` for a process on this machine."""
        own = self.addresses[name]
        for other, address in self.addresses.items():
            # a host is followed by a port, or named as libpq names it
            text = re.sub(rf"(?<![\w.-]){other}(?=:\d)|(?<=host=){other}\b", address, text)
        text = re.sub(r"\b(?:0\.0\.0\.0|127\.0\.0\.1|localhost)\b(?=[:\"'/\s]|$)", own, text)
        for inside, outside in self._mounts(name).items():
            text = re.sub(rf"(?<![\w/]){re.escape(inside)}(?=$|[/\s\"'=])", str(outside), text)
        return text

    def data(self, name: str) -> Path:
        """The folder of a service."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def stop(self) -> None:
        """SIGTERM to all stages at once, then to the servers; SIGKILL to what is left after its grace period."""
        of_servers = [p for name, p in self.processes.items() if name in ("kafka", "postgres", "s3")]
        for group in ([p for p in self.processes.values() if p not in of_servers], of_servers):
            for process in group:
                process.terminate()
            for process in group:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def _secrets(self) -> None:
        """What deploy/secrets.sh makes, with this stack's addresses in it."""
        made = self.folder / "deploy"
        made.mkdir(parents=True)
        shutil.copy(REPO / "deploy" / "secrets.sh", made)
        subprocess.run(["sh", str(made / "secrets.sh")], check=True, capture_output=True)
        self.secrets.mkdir()
        for name, secret in self.document["secrets"].items():
            text = (made / "secrets" / Path(secret["file"]).name).read_text()
            (self.secrets / name).write_text(self.translate(text, "land"))

    def _mounts(self, name: str) -> dict[str, Path]:
        """Path in the container -> path here."""
        mounts = {"/run/secrets": self.secrets}
        for volume in self.document["services"][name].get("volumes", []):
            source, target, *_ = volume.split(":")
            mounts[target] = self.config_folder(name, source) if source.startswith("./") else self.data(name)
        return {**mounts, **({} if "/data" in mounts else {"/data": self.data(name)})}

    def config_folder(self, name: str, source: str) -> Path:
        """A copy of a folder of the repository, with addresses in the place of names."""
        copy = self.folder / f"{name}-{shlex.quote(Path(source).name)}"
        if not copy.exists():
            shutil.copytree(REPO / source, copy) if (REPO / source).is_dir() else copy.mkdir()
            for file in copy.rglob("*.yml"):
                file.write_text(self.translate(_static(file.read_text(), self.addresses), name))
        return copy


def _static(text: str, addresses: Mapping[str, str]) -> str:
    """Return a Prometheus configuration whose DNS look-ups of services are their addresses: no DNS knows them here."""
    document = yaml.safe_load(text)
    for scrape in document.get("scrape_configs", []) if isinstance(document, dict) else []:
        for lookup in scrape.pop("dns_sd_configs", []):
            targets = [f"{addresses[name]}:{lookup['port']}" for name in lookup["names"]]
            scrape.setdefault("static_configs", []).append({"targets": targets})
    return yaml.safe_dump(document) if isinstance(document, dict) else text
