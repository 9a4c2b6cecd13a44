"""A detector that raises is excluded from the record on at which it raised; the others continue.

The state of a detector is changed in place, so after an error it is not the state before the record. The stage
therefore ends and resumes from its last checkpoint: everything up to the record is judged again, with the same alerts
under the same ids, and from the record on the detector is left out for that app. A detector that raised for ``APPS``
apps, or where many apps are compared at once, is left out for all. The list is stored in a file of the stage,
with a hash of the code of detect: when the code changes, all detectors judge again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog

from schemas.errors import UNREADABLE

if TYPE_CHECKING:
    from pipelines.detect.detectors.base import Detector
    from pipelines.detect.stretch import Scan

log = structlog.get_logger("detect")
APPS = 3
ALL = "*"
_METHODS = frozenset(
    {"step", "scan", "bound", "idle", "observe", "has_steady_terms", "about_app", "on_resolved", "clearer"}
)


class DetectorError(Exception):
    """A detector raised: a bug in it. ``app`` is set by the caller that has it."""

    def __init__(self, detector: str, cause: BaseException, app: str = "") -> None:
        self.detector, self.cause, self.app = detector, cause, app
        super().__init__(f"detector {detector} raised {type(cause).__name__}: {cause}")


class Isolation(msgspec.Struct, frozen=True):
    """One detector that is left out."""

    topic: str
    """The broker's id of llm.rollups: offsets are those of this topic."""
    partition: int
    offset: int
    """First record that is judged without it."""
    app: str
    """``*``: every app."""
    detector: str
    cause: str
    """Type of the error; its text may hold text of a record."""

    def applies(self, topic: str, partition: int, offset: int, app: str) -> bool:
        """Whether the detector is left out for this record and app."""
        return (self.topic, self.partition) == (topic, partition) and offset >= self.offset and self.app in (app, ALL)

    def text(self) -> str:
        """Return it in words, without a text of a record."""
        whom = "all apps" if self.app == ALL else f"app {self.app}"
        return f"detector {self.detector} is left out for {whom} since llm.rollups[{self.partition}]@{self.offset}"


class _Stored(msgspec.Struct):
    code: str
    isolations: tuple[Isolation, ...] = ()


class Isolations:
    """The detectors that are left out, and the file that stores them."""

    def __init__(self, path: Path, *, code: str | None = None) -> None:
        """``code`` identifies the code of detect; None: that of this folder."""
        self._path, self._code = path, _code() if code is None else code
        self.all: tuple[Isolation, ...] = self._read()

    def add(self, isolation: Isolation) -> Isolation:
        """Leave a detector out; where it raised for many apps, for all. Return what is left out."""
        apps = {i.app for i in self.all if (i.detector, i.topic) == (isolation.detector, isolation.topic)}
        if len(apps | {isolation.app}) >= APPS:
            isolation = msgspec.structs.replace(isolation, app=ALL)
        self.all = (*self.all, isolation)
        self._write()
        return isolation

    def without(self, topic: str, partition: int, offset: int, app: str) -> frozenset[str]:
        """Return the names of the detectors that are left out."""
        return frozenset(i.detector for i in self.all if i.applies(topic, partition, offset, app))

    def _read(self) -> tuple[Isolation, ...]:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return ()
        except (OSError, *UNREADABLE) as error:
            log.warning("isolations_unreadable", path=str(self._path), cause=str(error))
            return ()
        return kept.isolations if kept.code == self._code else ()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(_Stored(self._code, self.all)))
        os.replace(draft, self._path)


class Checked:
    """A detector whose errors name the detector."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.name = detector, detector.name

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.detector, name)
        if name not in _METHODS:
            return value
        wrapped = _checked(self.name, value)
        self.__dict__[name] = wrapped  # found without __getattr__ from now on
        return wrapped


def checked(detectors: Iterable[Detector]) -> tuple[Detector, ...]:
    """Return ``detectors`` so that all their errors are `DetectorError`."""
    return tuple(cast("Detector", Checked(detector)) for detector in detectors)


def learned(detector: Detector, scan: Scan, count: int) -> Any:
    """Return the state that ``detector`` has after ``count`` buckets of ``scan``.

    Raises:
        DetectorError: it raised.
    """
    return _checked(detector.name, scan.learn)(count)


class raising:  # noqa: N801  (it reads as a statement; a generator would cost as much as what it guards)
    """Convert errors inside the block to errors of ``detector`` and ``app``; ``*``: one of many apps.

    Raises:
        DetectorError: it raised.
    """

    def __init__(self, detector: str, app: str) -> None:
        self.detector, self.app = detector, app

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DetectorError):
            raise DetectorError(self.detector, error, self.app) from error


def _checked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except DetectorError:
            raise
        except Exception as error:
            raise DetectorError(name, error) from error

    return call


def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
