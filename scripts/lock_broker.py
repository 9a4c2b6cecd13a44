"""Write tailrace/broker.lock anew: resolve Kafka's run-time class path, hash every file of it.

Usage: python scripts/lock_broker.py [VERSION]. Read the difference before committing it.

jgo compares each download with the SHA-1 the repository gives beside it. Kafka's PGP signatures (the .asc
files beside the jars) have not been checked: gpg with the KEYS file of kafka.apache.org does it.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

KAFKA = "4.1.2"
# Kafka logs through SLF4J and leaves the choice of a provider to its distribution, which we do not use
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
LOCK_FILE = Path(__file__).parent.parent / "tailrace" / "broker.lock"


def resolve(version: str, repository: Path) -> list[Path]:
    """Every jar of the class path, downloaded into ``repository``; run-time scope, nothing optional."""
    maven = MavenContext(resolver=PythonResolver(), repo_cache=repository, local_repos=[], timeout=60)
    wanted = [maven.create_dependency(name) for name in (f"org.apache.kafka:kafka_2.13:{version}", LOGGING)]
    named, transitive = maven.resolver.resolve(wanted)
    return [each.artifact.resolve() for each in named + transitive if each.scope in (None, "compile", "runtime")]


def main() -> None:
    """Resolve, hash, write."""
    version = sys.argv[1] if len(sys.argv) > 1 else KAFKA
    with tempfile.TemporaryDirectory() as folder:
        jars = {jar.relative_to(folder).as_posix(): jar.read_bytes() for jar in resolve(version, Path(folder))}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(jars.items())]
    LOCK_FILE.write_text("".join(lines))
    sys.stdout.write(f"{LOCK_FILE.name}: {len(jars)} jars, {sum(map(len, jars.values())) / 1e6:.0f} MB\n")


if __name__ == "__main__":
    main()
