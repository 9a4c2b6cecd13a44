"""Alerts go out: at least once, in order per alert, one message per alert, state and channel."""
