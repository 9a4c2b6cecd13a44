"""The environment variables of an emitter; read once, when it is made."""

import os
import sys
from pathlib import Path
from typing import Mapping, Optional

USER_MODES = ("auto", "all", "plain")
HOME_KEY = "user.key"
"""File in the home with the key that it has made for pseudonyms."""
VARIABLES = {
    "TAILRACE_APP": "Name of the app; default: the name of the script.",
    "TAILRACE_BOOTSTRAP_SERVERS": "Kafka, `host:port,...`. Without it events are counted and dropped.",
    "TAILRACE_TOPIC": "Topic of the events; default: `llm.events` behind TAILRACE_TOPIC_PREFIX.",
    "TAILRACE_TOPIC_PREFIX": "Put before `llm.events`, as `kafka.prefix` is.",
    "TAILRACE_ENV": "prod, staging, ...",
    "TAILRACE_RELEASE": "Release of the app; default: the commit of the working directory.",
    "TAILRACE_CONTENT_MODE": "full, redacted, hashed or none; default: redacted.",
    "TAILRACE_USER_KEY": "Key under which every user becomes a pseudonym.",
    "TAILRACE_USER_KEY_FILE": "File with that key.",
    "TAILRACE_USER_MODE": "auto, all or plain: which users become pseudonyms; default: auto.",
    "TAILRACE_HOME": "Folder of a Tailrace on this machine; its key of pseudonyms is used where none was set.",
    "TAILRACE_DISABLED": "1: record nothing.",
    "TAILRACE_EXIT_S": "Longest wait for Kafka at the end of a process, seconds; default: 2.",
    "TAILRACE_SIGTERM": "0: do not flush on a SIGTERM that the app does not handle.",
}
"""Every variable that the emitter reads -> what it means. ``tailrace`` accepts these names and refuses unknown ones."""

_RELEASE_NAMES = ("TAILRACE_RELEASE", "GIT_COMMIT", "GIT_SHA", "SOURCE_VERSION", "GITHUB_SHA", "CI_COMMIT_SHA")


def flag(env: Mapping[str, str], name: str) -> bool:
    """Whether a variable is set to a true value."""
    return env.get(name, "").strip().lower() in ("1", "true", "yes", "on")


def topic_of(env: Mapping[str, str]) -> str:
    """The topic: from ``TAILRACE_TOPIC``, else the default name with the prefix."""
    return env.get("TAILRACE_TOPIC") or env.get("TAILRACE_TOPIC_PREFIX", "") + "llm.events"


def app_of(env: Mapping[str, str]) -> str:
    """The app's name: from ``TAILRACE_APP``, else the name of the script."""
    if env.get("TAILRACE_APP"):
        return env["TAILRACE_APP"]
    stem = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in ("", "-c", "-m") else ""
    return stem or "unknown"


def user_key_of(env: Mapping[str, str]) -> Optional[str]:
    """The key of pseudonyms, from the variable or from the file it is kept in."""
    if env.get("TAILRACE_USER_KEY"):
        return env["TAILRACE_USER_KEY"]
    path = env.get("TAILRACE_USER_KEY_FILE")
    if not path:
        return None
    return Path(path).read_text(encoding="utf-8").strip() or None


def home_key_of(env: Mapping[str, str]) -> Optional[str]:
    """The key of the home of this machine, where the app may read it.

    Else land replaces the ids when it reads the event.
    """
    home = env.get("TAILRACE_HOME")
    if not home:
        return None
    try:
        return (Path(home) / HOME_KEY).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def user_mode_of(env: Mapping[str, str]) -> str:
    """Which users become pseudonyms; an unknown value replaces all that can be replaced."""
    mode = env.get("TAILRACE_USER_MODE", "").strip().lower() or "auto"
    return mode if mode in USER_MODES else "all"


def release_of(env: Mapping[str, str], start: Optional[Path] = None) -> Optional[str]:
    """The app's release: from the environment, else the commit checked out where the app runs (12 digits)."""
    for name in _RELEASE_NAMES:
        if env.get(name):
            return env[name]
    try:
        here = (start or Path(os.getcwd())).resolve()
        git = next((p / ".git" for p in (here, *here.parents) if (p / ".git" / "HEAD").is_file()), None)
        if git is None:
            return None
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head[:12]
        ref = head[5:]
        if (git / ref).is_file():
            return (git / ref).read_text(encoding="utf-8").strip()[:12]
        for line in (git / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(" " + ref):
                return line[:12]
    except (OSError, ValueError):
        pass
    return None
