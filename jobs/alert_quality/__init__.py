"""How good the alerts were by the verdicts of people: precision by rule, and a threshold that would do better."""

from jobs.alert_quality.effect import Effect, effect
from jobs.alert_quality.incidents import Incident, incidents_between
from jobs.alert_quality.precision import RulePrecision, precisions
from jobs.alert_quality.report import AlertQuality, Tried, cost, proposals
from jobs.alert_quality.thresholds import Proposal, propose

__all__ = [
    "AlertQuality",
    "Effect",
    "Incident",
    "Proposal",
    "RulePrecision",
    "Tried",
    "cost",
    "effect",
    "incidents_between",
    "precisions",
    "proposals",
    "propose",
]
