"""The beginning of a file in which no line is an event: read again, or, of a pipe, what was kept of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import zstandard

from stream.errors import InputError
from stream.files import Lines

_MOST = 1 << 22  # bytes: a line may be as long as memory
_MOST_LINES, _MOST_KEPT = 2000, 1 << 20  # lines and bytes of what cannot be read again


class Kept:
    """Of records that are no events as many as are looked at where a file cannot be read again."""

    def __init__(self) -> None:
        self.raws: list[bytes] = []
        self._room = _MOST_KEPT

    def add(self, raws: Iterable[bytes]) -> None:
        """Of a batch."""
        for raw in raws:
            if self.full:
                return
            self.raws.append(raw[: self._room].strip())
            self._room -= len(raw)

    @property
    def full(self) -> bool:
        """Whether there were more."""
        return self._room <= 0 or len(self.raws) >= _MOST_LINES


def beginning(path: str, kept: Kept) -> tuple[bytes, bool]:
    """The first bytes, unpacked, and whether they are all."""
    if path == "-" or not Path(path).is_file():
        return b"\n".join(kept.raws), not kept.full
    parts: list[bytes] = []
    size = 0
    # Whatever is the matter with it was said when it was read.
    with suppress(InputError, OSError, EOFError, zlib.error, zstandard.ZstdError), Lines(path) as lines:
        for chunk in lines.text():
            parts.append(chunk)
            size += len(chunk)
            if size >= _MOST:
                break
    return b"".join(parts)[:_MOST], size < _MOST
