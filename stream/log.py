"""Where log lines go. One that cannot be written is lost, and nothing else: a full disk, or a reader that went away, must not stop the work."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


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
