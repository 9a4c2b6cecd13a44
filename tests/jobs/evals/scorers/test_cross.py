"""Groundedness by a cross-encoder: a tiny model with random weights, built here, in its real process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs.evals.case import Case, Context
from jobs.evals.scorers import CrossEncoder, Embedding
from jobs.evals.scorers.cross import ModelUnavailableError
from jobs.evals.scorers.cross_worker import label_of, probabilities
from jobs.evals.scorers.groundedness import Groundedness, passages_of
from schemas.errors import SettingsError

SENTENCE = "the hotel has a pool breakfast starts at seven dogs are welcome closed in winter . ?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers of 16 that names its labels as models of natural language inference do."""
    import torch
    import transformers
    from transformers import BertConfig, BertForSequenceClassification

    path = tmp_path_factory.mktemp("model") / "tiny-nli"
    path.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SENTENCE.split()]
    (path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=1.0,  # so that different texts get clearly different values
        id2label={0: "contradiction", 1: "entailment", 2: "neutral"},
        label2id={"contradiction": 0, "entailment": 1, "neutral": 2},
    )
    BertForSequenceClassification(config).save_pretrained(path)
    tokenizer = transformers.BertTokenizerFast  # type: ignore[attr-defined]  # an alias, made at import
    tokenizer(vocab_file=str(path / "vocab.txt"), model_max_length=64).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[CrossEncoder]:
    found = CrossEncoder(str(folder), threads=1)
    yield found
    found.close()


def test_the_score_is_the_mean_of_the_best_support_of_each_sentence(model: CrossEncoder) -> None:
    contexts = (Context("a", "the hotel has a pool . breakfast starts at seven ."),)
    judged = Case("j", output="The hotel has a pool. Dogs are welcome?", contexts=contexts)
    silent = Case("s", output="The hotel has a pool.")
    failed = Case("f", output="The hotel has a pool.", contexts=contexts, status="error")
    scorer = Groundedness(Embedding(), model)
    assert [bool(score.not_judgeable) for score in scorer.score([silent, judged, failed])] == [True, False, True]
    (score,) = scorer.score([judged])
    passage = "the hotel has a pool . breakfast starts at seven ."
    each = model.support([(passage, "The hotel has a pool."), (passage, "Dogs are welcome?")])
    assert score.value == pytest.approx(float(each.mean()), abs=1e-5)
    assert 0 < each.min() < each.max() < 1
    assert scorer.version != Groundedness(Embedding()).version
    assert scorer.model == "tiny-nli"


def test_the_values_are_those_of_the_library(model: CrossEncoder, folder: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder as Library

    pairs = [("the pool is closed in winter", "dogs are welcome"), ("breakfast", "the hotel has a pool at seven")]
    known = Library(str(folder), device="cpu", local_files_only=True).predict(pairs, activation_fn=torch.nn.Softmax(1))
    assert model.support(pairs) == pytest.approx(known[:, 1], abs=1e-5)
    assert len(model.support([])) == 0
    assert model.support([("\ud800", "no text")]).shape == (1,)


def test_a_model_that_is_not_there_is_refused_and_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no model is in"):
        CrossEncoder(str(tmp_path / "gone"))
    named = CrossEncoder("nobody/no-such-model")
    with pytest.raises(
        ModelUnavailableError, match=r"cannot use the model nobody/no-such-model: .*nothing is downloaded"
    ):
        named.support([("a", "b")])
    named.close()


def test_the_label_of_entailment_is_found_by_its_name() -> None:
    assert label_of({0: "LABEL_0"}, 1) == -1
    assert label_of({0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}, 3) == 2
    assert label_of({0: "not_supported", 1: "Supported"}, 2) == 1
    with pytest.raises(ValueError, match=r"none of its labels \(LABEL_0, LABEL_1\) means entailment"):
        label_of({0: "LABEL_0", 1: "LABEL_1"}, 2)


def test_logits_become_probabilities() -> None:
    assert probabilities(np.array([[0.0, 0.0], [1000.0, 0.0]]), 0) == pytest.approx([0.5, 1.0])
    assert probabilities(np.array([[0.0], [-800.0]]), -1) == pytest.approx([0.5, 0.0])


def test_sentences_are_joined_to_passages_that_fit_into_the_model() -> None:
    assert passages_of(["aa", "bb", "cc"], most_chars=6) == ["aa bb", "cc"]
    assert passages_of(["x" * 600] * 99) == [" ".join(["x" * 600] * 1)] * 12
    assert passages_of([]) == []
