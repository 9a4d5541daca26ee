"""The program as a process of its own, forked from one that has imported it (`tests.imported`).

To import it costs a worker two seconds of a core, and the tests start two hundred. tests/test_start.py, tests/test_cli.py and whatever is injected into start from nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from stream.settings import PREFIX

ROOT = Path(__file__).resolve().parent.parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.imported"])


class Forked(ForkServerProcess):
    """As `subprocess.Popen`: `strayline` with these arguments and settings, its output in two files, which may be one."""

    def __init__(self, arguments: Sequence[str], settings: Mapping[str, str], out: Path, err: Path) -> None:
        # A daemon, so that what a test has left does not keep the tests from ending.
        super().__init__(target=_begin, args=(tuple(arguments), dict(settings), str(out), str(err)), daemon=True)
        self.start()

    @property
    def number(self) -> int:
        """The process's id."""
        assert self.pid is not None
        return self.pid

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("strayline", timeout or 0.0)
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.exitcode is None:
            os.kill(self.number, number)


def ran(arguments: Sequence[str], settings: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with its output; from nothing where it is told more than settings, which may be read as the program is imported."""
    if not all(name.startswith(PREFIX) for name in settings):
        return python("-m", "stream", *arguments, timeout=timeout, **settings)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = Forked(arguments, settings, out, err)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(arguments), status, out.read_text(), err.read_text())


def unset() -> dict[str, str]:
    """The environment, without settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}


def python(*arguments: str, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python from nothing, with these settings and no others."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=unset() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def _begin(arguments: tuple[str, ...], settings: dict[str, str], out: str, err: str) -> None:
    for fd, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, fd)
        os.close(file)
    os.chdir(ROOT)
    inherited = unset()
    os.environ.clear()
    os.environ.update(inherited | settings)
    random.seed()  # or all would draw the same
    sys.argv = ["strayline", *arguments]
    from stream.__main__ import main

    main()
