"""A seeded random program of faults against a model: "mini-Zippy", after FoundationDB's and MongoDB's.

    python tests/faults/zippy.py --seconds 600 [--seed N]
    python tests/faults/zippy.py --actions FAILED.json        the sequence of a failure, or a part of it

It emits good, bad, duplicate and late events, and spikes that must alert; kills, freezes and continues land, meter,
detect and notify; freezes and kills the broker; adds partitions, runs and kills maintain, merges files, expires
snapshots that it has made old, alters tables and holds the catalog's lock. Every so often it lets all come to rest and
checks P O L M R A D, the landed rollups and ``tailrace verify`` against what was acknowledged. A failure prints the
seed and writes its actions beside the temporary folder, which stays.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "emitter"))
sys.path.insert(0, str(REPO))
sys.path.insert(0, str(Path(__file__).parent))

from fault_harness.program import APPS, STAGES, Action, Program

MERGED = ("raw_calls", "dead", "dead_bytes", "rollups", "ticks", "alerts", "deliveries")
POINTS = {
    "land": ("after_poll", "after_insert", "before_commit", "after_commit"),
    "meter": ("before_produce", "before_commit", "after_commit"),
    "detect": ("before_send", "after_send"),
    "notify": ("before_post", "after_post", "after_mark"),
}
CALLS = (("write", "-wal", 60), ("fsync", "-wal", 8), ("write", "", 40), ("fsync", "", 4), ("unlink", "", 40))
"""System calls of maintain at which it is killed: (call, of which of the catalog's files, up to which of them)."""


def choose(rng: random.Random, step: int) -> Action:
    """Draw the next action."""
    name = rng.choices(STAGES, (3, 3, 2, 2))[0]

    def at_call() -> Action:
        call, suffix, most = rng.choice(CALLS)
        return [call, suffix, rng.randint(1, most)]

    drawn: dict[str, tuple[int, Callable[[], Action]]] = {
        "good": (30, lambda: [rng.getrandbits(32), rng.randint(1, 400)]),
        "bad": (8, lambda: [rng.getrandbits(32), rng.randint(1, 5)]),
        "again": (8, lambda: [rng.getrandbits(32), rng.randint(1, 20)]),
        "late": (5, lambda: [rng.getrandbits(32), rng.randint(1, 20), rng.choice((1, 3, 400, -1))]),
        "spike": (5, lambda: [rng.getrandbits(32), rng.randint(40, 120), rng.randrange(APPS)]),
        "sleep": (14, lambda: [round(rng.uniform(0.05, 1.5), 2)]),
        "kill": (8, lambda: [name]),
        "crash": (7, lambda: [name, rng.choice(POINTS[name]), 1 if name == "notify" else rng.randint(1, 3)]),
        "answer": (2, list),
        "start": (16, lambda: [name]),
        "stop": (5, lambda: [name]),
        "cont": (9, lambda: [name]),
        "term": (3, lambda: [name]),
        "freeze_broker": (2, lambda: [round(rng.uniform(0.5, 8), 1)]),
        "kill_broker": (1, list),
        "add_partition": (1, list),
        "lock": (2, lambda: [round(rng.uniform(0.2, 7), 1)]),
        "alter": (1, list),
        "age": (3, list),
        "maintain": (1, list),
        "kill_maintain": (4, at_call),
        "merge": (3, lambda: [rng.choice(MERGED)]),
        "expire": (2, list),
    }
    if step % 40 == 39:
        return ["validate"]
    which = rng.choices(list(drawn), [weight for weight, _ in drawn.values()])[0]
    return [which, *drawn[which][1]()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--actions", type=Path, default=None, help="replay these instead of drawing")
    said = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if said.seed is None else said.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tailrace-zippy-"))
    done: list[Action] = []
    rng = random.Random(seed)
    given = json.loads(said.actions.read_text()) if said.actions else None
    program = Program(folder)
    end = time.monotonic() + said.seconds
    try:
        while (len(done) < len(given)) if given is not None else time.monotonic() < end:
            action = given[len(done)] if given is not None else choose(rng, len(done))
            done.append(action)
            getattr(program, action[0])(*action[1:])
            if action[0] == "validate":
                print(f"{len(done)} actions, {json.dumps(facts(program))}", flush=True)
        program.validate()
    except BaseException:
        failed = folder / "actions.json"
        failed.write_text(json.dumps(done))
        print(f"FAILED with seed {seed} at action {len(done)}: {done[-1]}", flush=True)
        print(f"replay: python tests/faults/zippy.py --actions {failed}", flush=True)
        raise
    finally:
        program.close()
    print(json.dumps({"seed": seed, "ok": True, "actions": len(done), **facts(program)}))
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def facts(program: Program) -> dict[str, int]:
    """What has been done so far."""
    sent, receiver = program.scene.traffic.sent, program.receiver
    return {
        "events": len(sent.positions),
        "bad": sent.bad,
        "kills": program.scene.kills,
        "alerts": program.told,
        "redelivered": receiver.redelivered,
        **program.kept,
    }


if __name__ == "__main__":
    sys.exit(main())
