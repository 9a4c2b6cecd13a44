"""Three ways to fail. Who catches an error is decided by which of the three it derives from."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, LookupError, RecursionError, OverflowError)
"""What decoding raises on bytes from outside: msgspec raises more than its own errors (UnicodeDecodeError on bad UTF-8,
RecursionError on deep nesting, TypeError on None). Code that reads a topic must catch all of them."""


class TailraceError(Exception):
    """Root of every error this project raises on purpose."""


class FatalError(TailraceError):
    """Only a person can repair this: the process prints the cause and ends with exit code 2."""


class RetryableError(TailraceError):
    """It may work in a moment: back off, then resume from the positions the lake holds."""


class PoisonError(TailraceError):
    """One record is invalid: it goes to ``dead`` with a reason, and the other records are processed."""


class KafkaUnavailableError(RetryableError):
    """The brokers do not answer."""

    def __init__(self, bootstrap_servers: str, action: str, cause: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.action = action
        super().__init__(f"cannot {action} on kafka {bootstrap_servers}: {cause}; is the broker up?")


class KafkaRefusedError(FatalError):
    """The brokers answer, and refuse: authorisation, a fenced member, an unknown setting."""

    def __init__(self, bootstrap_servers: str, action: str, cause: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.action = action
        super().__init__(f"kafka {bootstrap_servers} refuses to {action}: {cause}")


class SettingsError(FatalError):
    """A setting is wrong, unknown or missing."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        self.name = name
        super().__init__(f"setting {name}: {problem}; {remedy}")
