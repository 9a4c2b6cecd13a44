"""Alerts on apps that stopped: no call arrives although the app's own history makes one expect many.

``profile`` learns when an app calls → ``decide`` says which apps are silent → ``job`` reads the lake and runs both.
"""

from jobs.no_calls.decide import Settings, Silent, judge_app
from jobs.no_calls.job import DETECTOR, NoCallsReport, no_calls
from jobs.no_calls.profile import Profile, learn

__all__ = ["DETECTOR", "NoCallsReport", "Profile", "Settings", "Silent", "judge_app", "learn", "no_calls"]
