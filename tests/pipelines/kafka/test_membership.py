"""Partitions are dealt among the copies of a stage, and again when one comes, goes or is killed."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from pipelines.kafka import Admin, KafkaConfig, Membership, ShareMovedError, Source
from schemas.topics import EVENTS, TOPICS

PARTITIONS = 4
ALL = {(EVENTS, p) for p in range(PARTITIONS)}
PROGRAM = """
import sys, threading
from pipelines.kafka import KafkaConfig, Membership
from schemas.topics import EVENTS
members = Membership(KafkaConfig(sys.argv[1], sys.argv[2]), [EVENTS], group="g", copy_name="killed")
print(len(members.wait(threading.Event(), lambda: None).partitions), file=sys.stderr, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def config(broker, prefix):
    config = KafkaConfig(broker.bootstrap, prefix)
    Admin(config).create_topics([t for t in TOPICS if t.name == EVENTS], partitions=PARTITIONS, replication=1)
    return config


@pytest.fixture
def join(config):
    joined = []

    def join(name):
        joined.append(Membership(config, [EVENTS], group="g", copy_name=name))
        return joined[-1]

    yield join
    for members in joined:
        members.close()


def shares(*all_members):
    """Wait until the shares of all are disjoint and complete, and hold for a moment; return them."""
    never = threading.Event()
    while True:
        found = [members.wait(never, lambda: None) for members in all_members]
        if sum(len(s.partitions) for s in found) == PARTITIONS and set().union(*(s.partitions for s in found)) == ALL:
            return found
        time.sleep(0.05)


def test_one_copy_has_all_two_have_half_each_and_the_old_share_is_over(join):
    a = join("a")
    (alone,) = shares(a)
    assert alone.partitions == ALL
    a.require(alone)
    b = join("b")
    first, second = shares(a, b)
    assert len(first.partitions) == len(second.partitions) == PARTITIONS // 2
    with pytest.raises(ShareMovedError):
        a.require(alone)
    b.close()  # it leaves: nobody waits for its session to end
    (again,) = shares(a)
    assert again.number > first.number


def test_the_partitions_of_a_killed_copy_are_dealt_to_the_others(config, join):
    command = [sys.executable, "-c", PROGRAM, config.bootstrap_servers, config.prefix]
    a = join("a")
    shares(a)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as other:
        try:
            assert f"{PARTITIONS // 2}\n" in other.stderr
        finally:
            other.kill()
    assert shares(a)[0].partitions == ALL


def test_a_stop_ends_the_wait_and_beats_tell_that_it_waits(config):
    missing = Membership(KafkaConfig("127.0.0.1:9"), [EVENTS], group="g", copy_name="a")
    stop, beats = threading.Event(), []

    def beat():
        beats.append(1)
        if len(beats) == 3:
            stop.set()

    assert missing.wait(stop, beat) is None
    assert len(beats) == 3
    missing.close()


def test_what_it_commits_is_seen_by_lag_monitors(config, join):
    members = join("a")
    shares(members)
    with closing(Source(config, [EVENTS], group="g")) as monitor:
        while set(monitor.committed(EVENTS, range(PARTITIONS))) != {1, 2}:
            members.commit({(EVENTS, 1): 0, (EVENTS, 2): 0})
            time.sleep(0.1)
