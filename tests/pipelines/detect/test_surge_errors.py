"""An alert on errors names their class, and says how much of the volume are further attempts."""

from __future__ import annotations

import numpy as np

from pipelines.detect.detectors.surge_errors import error_causes
from pipelines.detect.items import SLOT
from pipelines.detect.side import CODE, ERROR, Cells
from pipelines.detect.windows import Windows
from schemas.rollups import series_key

OWN, MODEL = series_key({"app": "bot"})[1], series_key({"app": "bot", "model": "m1"})[1]


def windows() -> Windows:
    found = Windows("bot")
    cells = [
        (0, CODE["calls"], 100),
        (0, CODE["retried_calls"], 30),
        (0, ERROR, 40),
        (0, ERROR + 1, 10),
        (1, CODE["calls"], 40),
        (1, ERROR + 1, 10),
    ]
    batch = Cells([OWN, MODEL], np.zeros(len(cells), np.int64), np.array(cells), ["rate_limit_error", "server_error"])
    found.side.add(batch, np.ones(len(cells), bool), np.zeros(len(cells), np.int64))
    return found


def test_classes_are_named_by_their_share_and_calls_are_told_apart() -> None:
    causes = error_causes(windows(), OWN, 0, SLOT, 5)
    assert [(c.dimension, c.value, c.share) for c in causes] == [
        ("error_type", "rate_limit_error", 0.8),
        ("error_type", "server_error", 0.2),
        ("retries", "further attempts", 0.3),
    ]
    assert {type(c.share) for c in causes} == {float}  # numpy's is refused where an alert is encoded
    assert causes[0].text == "rate_limit_error: 80% of the errors"
    assert causes[-1].text == "of 100 calls 65 are demand, 30 further attempts, 5 fallbacks"


def test_where_attempts_are_not_reported_nothing_is_said_of_them() -> None:
    assert [c.value for c in error_causes(windows(), MODEL, 0, SLOT, 0)] == ["server_error"]
    assert error_causes(windows(), series_key({"app": "bot", "model": "m2"})[1], 0, SLOT, 0) == ()
