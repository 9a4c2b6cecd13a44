"""Alerts on apps that stopped: no call arrives although many are expected by the app's own history.

``profile`` learns when an app calls → ``decide`` finds the apps without calls → ``job`` reads the lake and runs both.
"""

from jobs.no_calls.decide import Settings, StoppedApp, judge_app
from jobs.no_calls.job import DETECTOR, NoCallsReport, no_calls
from jobs.no_calls.profile import Profile, learn

__all__ = ["DETECTOR", "NoCallsReport", "Profile", "Settings", "StoppedApp", "judge_app", "learn", "no_calls"]
