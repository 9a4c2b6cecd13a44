"""The command ``tailrace``. The only place that catches everything: it prints one line and exits with a code."""

from __future__ import annotations

import io
import logging
import os
import sys

from tailrace.imports import import_structlog

import_structlog()  # before anything imports it

import structlog  # noqa: E402
import typer  # noqa: E402
from typer._click.exceptions import ClickException, NoArgsIsHelpError  # noqa: E402

from schemas.errors import FatalError, TailraceError  # noqa: E402

EXIT_FAILED, EXIT_FATAL = 1, 2
_SUPERVISED = "--parent"
"""Option that a supervisor and a scheduler give to their children, whose stderr is a log."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 it failed or found something wrong, 2 a person must act."""
    os.umask(0o077)  # what a stage, its broker or an answer writes is for its owner: prompts are in it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale without these characters must not end a command
            stream.reconfigure(errors="backslashreplace")
    from tailrace.cli import app

    try:
        try:
            code = app(standalone_mode=False)
        finally:
            _flush()
    except FatalError as error:
        _end(error, str(error), EXIT_FATAL)
    except TailraceError as error:
        _end(error, str(error), EXIT_FAILED)
    except BrokenPipeError:  # `| head` has read enough
        _discard()
        sys.exit(EXIT_FAILED)
    except OSError as error:  # of a file that no command named; stdout has no name
        from tailrace.files import from_os_error

        _end(error, str(from_os_error("use" if error.filename else "write", error, "standard output")), EXIT_FATAL)
    except ClickException as error:
        _refuse(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:  # a fault of ours
        if _supervised() or structlog.get_logger().is_enabled_for(logging.DEBUG):
            raise
        text = f"{type(error).__name__}: {error}; report it with what `--log-level debug` prints"
        _end(error, text, getattr(error, "exit_code", EXIT_FAILED))
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(error: ClickException) -> None:
    """Print in one line what is wrong with the command line; without arguments print the help."""
    if isinstance(error, NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "tailrace"
    message = " ".join(error.format_message().split()).replace(": Value error, ", ": ").rstrip(".")
    _end(error, f"{message}; see `{where} --help`", error.exit_code)


def _end(error: Exception, text: str, code: int) -> None:
    from tailrace.cli.render.printable import printable_lines

    safe = printable_lines(text)  # DuckDB quotes cells in its messages, and a cell is a stranger's text
    print(f"tailrace: {safe}", file=sys.stderr)
    if _supervised():
        structlog.get_logger().error("fatal", error=safe, kind=type(error).__name__)
    _discard()
    sys.exit(code)


def _supervised() -> bool:
    return _SUPERVISED in sys.argv


def _flush() -> None:
    if sys.stdout is not None:  # None: it was closed before the start
        sys.stdout.flush()


def _discard() -> None:
    """Print what is left; where stdout takes nothing any more, the interpreter must not try again at its end."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
