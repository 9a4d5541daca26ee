"""The first start compiles for minutes: whoever waits is told that it goes on, and nobody else is told anything."""

from __future__ import annotations

import threading

import pytest
from numba.core import config

from stream.compiling import compiling, on_terminal
from stream.engine import warm_up
from stream.settings import load


@pytest.fixture
def never_compiled(monkeypatch, tmp_path):
    """An empty cache. What this process has compiled it still has, so nothing waits."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("never_compiled")
def test_the_seconds_go_on_while_it_compiles():
    """Said at once, and again and again until it is done."""
    told: list[float] = []
    thrice = threading.Event()

    def say(seconds: float) -> None:
        told.append(seconds)
        if len(told) == 3:
            thrice.set()

    with compiling(say, 0.001):
        assert told
        assert thrice.wait(30)
    assert told[0] == 0.0
    assert told == sorted(told)


@pytest.mark.usefixtures("never_compiled")
def test_a_pipe_is_told_once(capsys):
    """It may be somebody's log."""
    with on_terminal():
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Compiling the models, once for this version; one to four minutes …\n"


def test_who_does_not_wait_is_told_nothing(capsys):
    """An earlier run has left what it compiled."""
    warm_up(load({}))
    with on_terminal():
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("never_compiled")
def test_what_fails_meanwhile_ends_the_telling():
    """A thread that went on would write into whatever follows."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), compiling(lambda _: None, 0.001):
        1 / 0  # noqa: B018
    assert threading.active_count() == before
