"""Notes on what an app never did before: a model, an answering model, a provider, a prompt version, a tool, a feature.

``values`` reads when each value was first seen → ``decide`` finds which are new and which belong to one change →
``compare`` reads what was different before and after → ``alerts`` makes the alerts → ``job`` runs all of them.
``pairs`` reads the optional file of allowed (prompt version, model) pairs.
"""

from jobs.novelty.decide import Settings
from jobs.novelty.job import DETECTOR, NoveltyReport, novelty
from jobs.novelty.pairs import AllowedPairs, read_pairs
from jobs.novelty.values import DEFAULT_KINDS, KINDS

__all__ = ["DEFAULT_KINDS", "DETECTOR", "KINDS", "AllowedPairs", "NoveltyReport", "Settings", "novelty", "read_pairs"]
