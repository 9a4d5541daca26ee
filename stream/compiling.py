"""What is said while the models are compiled: once for each version, for minutes, in which nothing else happens."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from numba.core import config

import models.compiled  # noqa: F401  # says where the cache is


@contextmanager
def compiling(say: Callable[[float], None], every: float) -> Iterator[None]:
    """Around what compiles: `say` is called with the seconds that have gone, at once and then every so many.

    It is not called where an earlier run has left what it compiled; then nobody waits.
    """
    # The loop takes nearly all of the time.
    if any(Path(config.CACHE_DIR).rglob("loop.run-*.nbi")):
        yield
        return
    begin, done = time.monotonic(), threading.Event()

    def go_on() -> None:
        while not done.wait(every):
            say(time.monotonic() - begin)

    say(0.0)
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def on_terminal() -> Iterator[None]:
    """The same for a command: a line whose seconds go on, and in a pipe one that stands."""
    said, shown = "Compiling the models, once for this version; one to four minutes", False

    def say(seconds: float) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            click.echo(f"\r{said} … {seconds:.0f} s", nl=False, err=True)
        elif not shown:
            click.echo(f"{said} …", err=True)
        shown = True

    with compiling(say, 1.0):
        yield
    if shown and sys.stderr.isatty():
        click.echo(err=True)
