"""An app that stops is found as soon as its own history allows, and an app that goes on is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.no_calls import Settings, judge_app, learn
from jobs.no_calls.profile import DAY_MINUTES

START = 29_700_000 // DAY_MINUTES * DAY_MINUTES
"""A midnight UTC."""
DAYS = 14
END = START + DAYS * DAY_MINUTES


def history(rate, *, days=DAYS, seed=1):
    """(minutes, calls) of an app; ``rate`` gives calls a minute for minutes since START."""
    at = np.arange(days * DAY_MINUTES)
    calls = np.random.default_rng(seed).poisson(rate(at))
    called = np.flatnonzero(calls)
    return START + called, calls[called].astype(float)


def office(at):
    """20 calls a minute from 8 to 18 on weekdays, nothing else."""
    hour, weekday = at // 60 % 24, (at // DAY_MINUTES + (START // DAY_MINUTES + 3)) % 7
    return np.where((hour >= 8) & (hour < 18) & (weekday < 5), 20.0, 0.0)


def judged(minutes, calls, until, **fields):
    before = minutes < until
    return judge_app("a", minutes[before], calls[before], start=START, until=until, settings=Settings(**fields))


def first_alarm(minutes, calls, begin, end, step=1):
    return next((at for at in range(begin, end, step) if judged(minutes, calls, at)), None)


@pytest.mark.parametrize(("per_minute", "within"), [(600, 5), (30, 5), (3, 12), (0.6, 60), (0.05, 700)])
def test_a_steady_app_that_stops_is_found_after_some_25_missing_calls_or_five_minutes(per_minute, within):
    minutes, calls = history(lambda at: np.full(len(at), per_minute))
    found = first_alarm(minutes, calls, END, END + 3 * DAY_MINUTES)
    assert found is not None
    assert found - minutes[-1] - 1 <= within


def test_nights_and_weekends_of_an_office_app_are_no_silence_and_a_morning_without_calls_is_one():
    minutes, calls = history(office)
    saturday = next(at for at in range(END, END + 8 * DAY_MINUTES, DAY_MINUTES) if (at // DAY_MINUTES + 3) % 7 == 5)
    monday = saturday + 2 * DAY_MINUTES
    goes_on = office(np.arange(DAYS * DAY_MINUTES, saturday - START))
    more = np.flatnonzero(goes_on) + END
    minutes, calls = np.concatenate([minutes, more]), np.concatenate([calls, np.full(len(more), 20.0)])
    assert first_alarm(minutes, calls, saturday, monday + 8 * 60, 10) is None
    found = first_alarm(minutes, calls, monday + 8 * 60, monday + 12 * 60)
    assert found is not None
    assert found < monday + 8 * 60 + 30


@pytest.mark.parametrize("per_minute", [0.05, 0.5, 20])
def test_apps_that_go_on_give_hardly_an_alarm(per_minute):
    """30 apps for three days each, judged every ten minutes, with bursts and a daily rhythm."""
    alarms = 0
    for seed in range(30):
        draws = np.random.default_rng(seed)
        bursts = np.repeat(draws.gamma(2.0, 0.5, 17 * 48), 30)
        minutes, calls = history(
            lambda at, bursts=bursts: per_minute * bursts[: len(at)] * (1.1 + np.sin(at / DAY_MINUTES * 2 * np.pi)),
            days=17,
            seed=seed,
        )
        alarms += first_alarm(minutes, calls, END, END + 3 * DAY_MINUTES, 10) is not None
    assert alarms <= 1  # of 90 app-days


def test_an_outage_of_the_past_must_be_exceeded_twice():
    minutes, calls = history(lambda at: np.where((at > 5000) & (at < 5200), 0.0, 3.0))
    assert first_alarm(minutes, calls, END, END + 350) is None
    assert first_alarm(minutes, calls, END, END + 450) is not None


@pytest.mark.parametrize(
    "fields", [{"ignore": ("a",)}, {"min_days": 15.0}, {"min_calls": 10**9}, {"min_gap": 10**6}, {"chance": 1e-300}]
)
def test_what_is_set_is_kept_to(fields):
    minutes, calls = history(lambda at: np.full(len(at), 3.0))
    assert judged(minutes, calls, END + 120)
    assert judged(minutes, calls, END + 120, **fields) is None


def test_nothing_is_said_of_an_app_of_an_hour_or_of_none():
    minutes, calls = history(lambda at: np.full(len(at), 3.0), days=1)
    assert judged(minutes, calls, END) is None
    assert judged(minutes[:0], calls[:0], END) is None


@given(st.integers(0, 20 * DAY_MINUTES), st.integers(0, 20 * DAY_MINUTES), st.integers(0, 20 * DAY_MINUTES))
@settings(max_examples=60, deadline=None)
def test_expected_calls_add_up(a, b, c):
    minutes, calls = history(office)
    profile = learn(minutes, calls, START, END)
    low, middle, high = sorted((START + a, START + b, START + c))
    whole = profile.expected(low, high)
    assert whole == pytest.approx(profile.expected(low, middle) + profile.expected(middle, high), abs=1e-6)
    assert whole >= 0


def test_a_profile_expects_what_it_has_seen():
    minutes, calls = history(lambda at: np.full(len(at), 3.0))
    profile = learn(minutes, calls, START, END)
    assert profile.expected(START, END) == pytest.approx(calls.sum(), rel=0.02)
    assert profile.days == pytest.approx(DAYS, abs=0.01)
