"""A real PostgreSQL of one test session: initdb in a folder of its own, TCP on loopback."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_OPTIONS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=50"


def binaries() -> Path | None:
    """Where Debian keeps initdb; None where PostgreSQL is not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if found:
        return Path(found[-1]).parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Postgres:
    """Runs until ``close``. PostgreSQL refuses to run as root: there it runs as postgres or nobody."""

    def __init__(self) -> None:
        bins = binaries()
        assert bins is not None
        self.user = _user()
        self.folder = Path(tempfile.mkdtemp(prefix="tailrace-pg-"))
        how: dict[str, Any] = {}
        if os.geteuid() == 0:
            who = pwd.getpwnam(self.user)
            os.chown(self.folder, who.pw_uid, who.pw_gid)
            how = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        subprocess.run(
            [bins / "initdb", "-D", data, "-U", "tailrace", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **how,
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [bins / "postgres", "-D", data, *f"-p {self.port} {_OPTIONS}".split()],
            stdout=subprocess.DEVNULL,
            stderr=_log(self.folder),
            cwd=self.folder,
            **how,
        )
        while subprocess.run(
            [bins / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"], check=False
        ).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()

    def database(self, name: str) -> str:
        """Make a database; return the part of its DSN without host and port."""
        server = f"host=127.0.0.1 port={self.port} user=tailrace dbname=postgres"
        subprocess.run(
            ["psql", "-X", "-q", server, "-c", f'CREATE DATABASE "{name}"'],
            check=True,
            capture_output=True,
        )
        return f"user=tailrace dbname={name}"

    def close(self) -> None:
        self.process.terminate()
        self.process.send_signal(2)  # fast shutdown: do not wait for clients
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _log(folder: Path) -> int:
    return os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _user() -> str:
    names = {p.pw_name for p in pwd.getpwall()}
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    return "postgres" if "postgres" in names else "nobody"
