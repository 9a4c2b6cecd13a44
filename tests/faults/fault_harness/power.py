"""What a disk would hold after a power cut: only what was synced, worked out from a program's own system calls.

The kinder half of a power cut is easy to pass (the kernel writes most things back by itself), so the worst one is
built: of a file that was never synced nothing is left, of one written after its last sync the older bytes, and a name
is there only when its folder was synced after it was made.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = "openat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,link,mkdir,close"
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: .*)?$")
_OPEN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass
class File:
    """One file: its bytes now, and those on the disk."""

    now: bytearray = field(default_factory=bytearray)
    disk: bytes = b""


@dataclass
class Disk:
    """The folder of a lake while a program writes to it."""

    root: Path
    files: dict[str, File] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Files and folders whose names are on the disk."""
    made: set[str] = field(default_factory=set)
    """Files and folders there are."""
    said: int = 0
    """The last number that the program wrote to its standard output: what it believes to be safe."""

    @classmethod
    def before(cls, root: Path) -> Disk:
        """Return the disk as it is, all of it synced."""
        disk = cls(root)
        for path in root.rglob("*"):
            disk.made.add(str(path))
            if path.is_file():
                data = path.read_bytes()
                disk.files[str(path)] = File(bytearray(data), data)
        disk.names = set(disk.made)
        return disk

    def image(self, to: Path, keep: Callable[[], bool]) -> None:
        """Write what is left after a cut at this moment; ``keep`` says of each unsynced thing whether it is, too."""
        left = {name for name in self.made if name in self.names or keep()}
        for name in sorted(left):
            path = to / Path(name).relative_to(self.root)
            if not _reachable(Path(name), self.root, left):
                continue
            if name not in self.files:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self.files[name]
            same = bytes(file.now) == file.disk
            path.write_bytes(file.disk if same or not keep() else bytes(file.now))


def _reachable(path: Path, root: Path, left: set[str]) -> bool:
    return all(str(parent) in left for parent in path.parents if parent != root and parent.is_relative_to(root))


def traced(command: Sequence[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` to its end under strace, all its writes in ``log``."""
    how = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(log)]
    return subprocess.run([*how, *command], capture_output=True, text=True, check=False)


def moments(disk: Disk, log: Path) -> Iterator[str]:
    """Play ``log`` on ``disk``; yields after every sync (``"sync <file>"``) and every word of the program."""
    at: dict[str, int] = {}
    for call, arguments, result, target in _calls(log):
        handle, path = _handle(arguments)
        inside = path is not None and path.startswith(f"{disk.root}/")
        if call == "openat":
            if target is None or not target.startswith(f"{disk.root}/"):
                continue
            at[str(result)] = 0
            if "O_CREAT" not in arguments and target not in disk.files:
                continue  # a folder
            file = disk.files.setdefault(target, File())
            disk.made.add(target)
            if "O_TRUNC" in arguments:
                file.now.clear()
        elif call == "write" and handle == "1":
            disk.said = int(_data(arguments).split()[-1])
            yield "said"
        elif call in ("unlink", "unlinkat", "rename", "link", "mkdir"):
            _rename(disk, call, arguments)
        elif not inside:
            continue
        elif call in ("write", "pwrite64"):
            assert path is not None
            data = _data(arguments)[:result]
            start = at[handle] if call == "write" else int(arguments.rsplit(",", 1)[1])
            now = disk.files[path].now
            now.extend(bytes(max(0, start - len(now))))
            now[start : start + len(data)] = data
            if call == "write":
                at[handle] = start + len(data)
        elif call == "lseek":
            at[handle] = result
        elif call == "ftruncate":
            assert path is not None
            size, now = int(arguments.rsplit(",", 1)[1]), disk.files[path].now
            del now[size:]
            now.extend(bytes(size - len(now)))
        elif call in ("fsync", "fdatasync"):
            assert path is not None
            _sync(disk, path)
            yield f"sync {path}"


def _sync(disk: Disk, path: str) -> None:
    if path in disk.files:
        disk.files[path].disk = bytes(disk.files[path].now)
        return
    inside = {name for name in disk.made | disk.names if str(Path(name).parent) == path}
    disk.names = (disk.names - inside) | (inside & disk.made)


def _rename(disk: Disk, call: str, arguments: str) -> None:
    paths = [str(Path(_hex(found[1]).decode())) for found in _BYTES.finditer(arguments)]
    if not any(path.startswith(f"{disk.root}/") for path in paths):
        return
    if call == "mkdir":
        disk.made.add(paths[0])
    elif call.startswith("unlink"):
        disk.made.discard(paths[0])  # its name may come back; then it has to be harmless
        disk.files.pop(paths[0], None)
        disk.names.discard(paths[0])
    else:
        disk.files[paths[1]] = disk.files[paths[0]]
        disk.made.add(paths[1])
        if call == "rename":
            _rename(disk, "unlink", arguments)


def _calls(log: Path) -> Iterator[tuple[str, str, int, str | None]]:
    """Every call that succeeded: name, arguments, result, and the path of a handle that it returned."""
    waiting: dict[str, str] = {}
    for line in log.read_text().splitlines():
        if cut := _OPEN.match(line):
            waiting[cut[1]] = cut[2]
            continue
        if rest := _RESUMED.match(line):
            line = f"{rest[1]} {waiting.pop(rest[1])}{rest[2]}"
        if (found := _LINE.match(line)) and int(found[4]) >= 0:
            yield found[2], found[3], int(found[4]), _plain(found[5])


def _handle(arguments: str) -> tuple[str, str | None]:
    found = re.match(r"(\d+)<([^>]*)>", arguments)
    return (found[1], _plain(found[2])) if found else ("", None)


def _plain(path: str | None) -> str | None:
    if path is not None and path.startswith("\\x"):
        return _hex(path).decode()
    return path


def _data(arguments: str) -> bytes:
    found = _BYTES.search(arguments)
    assert found, arguments[:200]
    assert not found[2], f"strace cut a write: {arguments[:200]}"
    return _hex(found[1])


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def cut_log(partition: Path, upto: int | None = None) -> None:
    """Cut the log of a stopped broker's partition so that it ends before offset ``upto``, as a lost page cache would.

    Without ``upto`` its last third goes. What stands beside the log (indexes, what the broker knows of producers and of
    its own end) goes as well.
    """
    (log,) = partition.glob("*.log")
    data, at = log.read_bytes(), 0
    while at < len(data) and (int.from_bytes(data[at : at + 8]) < upto if upto else at < len(data) * 2 // 3):
        at += 12 + int.from_bytes(data[at + 8 : at + 12])
    assert 0 < at < len(data), "nothing would be cut"
    log.write_bytes(data[:at])
    for beside in (*partition.glob("*.*index"), *partition.glob("*.snapshot")):
        beside.unlink()
    for known in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint", ".kafka_cleanshutdown"):
        (partition.parent / known).unlink(missing_ok=True)


def chance(seed: int) -> Callable[[], bool]:
    """Return a coin."""
    draw = random.Random(seed)
    return lambda: draw.random() < 0.5
