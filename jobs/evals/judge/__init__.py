"""A language model as judge: rubrics, what is asked, what it costs, and how far it agrees with people."""

JUDGE_APP = "tailrace-judge"
"""App of the judge's own calls: they are counted and priced like others, and are no production traffic."""
