"""How far a judge agrees with people: Cohen's kappa with an interval, and a calibration table. Pure.

Cohen, J. (1960), "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20(1);
the standard error is the large-sample one of Fleiss, Cohen and Everitt (1969), Psychological Bulletin 72(5), for two
categories computed by the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_LABELS = 50
"""With fewer labels by people, the agreement is too uncertain for a judge that can block a release."""
MIN_KAPPA = 0.4
"""Below it agreement is called fair at best: Landis and Koch (1977), Biometrics 33(1)."""
_Z = 1.959963984540054


@dataclass(frozen=True)
class CalibrationRow:
    """Answers whose judge score is in one bin."""

    low: float
    high: float
    """Bounds of the normalised score, low included; the last bin includes high."""
    answers: int
    mean_score: float
    """Mean normalised score of the judge."""
    good_share: float
    """Share that people called good."""


@dataclass(frozen=True)
class Agreement:
    """A judge against people, over the answers that both judged."""

    labels: int
    """Answers with a label by a person and a score of the judge."""
    observed: float | None
    """Share on which both agree; None without labels."""
    kappa: float | None
    """Cohen's kappa; None where it is undefined: no labels, or both always gave the same one label."""
    low: float | None
    high: float | None
    """95 % interval of kappa."""
    table: tuple[CalibrationRow, ...]

    @property
    def may_block(self) -> bool:
        """Whether the judge may block a release: enough labels, and kappa not below ``MIN_KAPPA``."""
        return self.labels >= MIN_LABELS and self.kappa is not None and self.kappa >= MIN_KAPPA

    @property
    def reason(self) -> str:
        """Why the judge may not block; empty where it may."""
        if self.labels < MIN_LABELS:
            return f"{self.labels} human labels, {MIN_LABELS} are needed"
        if self.kappa is None:
            return "kappa is undefined: all labels are the same"
        return "" if self.may_block else f"kappa {self.kappa:.2f} is below {MIN_KAPPA}"


def agreement(passed: Sequence[bool], good: Sequence[bool], scores: Sequence[float], *, bins: int = 5) -> Agreement:
    """Compare a judge with people.

    Args:
        passed: whether each answer passed the judge.
        good: whether people called it good; the same answers in the same order.
        scores: the judge's normalised scores in [0, 1], for the calibration table.
        bins: rows of the table, of equal width; rows without an answer are left out.
    """
    judge, people = np.asarray(passed, dtype=bool), np.asarray(good, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    if not len(judge) == len(people) == len(values):
        raise ValueError(
            f"{len(judge)} verdicts, {len(people)} labels and {len(values)} scores are not the same answers"
        )
    n = len(judge)
    if not n:
        return Agreement(0, None, None, None, None, ())
    cells = np.array([[np.mean(judge & people), np.mean(judge & ~people)], [np.mean(~judge & people), 0.0]])
    cells[1, 1] = 1.0 - cells.sum()
    kappa, error = _kappa(cells, n)
    low, high = (None, None) if kappa is None else (max(-1.0, kappa - _Z * error), min(1.0, kappa + _Z * error))
    return Agreement(n, float(np.mean(judge == people)), kappa, low, high, _calibration(values, people, bins))


def _kappa(cells: np.ndarray, n: int) -> tuple[float | None, float]:
    rows, columns = cells.sum(axis=1), cells.sum(axis=0)
    by_chance = float(rows @ columns)
    if by_chance >= 1.0 - 1e-12:
        return None, 0.0
    agreed = float(np.trace(cells))
    kappa = (agreed - by_chance) / (1.0 - by_chance)
    diagonal = sum(cells[i, i] * (1.0 - (rows[i] + columns[i]) * (1.0 - kappa)) ** 2 for i in range(2))
    beside = (1.0 - kappa) ** 2 * sum(
        cells[i, j] * (columns[i] + rows[j]) ** 2 for i in range(2) for j in range(2) if i != j
    )
    centre = (kappa - by_chance * (1.0 - kappa)) ** 2
    variance = (diagonal + beside - centre) / (n * (1.0 - by_chance) ** 2)
    return kappa, math.sqrt(max(0.0, float(variance)))


def _calibration(scores: np.ndarray, good: np.ndarray, bins: int) -> tuple[CalibrationRow, ...]:
    row = np.minimum((scores * bins).astype(np.int64), bins - 1)
    return tuple(
        CalibrationRow(
            b / bins,
            (b + 1) / bins,
            int(here.sum()),
            float(scores[here].mean()),
            float(good[here].mean()),
        )
        for b in range(bins)
        if (here := row == b).any()
    )
