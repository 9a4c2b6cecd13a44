"""The content and the life cycle of alerts: grouping, cause, evidence, runbook. All pure."""
