import pytest

from pipelines.backoff import exponential_s
from pipelines.notify.outcome import RetryPolicy
from tailrace.supervisor.restarts import back_off


def test_the_pause_doubles_from_the_first_to_the_longest():
    pauses = [exponential_s(n, first_s=0.5, longest_s=20.0) for n in range(1, 9)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@pytest.mark.parametrize("failures", [1_024, 1_025, 100_000])
def test_a_broker_that_is_away_for_hours_is_asked_again_at_the_longest_pause(failures):
    assert exponential_s(failures, first_s=0.4, longest_s=5.0) == 5.0
    assert back_off(failures) == 20.0
    assert 60.0 <= RetryPolicy(cap_s=120.0).wait_s(failures, "alert") <= 120.0
