"""The main job under test: an hour of traffic composed beforehand, and one Tailrace as people start it."""
