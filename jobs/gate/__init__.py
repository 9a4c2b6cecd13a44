"""The gate: is a candidate worse than its baseline on a golden set.

A run goes: ``settings`` reads gate.yaml, ``targets`` what is compared, ``golden_file`` the cases → ``render`` makes the
requests → ``runner`` has them answered by ``clients`` or the cache of ``answers`` → ``cost`` prices and ``results``
scores them, with the scorers of ``jobs.evals`` → ``checks`` compares by ``verdict`` and ``budget`` → ``report`` is
what was found, ``written`` its forms.
"""
