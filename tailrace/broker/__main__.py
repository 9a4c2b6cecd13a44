"""``python -m tailrace.broker --home DIR``: the embedded Kafka alone, in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import structlog

from schemas.errors import FatalError
from tailrace.broker import Broker, default_cache, ensure_jars, serve


def main() -> int:
    """Run, or with ``--fetch`` only bring the jars into the cache."""
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="tailrace.broker", description="the embedded Kafka, in the foreground")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--home", type=Path, help="folder that keeps data, port and log")
    action.add_argument("--fetch", action="store_true", help="fetch and verify the jars, then end")
    options = parser.parse_args()
    # stdout is for the answer alone
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        if options.fetch:
            print(f"{len(ensure_jars(default_cache()))} jars verified in {default_cache() / 'jars'}")
            return 0
        return serve(options.home, on_ready=_announce)
    except FatalError as error:
        print(f"tailrace: {error}", file=sys.stderr)
        return 2


def _announce(broker: Broker) -> None:
    print(f"kafka ready on {broker.bootstrap_servers}, pid {broker.pid}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
