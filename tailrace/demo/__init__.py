"""The demo: synthetic traffic, three incidents drawn from a seed, and a check of the alerts on them."""
