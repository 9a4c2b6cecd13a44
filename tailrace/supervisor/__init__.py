"""``tailrace up``: a process for each stage, restarted when it ends or hangs."""
