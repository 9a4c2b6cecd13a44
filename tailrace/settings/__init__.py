"""The settings: what the environment and ``tailrace.toml`` may set, and the page that lists it."""
