"""Sends events from files to the topic, and finds them again: landed rows and dead letters."""
