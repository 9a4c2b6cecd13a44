"""The command ``tailrace``. The only place that catches everything: it says what failed and exits with a code."""

from __future__ import annotations

import os
import sys

import structlog

from schemas.errors import FatalError, TailraceError

EXIT_FAILED, EXIT_FATAL = 1, 2


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 it failed or says no, 2 nothing but a person can mend it."""
    os.umask(0o077)  # what a stage, its broker or an answer writes is for its owner: prompts are in it
    from tailrace.cli import app
    from tailrace.cli.rows import shown_lines

    try:
        app()
    except FatalError as error:
        said = shown_lines(error)  # DuckDB quotes cells in its messages, and a cell is a stranger's text
        print(f"tailrace: {said}", file=sys.stderr)
        structlog.get_logger().error("fatal", error=said, kind=type(error).__name__)
        sys.exit(EXIT_FATAL)
    except TailraceError as error:
        print(f"tailrace: {shown_lines(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
