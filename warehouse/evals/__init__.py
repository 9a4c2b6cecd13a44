"""Runs of evals: the sample of a run, its claim, and its scores."""
