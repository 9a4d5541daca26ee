"""Files of events, read in batches of lines, and files of results, written whole or not at all."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

import zstandard

from stream.errors import InputError, OutputError
from stream.records import Records

CHUNK = 1 << 20
BATCH_LINES = 4096
MOST_KEPT = 256 << 20  # of one line, which is its beginning: a decompression bomb must not take all memory
SLICE = 1 << 10  # of compressed bytes at a time: Zstandard makes at most 32,000 times as much of them


class Lines:
    """The lines of one file (`-` is stdin), plain, `.gz` or `.zst`, told apart by their first bytes.

    Iterating gives (first line number, lines) in batches; empty lines are kept so that numbers agree with an editor.
    Raises `InputError` if the file cannot be opened, or ends in the middle; what came before has been given.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._raw: Any = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"cannot read {path}: {error.strerror or error}; check the path and its permissions"
            ) from None
        self.size = 0 if path == "-" else os.fstat(self._raw.fileno()).st_size
        self.consumed = 0
        self.cut: dict[int, int] = {}  # lines of which only the beginning was kept → their bytes in all

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != "-":
            self._raw.close()

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        number = 1
        rest: list[bytes] = []
        held = lost = 0
        try:
            for chunk in self.text():
                end = chunk.rfind(b"\n") + 1
                if end:
                    if lost:
                        rest_of_it = chunk.index(b"\n")
                        self.cut[number] = held + lost + rest_of_it
                        chunk, end, lost = chunk[rest_of_it:], end - rest_of_it, 0  # noqa: PLW2901
                    whole = Records.lines(b"".join([*rest, chunk[:end]]), number)
                    rest, held = [chunk[end:]], len(chunk) - end
                    for i in range(0, len(whole), BATCH_LINES):
                        yield number + i, whole[i : i + BATCH_LINES]
                    number += len(whole)
                elif held < MOST_KEPT:
                    rest.append(chunk)
                    held += len(chunk)
                else:
                    lost += len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise InputError(
                f"{self.path} is damaged or cut short after line {number - 1}: {error}; the lines before that are scored, get the file again for the rest"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {self.path} after line {number - 1}: {error.strerror or error}") from None
        tail = b"".join(rest)
        if lost:
            self.cut[number] = held + lost
        if tail:
            yield number, Records.lines(tail + b"\n", number)

    def text(self) -> Iterator[bytes]:
        """UTF-8, without the mark that some editors put before it."""
        first = True
        for chunk in self._chunks():
            if first and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise InputError(
                    f"{self.path} is UTF-16, and UTF-8 is read: write it so with `iconv -f UTF-16 -t UTF-8 FILE`, then use that"
                )
            yield chunk.removeprefix(codecs.BOM_UTF8) if first else chunk
            first = False

    def _chunks(self) -> Iterator[bytes]:
        raw = _Counted(self._raw, self)
        head = raw.read(4)
        if head[:2] == b"\x1f\x8b":
            source: Any = _Whole(gzip.GzipFile(fileobj=cast("Any", _Rejoined(head, raw))))
        elif head == b"\x28\xb5\x2f\xfd":
            source = _Frames(_Rejoined(head, raw))
        else:
            yield head
            source = raw
        while chunk := source.read(CHUNK):
            yield chunk


class _Whole:
    """Gzip's reader; unlike it, damage in the middle of a chunk does not take what was decompressed before it."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source
        self._damage: Exception | None = None

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and self._damage is None:
            try:
                parts.append(self._source.read1(size))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self._damage = error
                break
            if not parts[-1]:
                break
            size -= len(parts[-1])
        if self._damage is not None and not any(parts):
            raise self._damage
        return b"".join(parts)


class _Frames:
    """Zstandard frames one after another; unlike the library's reader, an end in the middle is an error."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._damage: zstandard.ZstdError | None = None
        self._held = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        have = 0
        while have < size and self._damage is None:
            if not self._held:
                self._held = memoryview(self._source.read(size))
            if not self._held:
                break
            data = bytes(self._held[:SLICE])
            self._held = self._held[SLICE:]
            while data:
                if self._frame.eof:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._begun = True
                try:
                    parts.append(self._frame.decompress(data))
                except zstandard.ZstdError as error:
                    self._damage = error
                    break
                have += len(parts[-1])
                data = self._frame.unused_data if self._frame.eof else b""
        if have:
            return b"".join(parts)
        if self._damage is not None:
            raise self._damage
        if self._begun and not self._frame.eof:
            raise EOFError("compressed file ended before the end of its last frame")
        return b""


class _Counted:
    """Reads in steps: inside one long read from a pipe, the interpreter would not notice Ctrl-C."""

    def __init__(self, source: Any, lines: Lines) -> None:
        self._source, self._lines = source, lines

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (part := self._source.read1(size)):
            parts.append(part)
            size -= len(part)
            self._lines.consumed += len(part)
        return b"".join(parts)


class _Rejoined:
    """A stream whose first bytes have been looked at."""

    def __init__(self, head: bytes, source: _Counted) -> None:
        self._head, self._source = head, source

    def read(self, size: int) -> bytes:
        if self._head:
            out, self._head = self._head[:size], self._head[size:]
            return out
        return self._source.read(size)


def named(path: str) -> str:
    """What a message calls an input."""
    return "standard input" if path == "-" else path


def readable(path: str) -> None:
    """Raises `InputError` if a file cannot be opened. Pipes are not tried: what is read of them is gone."""
    if path != "-" and (Path(path).is_file() or Path(path).is_dir() or not Path(path).exists()):
        with Lines(path):
            pass


class Output:
    """A file of results: written beside its path and moved there by `keep`, so a reader never meets half of one.

    `-` is stdout; devices and pipes are written directly, and so is what lies under /dev and /proc: /dev/stdout may well be
    a file. Behind a symbolic link it is the file that is replaced. Raises `OutputError`.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._beside: Path | None = None
        self._target = Path()
        if path is None:
            return
        if path.endswith((".gz", ".zst")) and not path.startswith(("/dev/", "/proc/")):
            raise OutputError(
                f"{path}: results are written as they are; leave the ending out, or write to - and pipe that through gzip"
            )
        try:
            if path == "-":
                self._file = sys.stdout.buffer
            elif path.startswith(("/dev/", "/proc/")) or (Path(path).exists() and not Path(path).is_file()):
                self._file = Path(path).open("ab")  # noqa: SIM115
            else:
                self._target = Path(path).resolve()
                self._beside = Path(f"{self._target}.{os.getpid()}.partial")
                self._file = self._beside.open("wb")
        except OSError as error:
            raise self._error(error) from None

    def write(self, data: bytes) -> None:
        """Add whole lines."""
        self._do(lambda f: f.write(data))

    def flush(self) -> None:
        """Bring all that was written to the disk, under no name yet: from here on nothing can be lacking room."""
        self._do(lambda f: f.flush())
        if self._beside is not None:
            self._do(lambda f: os.fsync(f.fileno()))

    def keep(self) -> None:
        """All is written: give the file its name."""
        self.flush()
        if self._beside is not None and self._file is not None:
            try:
                self._file.close()
                self._beside.replace(self._target)
            except OSError as error:
                raise self._error(error) from None
            self._beside = None

    def discard(self) -> None:
        """Leave whatever stood at the path as it was."""
        if self._file is not None and self.path != "-":
            with suppress(OSError):  # the disk is full: closing tries to write once more, and the file goes anyway
                self._file.close()
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)
            self._beside = None

    def _do(self, what: Callable[[IO[bytes]], object]) -> None:
        if self._file is None:
            return
        try:
            what(self._file)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> OutputError:
        left = "" if self._file is not None and self._beside is None else "nothing was left at that path by this run. "
        return OutputError(
            f"cannot write {self.path}: {error.strerror or error}; {left}Free space or choose another path, then run again"
        )
