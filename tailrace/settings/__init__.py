"""The settings: what the environment and ``tailrace.toml`` may say, and the page that lists it."""
