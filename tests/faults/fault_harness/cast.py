"""The stages on a stage: each is killed again and again, in ways of its own, and comes back."""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from fault_harness.process import Process, killer
from fault_harness.receiver import Receiver
from fault_harness.scene import Scene

POINTS = {
    "land": ("after_poll", "before_insert", "after_insert", "before_commit", "after_commit"),
    "meter": ("before_produce", "before_commit", "after_commit"),
    "detect": ("before_send", "after_send"),
    "notify": ("before_post", "after_post", "after_mark"),
}
"""Those of detect and notify are passed only when there is an alert."""
KINDS = {
    "land": ("commit", "point", "moment"),
    "meter": ("send", "point", "moment"),
    "detect": ("point", "moment"),
    "notify": ("answer", "point", "moment"),
}
READY = {
    "land": "land_assigned",
    "meter": "partitions_assigned",
    "detect": "detect_state_loaded",
    "notify": "notify_started",
}
COMMIT_CALLS = (("write", "-wal", 24), ("fsync", "-wal", 2), ("write", "", 12), ("fsync", "", 1))


@dataclass
class Cast:
    """The running stages, what is to end them, and how they have ended."""

    scene: Scene
    receiver: Receiver
    rng: random.Random
    running: dict[str, Process] = field(default_factory=dict)
    armed: dict[str, str] = field(default_factory=dict)
    """Stage -> the kind of kill that waits for an alert to come by."""
    kinds: Counter[str] = field(default_factory=Counter)

    def start(self, name: str, fault: str = "") -> None:
        """Start ``name``, with a crash plan."""
        self.running[name] = self.scene.start(name, fault=fault)

    def kill(self, name: str) -> str:
        """Kill ``name`` in a way of its own, or plan to; start it again."""
        kind = self.rng.choice(KINDS[name])
        if name in ("detect", "notify"):
            return self._ambush(name, kind)
        stage = self.running[name]
        if kind == "point":
            stage.kill()
            self.start(name, f"{self._point(name)}:{self.rng.randint(1, 4)}")
            self.running[name].ended(120)
        elif kind == "moment":
            self._moment(name)
        else:
            kind = self._inside(stage, kind)
        return self._next(name, kind)

    def revive(self) -> None:
        """Start again what its ambush has ended; nothing else may end by itself."""
        for name, stage in self.running.items():
            if not stage.alive:
                code = stage.ended()
                assert code == -signal.SIGKILL, f"{name} ended with {code}\n{stage.tail()}"
                assert name in self.armed, f"{name} was killed by a stranger\n{stage.tail()}"
                self._next(name, self.armed[name])

    def disarm(self) -> None:
        """Let what waits for an alert live without."""
        self.revive()
        for name in list(self.armed):
            self.running[name].kill()
            self._next(name, "moment")

    def _ambush(self, name: str, kind: str) -> str:
        """Kill at once, and the next one at a point that it passes only with an alert, or before it is answered."""
        self._moment(name)
        self.running[name].kill()
        self.receiver.strike = None if name == "notify" else self.receiver.strike
        self._count(name, "moment")
        self.armed.pop(name, None)
        self.start(name, self._point(name) if kind == "point" else "")
        if kind != "moment":
            self.armed[name] = kind
        if kind == "answer":
            pid = self.running[name].pid
            self.receiver.strike = lambda: os.kill(pid, signal.SIGKILL)
        return "moment"

    def _moment(self, name: str) -> None:
        if self.rng.random() < 0.7:  # the others are hit while they start
            try:
                self.running[name].says(READY[name], 120)
            except AssertionError:
                if self.running[name].alive:
                    raise
        time.sleep(self.rng.uniform(0, 1.5))

    def _inside(self, stage: Process, kind: str) -> str:
        stage.says(READY[stage.name], 120)
        call, file, most = self.rng.choice(COMMIT_CALLS)
        at = (call, f"{self.scene.catalog}{file}", self.rng.randint(1, most))
        with killer(stage, *(at if kind == "commit" else ("sendmsg", "", self.rng.randint(1, 60)))):
            try:
                stage.ended(20)
            except AssertionError:  # nothing left to write; then any moment will do
                return "moment"
        return kind

    def _point(self, name: str) -> str:
        return f"{name}.{self.rng.choice(POINTS[name])}:kill"

    def _next(self, name: str, kind: str) -> str:
        self.running[name].kill()
        if name == "notify":
            self.receiver.strike = None
        self.armed.pop(name, None)
        self._count(name, kind)
        self.start(name)
        return kind

    def _count(self, name: str, kind: str) -> None:
        self.kinds[f"{name} {kind}"] += 1
        self.scene.kills += 1
