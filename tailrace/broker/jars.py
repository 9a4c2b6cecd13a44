"""Kafka's class path: fetched once, and never run unless every file is the one in ``broker.lock``.

The lock lists each jar as sha256sum does: the digest, and the path in a Maven repository. It was resolved
by ``scripts/lock_broker.py``; a fetch takes exactly those files and resolves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tailrace.broker.errors import JarDamagedError, JarFetchError, NoCacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = TypeVar("_T")

LOCK_FILE = Path(__file__).parent.parent / "broker.lock"


def default_cache(home: Path | None = None) -> Path:
    """Where downloads are kept: ``TAILRACE_CACHE``, else ``tailrace`` under the user's cache folder, else in ``home``.

    Raises:
        NoCacheError: this user has no cache folder, and no home is given.
    """
    if named := os.environ.get("TAILRACE_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "tailrace"
    try:
        return Path.home() / ".cache" / "tailrace"
    except RuntimeError:  # no HOME, and a user that the system has no entry of
        if home is None:
            raise NoCacheError from None
        return home / "cache"


def read_lock(lock_file: Path = LOCK_FILE) -> dict[str, str]:
    """Relative jar path -> sha256 in hex, in class path order."""
    rows = (line.split() for line in lock_file.read_text().splitlines() if line.strip())
    return {path: digest for digest, path in rows}


def ensure_jars(cache: Path, *, lock_file: Path = LOCK_FILE) -> list[Path]:
    """Fetch what is missing into ``cache``/jars, verify all of it, return the class path.

    All 45 MB are hashed each time: that takes 0.13 s and leaves nothing to trust.

    Raises:
        JarDamagedError: A file differs from the lock.
        JarFetchError: A file is missing and cannot be had.
    """
    locked = read_lock(lock_file)
    root = cache / "jars"
    missing = {path: digest for path, digest in locked.items() if not (root / path).exists()}
    if missing:
        _fetch(missing, root)
    for path, digest in locked.items():
        if path not in missing:
            _check(root / path, digest)
    return [root / path for path in locked]


def _check(file: Path, expected: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise JarDamagedError(file, expected, found)


def _fetch(missing: dict[str, str], root: Path) -> None:
    """Download beside the cache and move in one by one: a kill leaves whole jars or none."""
    root.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=root))
    try:
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(_fetch_one, path, digest, part, root) for path, digest in missing.items()]
            try:
                for done in _with_progress(as_completed(waiting), len(waiting)):
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch_one(path: str, digest: str, part: Path, root: Path) -> None:
    # jgo pulls in requests: 0.2 s that a start from a full cache need not pay
    import requests
    from jgo.maven import MavenContext, PythonResolver

    *group, artifact, version, _ = path.split("/")
    maven = MavenContext(resolver=PythonResolver(), repo_cache=part, local_repos=[], timeout=30)
    try:
        fetched: Path = maven.project(".".join(group), artifact).at_version(version).artifact().resolve()
    except (requests.RequestException, OSError, RuntimeError) as error:
        raise JarFetchError(path.rsplit("/", 1)[-1], root, str(error)) from error
    _check(fetched, digest)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(fetched, root / path)


def _with_progress(items: Iterator[_T], total: int) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, "fetching kafka", total=total, console=console, disable=not console.is_terminal)
