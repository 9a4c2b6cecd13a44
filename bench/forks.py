"""Does every child deliver that is forked while its parent connects? And what does a fork cost then?

    make bench-forks                  1,600 forks of 400 parents (QUICK=1: 160 of 40); ARGS="4000" for another number

A parent sends an event and forks while a new producer connects, four times; each child sends one. A child that has not
delivered after 20 seconds is stuck. Milliseconds of a fork: without a producer, with an idle one, and right
after an event, which the fork waits for. The last line is one JSON object.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _report import QUICK, report, spread

from pipelines.kafka.admin import Admin
from pipelines.kafka.config import KafkaConfig
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker
from tailrace_emitter import Emitter

CHILDREN = 4
STUCK_S = 20.0
AT_ONCE = 4
ROUNDS = 10 if QUICK else 50


def emitter_of(bootstrap: str) -> Emitter:
    return Emitter("bench", bootstrap_servers=bootstrap, topic=EVENTS, sigterm=False)


def record(emitter: Emitter) -> None:
    """Record an event, and wait until a producer of this process has it in hand."""
    emitter.call("m")
    while emitter._sender._producer is None:
        time.sleep(0.0005)


def stuck_children(bootstrap: str, seed: int) -> int:
    """Be a parent: send, fork at random moments; how many children could not deliver."""
    draw = random.Random(seed)
    emitter = emitter_of(bootstrap)
    children = []
    for _ in range(CHILDREN):
        record(emitter)
        time.sleep(draw.choice((0.0, draw.random() * 0.02)))
        pid = os.fork()
        if pid == 0:
            emitter.call("m")
            os._exit(min(1, emitter.flush(STUCK_S)))
        children.append(pid)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def fork_ms() -> float:
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    took = (time.perf_counter() - begun) * 1000
    os.waitpid(pid, 0)
    return took


def costs(bootstrap: str) -> dict[str, list[float]]:
    """Milliseconds of a fork in three states of the parent's emitter: least, median, greatest."""
    emitter = emitter_of(bootstrap)
    took: dict[str, list[float]] = {"no_producer": [fork_ms() for _ in range(ROUNDS)], "idle": [], "just_sent": []}
    for _ in range(ROUNDS):
        emitter.call("m")
        emitter.flush(STUCK_S)
        took["idle"].append(fork_ms())
        record(emitter)
        took["just_sent"].append(fork_ms())
    return {name: spread(values, 1) for name, values in took.items()}


def main(forks: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        Admin(KafkaConfig(broker.bootstrap)).create_topics(TOPICS, partitions=2)

        def parent(seed: int) -> int:
            command = [sys.executable, __file__, "--parent", broker.bootstrap, str(seed)]
            return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        parents = range(1, forks // CHILDREN + 1)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            stuck = sum(pool.map(parent, parents))
        took = costs(broker.bootstrap)
    report({"forks": len(parents) * CHILDREN, "stuck": stuck, "fork_ms": took}, "confluent-kafka")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--parent"]:
        print(stuck_children(sys.argv[2], int(sys.argv[3])))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 160 if QUICK else 1_600)
