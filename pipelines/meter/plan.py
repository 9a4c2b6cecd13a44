"""Which series are rolled up, and how much each row carries."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import SettingsError
from schemas.rollups import DERIVED, DIMENSIONS

APP_FAMILIES: tuple[tuple[str, ...], ...] = (
    (),
    *((name,) for name in DIMENSIONS),
    ("feature", "model"),
    *((name,) for name in DERIVED),
)
_KNOWN = (*DIMENSIONS, *DERIVED)
SPAN_FAMILIES: tuple[tuple[str, ...], ...] = ((), ("team",), ("tenant",), ("model",))


@dataclass(frozen=True)
class Plan:
    """The tracked families: dimensions below ``app``, and those that span apps. A call without one of the values
    makes no series of that family.
    """

    app: tuple[tuple[str, ...], ...] = APP_FAMILIES
    span: tuple[tuple[str, ...], ...] = SPAN_FAMILIES
    exemplars: int = 3
    """Calls kept per measure and row."""
    wide: tuple[str, ...] = ("user",)
    """Rows of families with one of these keep one call per measure: they are many."""

    def __post_init__(self) -> None:
        """Put dimensions into the order of DIMENSIONS and DERIVED.

        Raises:
            SettingsError: an unknown dimension.
        """
        for name in ("app", "span"):
            families = getattr(self, name)
            if unknown := {d for family in families for d in family} - set(_KNOWN):
                known = ", ".join(_KNOWN)
                raise SettingsError("meter.series", f"no dimension {sorted(unknown)}", f"use some of {known}")
            ordered = tuple(tuple(d for d in _KNOWN if d in family) for family in families)
            object.__setattr__(self, name, tuple(dict.fromkeys(ordered)))

    def families(self) -> list[tuple[str, ...]]:
        """Every family as written in ``dims``, app first where it has one."""
        return [*(("app", *f) for f in self.app), *self.span]

    def limit(self, dims: tuple[str, ...]) -> int:
        """Exemplars per measure in rows of family ``dims``."""
        return 1 if set(self.wide) & set(dims) else self.exemplars

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Every dimension of any family that is a field of the event."""
        used = {d for family in (*self.app, *self.span) for d in family}
        return tuple(d for d in DIMENSIONS if d in used)


DEFAULT = Plan()
