"""How Kafka's Java programs are run, and the short one that formats a data folder."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace.broker.config import to_properties_text
from tailrace.broker.errors import BrokerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT_HEAP_MB = 128


@dataclass(frozen=True)
class JvmLaunch:
    """What any of the programs needs: the Java, an environment with the class path, the folder's lock."""

    java: Path
    environment: Mapping[str, str]
    lock_fd: int


def command(java: Path, heap_mb: int) -> list[str]:
    """The start of a command line: Java and its options.

    No JMX, no perf file in the temporary folder; out of memory ends the process, because a broker that runs in part is
    worse than none.
    """
    # The first compiler alone: a start costs 1.8 CPU-seconds instead of 3.4, and producing 600,000 events of
    # 1 KB 0.8 instead of 1.7 (two cores; the second compiler competes with the work it is to speed up).
    return [
        str(java),
        f"-Xmx{heap_mb}m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Djava.io.tmpdir=tmp",  # in its own folder: codecs unpack libraries there, and /tmp may be read-only
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    ]


def write_private(file: Path, text: str) -> None:
    """Only for this user from its first byte: ``extra`` may hold passwords."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text)


def last_lines(text: str, count: int = 12) -> str:
    """The last lines that a JVM wrote, without stack frames and its own warnings."""
    telling = [line for line in text.splitlines() if not line.startswith(("\tat ", "WARNING: "))]
    return "\n".join(telling[-count:])


def format_data(data: Path, launch: JvmLaunch, cluster_id: str, values: Mapping[str, str]) -> None:
    """Make the data folder under another name and move it in: half of one is never taken for a whole.

    Raises:
        BrokerStartError: Kafka refuses the settings, or ``data`` holds something else.
    """
    folder, fresh = data.parent, data.with_name("data.new")
    log_file = folder / "broker.log"
    shutil.rmtree(fresh, ignore_errors=True)
    settings = folder / "format.properties"
    write_private(settings, to_properties_text({**values, "log.dirs": fresh.name}))
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", settings.name]
    done = subprocess.run(
        [*command(launch.java, FORMAT_HEAP_MB), *tool],
        cwd=folder,
        env=launch.environment,
        pass_fds=(launch.lock_fd,),
        capture_output=True,
        text=True,
        check=False,
    )
    settings.unlink()
    if done.returncode != 0:
        raise BrokerStartError(log_file, f"cannot format {data}", last_lines(done.stdout + done.stderr))
    fresh.chmod(0o700)
    try:
        fresh.rename(data)
    except OSError as error:
        raise BrokerStartError(log_file, f"{data} exists and is no kafka folder", str(error)) from error
