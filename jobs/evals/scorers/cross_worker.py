"""The process that holds a cross-encoder: pairs of texts in on its standard input, support of each out.

The model of natural language inference gives for a pair (source, claim) the probability that the source entails the
claim. A model with one output gives the relevance of one to the other. Started and framed like
``pipelines.drift.worker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.drift.worker import Answer, Setup, serve

_ENTAILMENT = ("entail", "support", "consistent", "factual", "grounded")
"""Prefixes of the labels of models that mean "the source entails the claim"."""


class Pairs(msgspec.Struct):
    """A frame to the worker: sources and claims of one length."""

    sources: list[str]
    claims: list[str]


def main() -> None:
    """Serve until the input ends."""
    serve(_loaded, Pairs, _answer)


def _loaded(setup: Setup) -> tuple[Any, int]:
    model = load(setup)
    return model, label_of(model.model.config.id2label, int(model.num_labels))


def _answer(loaded: tuple[Any, int], request: Pairs, setup: Setup) -> Answer:
    model, entailed = loaded
    return Answer(support(model, request, entailed, batch=setup.batch).astype("float32").tobytes(), 1)


def load(setup: Setup) -> Any:
    """Return the model of a folder, or of a name in the local cache of Hugging Face; nothing is downloaded."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(setup.threads)
    return CrossEncoder(setup.model, device="cpu", local_files_only=True, trust_remote_code=False)


def label_of(labels: Mapping[int, str], size: int) -> int:
    """Return the number of the label that means entailment; -1 where the model has one output.

    Raises:
        ValueError: no label means entailment.
    """
    if size == 1:
        return -1
    for number, label in sorted(labels.items()):
        if str(label).casefold().startswith(_ENTAILMENT):
            return int(number)
    named = ", ".join(str(label)[:40] for _, label in sorted(labels.items()))
    raise ValueError(f"none of its labels ({named}) means entailment; correct id2label in its config.json")


def support(model: Any, pairs: Pairs, entailed: int, *, batch: int) -> npt.NDArray[np.float64]:
    """Return (n,) the probability of entailment of each pair; of one output its logistic function."""
    import torch

    order = sorted(range(len(pairs.claims)), key=lambda i: len(pairs.sources[i]) + len(pairs.claims[i]))
    asked = [(pairs.sources[i], pairs.claims[i]) for i in order]
    raw = model.predict(asked, batch_size=batch, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    values = np.empty(len(order))
    values[order] = probabilities(np.asarray(raw, dtype=np.float64), entailed)
    return values


def probabilities(logits: npt.NDArray[np.float64], entailed: int) -> npt.NDArray[np.float64]:
    """Return (n,) from (n,) or (n, labels)."""
    if entailed < 0:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits.reshape(len(logits)), -50, 50))), dtype=np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted[:, entailed] / shifted.sum(axis=1), dtype=np.float64)


if __name__ == "__main__":
    main()
