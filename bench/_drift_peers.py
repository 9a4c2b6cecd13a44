"""The tests of embeddings of other libraries, in a Python that has them: ``bench/drift_peers.py`` starts this.

Each has the settings that its library gives it. Reads a file of arrays, prints for each stream the number of the first
window in which a test sees a drift, 0 for none, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from alibi_detect.cd import ClassifierDrift, KSDrift
from evidently.legacy.metrics.data_drift import embedding_drift_methods as evidently
from sklearn.linear_model import LogisticRegression

Test = Callable[[Any], bool]
"""Whether a window, (texts, dimensions), differs from the reference."""


def tests(reference: Any) -> Iterator[tuple[str, Test]]:
    """Yield name and test of each library."""
    ks = KSDrift(reference, p_val=0.05)
    yield "alibi-detect KSDrift", lambda window: bool(ks.predict(window)["data"]["is_drift"])
    told_apart = ClassifierDrift(
        reference, LogisticRegression(max_iter=1000), backend="sklearn", p_val=0.05, preds_type="probs", seed=1
    )
    yield "alibi-detect ClassifierDrift", lambda window: bool(told_apart.predict(window)["data"]["is_drift"])
    frame = pd.DataFrame(reference, columns=[f"v{i}" for i in range(reference.shape[1])])
    for name, method in (
        ("evidently model", evidently.model()),
        ("evidently ratio", evidently.ratio()),
        ("evidently distance", evidently.distance()),
    ):
        yield name, partial(_sees, method, frame)


def _sees(method: Callable[[Any, Any], Any], reference: Any, window: Any) -> bool:
    return bool(method(pd.DataFrame(window, columns=reference.columns), reference.copy())[1])  # it writes into both


def main() -> None:
    warnings.simplefilter("ignore")
    read = np.load(sys.argv[1])
    size = int(read["window"])
    found: dict[str, list[int]] = {}
    with contextlib.redirect_stdout(sys.stderr):
        for stream in range(len(read["reference"])):
            reference, after = read["reference"][stream], read["after"][stream]
            windows = [after[i : i + size] for i in range(0, len(after) - size + 1, size)]
            for name, test in tests(reference):
                first = next((number for number, window in enumerate(windows, 1) if test(window)), 0)
                found.setdefault(name, []).append(first)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
