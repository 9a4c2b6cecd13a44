"""Series that are too new to be compared are counted, and users are not."""

from __future__ import annotations

from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.learning import counts
from tests.pipelines.detect.traffic import HOUR, T0, App, Stream


def test_all_series_of_a_new_app_learn_and_later_only_those_of_which_nothing_is_known() -> None:
    state, judge = PartitionState(), Judge()
    stream = Stream(61, apps=(App(rate=0.5),), partitions=1)
    for record in stream.records(T0 - HOUR, T0 - HOUR // 2, live=False, batch_s=300):
        judge.step(state, record)
    young = counts([state], 2400.0)
    assert young["series"] == young["learning"] == 1 + 2 + 6 + 2, "the app, features, tenants, models"
    for record in stream.records(T0 - HOUR // 2, T0, live=False, batch_s=300):
        judge.step(state, record)
    assert counts([state], 2400.0) == {"series": 11, "learning": 0}
    windows = state.apps["bot"].windows
    windows.place('{"app":"bot","feature":"new"}', windows.closed)
    assert counts([state], 2400.0) == {"series": 12, "learning": 1}
