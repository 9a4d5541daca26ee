"""Where log lines go, the last of them included. One that cannot be written is lost, and nothing else: a full disk, or a reader that went away, must not stop the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import structlog

log = structlog.get_logger()


class Log:
    """Standard error as it is at the time, as far as a logger needs a text file, that never fails."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def let_go(file: TextIO) -> None:
    """Before the end: what is still buffered and cannot be written goes nowhere, or Python would end with a status of its own (120)."""
    try:
        file.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def fatal(what: str, error: BaseException | None = None, more: Mapping[str, Any] | None = None) -> NoReturn:
    """Say why and end the process at once. Nothing is lost: what was not in a transaction is read again."""
    try:
        said: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"} if error else {}
        if error and os.environ.get("PYTHONFAULTHANDLER"):
            said["exc_info"] = error
        log.error(what, **said, **(more or {}))
        sys.stderr.flush()
    finally:
        os._exit(1)
