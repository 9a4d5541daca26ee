"""The watchdog: a silent stall becomes the end of the process, with a reason and a traceback of everything, and its supervisor starts it anew.

A thread of its own looks once a second at what should move, so that it sees an event loop that is blocked too. Something has stalled
when there is work for it and its mark has not changed for its seconds. If the watchdog itself comes late, the whole process was paused
(SIGSTOP, a machine that was moved), and nothing of that time counts; it is told, for the group takes it for the end of a worker.

What it misses: code that never lets go of the interpreter's lock stops this thread too; for that there is a probe of `/healthz`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.get_logger()
LOOK_SECONDS = 1.0
LATE_SECONDS, STILL_SECONDS = 3.0, 5.0  # from which on a pause does not count, and is told
TELL_SECONDS = 5.0  # a log that takes nothing more must not keep a stalled worker
FRAMES = 12  # of each thread and task, innermost last


class Watched(NamedTuple):
    """Something that has work to do: it has stalled when its mark stays the same for so long."""

    name: str
    mark: object
    seconds: float
    stalled: str  # the reason, but for how long


class Watch:
    """Since when each mark is what it is."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, float]] = {}
        self._looked: float | None = None
        self.paused = 0.0  # seconds before the last look

    def look(self, now: float, found: Iterable[Watched]) -> str | None:
        """What has stalled, and for how long, at a time in seconds; None while everything moves."""
        late = 0.0 if self._looked is None else now - self._looked - LOOK_SECONDS
        self.paused = paused = late if late > LATE_SECONDS else 0.0
        self._looked = now
        before, self._since = self._since, {}
        for name, mark, seconds, stalled in found:
            was, since = before.get(name, (mark, now))
            since = min(now, since + paused) if was == mark else now
            self._since[name] = (mark, since)
            if now - since >= seconds:
                return f"{stalled} for {now - since:.0f} s"
        return None


class Watchdog(threading.Thread):
    """Calls `end` with the reason at the first stall, and ends the process whether or not that returns."""

    def __init__(self, watched: Callable[[], Iterable[Watched]], end: Callable[[str], object]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._watched = watched
        self._end = end

    def run(self) -> None:
        watch, reason = Watch(), None
        while reason is None:
            time.sleep(LOOK_SECONDS)
            with suppress(RuntimeError):  # what is looked at changed at that moment
                reason = watch.look(time.monotonic(), list(self._watched()))
            if watch.paused > STILL_SECONDS:
                log.warning(
                    "this process stood still: if its group has given its partitions to another worker meanwhile, it ends, and goes on after a restart",
                    seconds=round(watch.paused),
                )
        teller = threading.Thread(target=self._end, args=(reason,), name="last words", daemon=True)
        teller.start()
        teller.join(TELL_SECONDS)
        os._exit(1)


def tracebacks(*loops: asyncio.AbstractEventLoop | None) -> dict[str, dict[str, list[str]]]:
    """Where every thread and every task of these loops stands: `file:line function`, innermost last."""
    frames = sys._current_frames()  # noqa: SLF001
    threads = {
        thread.name: [_place(f.filename, f.lineno, f.name) for f in traceback.extract_stack(frames[thread.ident])]
        for thread in threading.enumerate()
        if thread.ident in frames
    }
    tasks: dict[str, list[str]] = {}
    for loop in loops:
        with suppress(RuntimeError):  # a task began or ended at that moment
            for task in asyncio.all_tasks(loop) if loop else ():
                frames_of = task.get_stack(limit=FRAMES)
                where = [_place(f.f_code.co_filename, f.f_lineno, f.f_code.co_name) for f in frames_of]
                tasks[f"{task.get_name()} {getattr(task.get_coro(), '__qualname__', '')}"] = where
    return {"threads": {name: where[-FRAMES:] for name, where in threads.items()}, "tasks": tasks}


def _place(path: str, line: int | None, function: str) -> str:
    file = Path(path)
    return f"{file.parent.name}/{file.name}:{line} {function}"
