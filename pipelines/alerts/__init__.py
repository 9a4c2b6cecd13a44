"""What an alert says and when: life cycle, grouping, cause, evidence, runbook. All pure."""
