"""What the demo's users ask and its models answer. All written for this demo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Questions and answers about one subject; ``{a}`` and ``{b}`` are filled from the lists."""

    questions: Sequence[str]
    answers: Sequence[str]
    a: Sequence[str]
    b: Sequence[str]

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Return a question and an answer."""
        slots = {"a": rng.choice(self.a), "b": rng.choice(self.b)}
        return rng.choice(self.questions).format(**slots), rng.choice(self.answers).format(**slots)


REFUSAL = "I'm sorry, but I can't help with that request."

BICYCLES = Topic(
    (
        "My {a} makes a grinding noise when I ride uphill, what should I check on the {b}?",
        "How often should I service the {b} on a {a} that I ride every day to work?",
        "Which {b} fits a {a} from 2021, and can I mount it at home without special tools?",
        "The {b} of my {a} came loose after a long tour, is it safe to ride it home?",
        "I ordered a {b} for my {a} last week and the parcel has not arrived, where is it?",
        "Can I return the {b} I bought for my {a} if I have already opened the box?",
    ),
    (
        "Please check the {b} first: clean it, look for play, and tighten it to the torque printed on the part. "
        "If your {a} still makes noise, any of our shops will look at it free of charge.",
        "For a {a} in daily use we suggest a service of the {b} every 2,000 km or once a season. "
        "You can book one on the page of your order.",
        "You can send the {b} back within 30 days, opened or not. The label for the parcel is in your account; "
        "the money is back in about four days after it reaches us.",
    ),
    ("gravel bike", "city bike", "cargo bike", "mountain bike", "folding bike", "e-bike", "road bike"),
    ("rear brake", "chain", "bottom bracket", "front hub", "derailleur", "saddle clamp", "pedal", "headset"),
)
SHIPPING = Topic(
    (
        "Where is my order with the {a}? The tracking page has said {b} for three days.",
        "Can you change the address of my order of a {a}, the status is {b}?",
        "The box with the {a} came damaged, the driver wrote {b}. What happens now?",
        "I was charged twice for the {a} while the order shows {b}, can you look at it?",
    ),
    (
        "I am sorry for the wait. The parcel with your {a} is marked {b}; I have asked the carrier for a search "
        "and you will hear from us within two days.",
        "Your order of the {a} is {b}. Until it leaves the warehouse you can change the address in your account.",
    ),
    ("helmet", "pair of tyres", "rain jacket", "child seat", "pump", "lock", "set of lights"),
    ("in transit", "awaiting pickup", "handed to the carrier", "delayed at the depot", "delivered to a neighbour"),
)
CODE = Topic(
    (
        "Write a Python function that reads a {a} and returns the {b} of each column.",
        "Why does this loop over a {a} run slowly, and how would you compute the {b} without it?",
        "Add type hints and a docstring to the helper that turns a {a} into its {b}.",
        "Explain the error I get when the {a} is empty and the {b} is computed.",
        "Turn this shell script that parses a {a} into a tested module that prints the {b}.",
    ),
    (
        "Here is a version that streams the {a} row by row and keeps a running {b}, so memory stays flat. "
        "The edge case of an empty input raises ValueError with a clear message.",
        "The loop is slow because it converts the {a} once per row. Build the array once and take the {b} "
        "along the first axis.",
    ),
    ("CSV file", "JSON log", "data frame", "list of dictionaries", "Parquet file", "nested mapping"),
    ("mean", "median", "maximum", "running total", "number of missing values", "histogram"),
)
HANDBOOK = Topic(
    (
        "What does the handbook say about {a} for people who work {b}?",
        "Who approves {a} when I am {b}?",
        "How many days in advance do I have to announce {a} if I am {b}?",
        "Summarise the policy on {a} for colleagues {b} in three sentences.",
    ),
    (
        "According to section 4 of the handbook, {a} has to be agreed with your team lead; for people {b} "
        "the people team confirms it within five working days.",
        "The handbook asks you to announce {a} ten working days ahead. If you are {b}, the same holds, "
        "counted from the day of your request.",
    ),
    ("parental leave", "remote work", "travel expenses", "training days", "overtime", "equipment loans"),
    ("part time", "on a fixed-term contract", "abroad", "in the night shift", "on probation"),
)
TAXES = Topic(
    (
        "Can I deduct the {a} from my income tax if my employer is in {b}?",
        "Which form do I need to declare the {a} I received while living in {b}?",
        "Is the {a} taxable when I moved to {b} in the middle of the year?",
        "What is the deadline for reporting a {a} to the tax office in {b}?",
    ),
    (
        "In general a {a} counts as income in the country where you live; a treaty with {b} decides who taxes it. "
        "Please ask a tax adviser about your own case before you file.",
        "You declare the {a} on the annex for foreign income. People who moved to {b} file for both parts of the year.",
    ),
    ("rental income", "severance payment", "stock option gain", "capital gain", "inheritance", "pension payout"),
    ("Portugal", "Norway", "Canada", "Japan", "Brazil", "Switzerland"),
)
POEMS = Topic(
    (
        "Write a poem of four verses about {a} in the style of {b}.",
        "Compose a short ballad in which {a} meets the sea, as {b} would tell it.",
        "Give me a sonnet about {a}, melancholic, with a last line worthy of {b}.",
    ),
    (
        "Beneath a sky of tin and slow grey rain, / {a} comes walking down the empty lane; / the lamps lean in to hear "
        "what it might say, / and {b} smiles softly and looks away.",
        "O hush, says {a}, the tide is turning now, / and silver gathers on the fisher's bow. / So {b} would end it: "
        "not with bells or flame, / but with the water whispering a name.",
    ),
    ("winter", "an old lighthouse", "a lost umbrella", "the last train", "a sleeping city", "autumn light"),
    ("a romantic poet", "a tired clerk", "a child of ten", "a medieval bard", "a jazz singer"),
)
SHIFTS = (TAXES, POEMS)
"""What the users of the shifted app start to ask about."""
