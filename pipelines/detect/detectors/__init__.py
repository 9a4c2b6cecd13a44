"""The detectors of the stream. To add one: a file here, its test, a line in ``DETECTORS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from pipelines.detect.detectors.base import Detector, State, View
from pipelines.detect.detectors.cache import Cache
from pipelines.detect.detectors.ceiling import SingleCallLimit
from pipelines.detect.detectors.cold_start import ColdStart
from pipelines.detect.detectors.latency import Latency
from pipelines.detect.detectors.per_call import PerCall
from pipelines.detect.detectors.spike import Spike
from pipelines.detect.detectors.surge import Surge
from schemas.errors import SettingsError

DETECTORS: tuple[Detector, ...] = (Spike(), Surge(), SingleCallLimit(), ColdStart(), Cache(), Latency(), PerCall())


def configure(rules: Mapping[str, Mapping[str, Any]]) -> tuple[Detector, ...]:
    """Return DETECTORS with the fields that ``rules`` names (detector -> field -> value) replaced.

    Raises:
        SettingsError: no such detector, no such field, or a value of another type.
    """
    by_name = {detector.name: detector for detector in DETECTORS}
    for name, changes in rules.items():
        if name not in by_name:
            raise SettingsError(f"rules.detectors.{name}", "no such detector", f"use one of {', '.join(by_name)}")
        known = {f.name: getattr(by_name[name], f.name) for f in fields(by_name[name])}  # type: ignore[arg-type]
        for key, value in changes.items():
            where = f"rules.detectors.{name}.{key}"
            if key not in known:
                raise SettingsError(where, "no such field", f"use one of {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or isinstance(known[key], tuple):
                raise SettingsError(where, f"cannot be {value!r}", f"give a number, such as {known[key]!r}")
        by_name[name] = replace(by_name[name], **changes)  # type: ignore[type-var]
    return tuple(by_name.values())


__all__ = ["DETECTORS", "Detector", "State", "View", "configure"]
