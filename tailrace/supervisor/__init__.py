"""``tailrace up``: a process for each stage, restarted when it dies or hangs."""
