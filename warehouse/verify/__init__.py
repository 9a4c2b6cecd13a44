"""Proof of a lake from its own data."""
