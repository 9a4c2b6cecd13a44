"""``HOME/env``: what an app needs to reach this Tailrace, as lines that a POSIX shell reads."""

from __future__ import annotations

import shlex
from pathlib import Path

from tailrace.home.layout import Home


def write_env(home: Home, bootstrap_servers: str, prefix: str) -> Path:
    """Write ``HOME/env``, one VARIABLE=value a line, values quoted where a shell needs it; return the file."""
    values = {"TAILRACE_BOOTSTRAP_SERVERS": bootstrap_servers, "TAILRACE_HOME": str(home.path)}
    if prefix:
        values["TAILRACE_TOPIC_PREFIX"] = prefix
    file = home.folder("") / "env"
    file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()), encoding="utf-8")
    return file


def load_line(file: Path) -> str:
    """Return the line that exports the variables of ``file`` in sh, bash, dash and zsh.

    `export $(cat FILE)` does not: a shell splits what `cat` prints at blanks and keeps the quotes.
    """
    return f"set -a; . {shlex.quote(str(file))}; set +a"
