"""Compiled models are kept for those who use them, and not for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.compiled import UNUSED, inline, njit

ROOT = Path(__file__).parent.parent


def start(**environment: str) -> None:
    """As every command does it."""
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    subprocess.run([sys.executable, "-c", "import models.compiled"], cwd=ROOT, env=clean | environment, check=True)


def cache(folder: Path, name: str, age: float) -> Path:
    made = folder / name
    (made / "models_0").mkdir(parents=True)
    (made / "models_0" / "loop.nbi").touch()
    os.utime(made, (time.time() - age,) * 2)
    return made


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """The folder of caches, with that of this version in it."""
    start(XDG_CACHE_HOME=str(tmp_path))
    return tmp_path / "strayline"


def test_what_another_version_left_goes_after_a_month(ours):
    """And neither what is younger nor what is not ours."""
    old = cache(ours, "compiled-0123456789abcdef", UNUSED + 60)
    kept = [
        cache(ours, "compiled-fedcba9876543210", UNUSED - 3600),
        cache(ours, "compiled-by-hand", UNUSED + 60),
        cache(ours, "baselines", UNUSED + 60),
    ]
    start(XDG_CACHE_HOME=str(ours.parent))
    assert not old.exists()
    assert all((path / "models_0" / "loop.nbi").exists() for path in kept)


def test_a_cache_that_is_used_is_young(ours):
    """However long ago it was filled."""
    (own,) = ours.glob("compiled-*")
    os.utime(own, (time.time() - 2 * UNUSED,) * 2)
    start(XDG_CACHE_HOME=str(ours.parent))
    assert own.stat().st_mtime > time.time() - UNUSED


def test_nothing_is_removed_beside_a_folder_that_was_given(ours):
    """`NUMBA_CACHE_DIR` may lie anywhere."""
    old = cache(ours, "compiled-0123456789abcdef", UNUSED + 60)
    start(NUMBA_CACHE_DIR=str(ours / "mine"))
    assert old.exists()


def test_a_part_says_the_same_to_python_and_to_its_callers():
    """Within its callers it has no machine code of its own; Python gets one."""

    @inline
    def spread(x: int, y: int) -> int:
        return x * 31 + y

    @njit
    def whole(x: int, y: int) -> int:
        return spread(x, y) + spread(y, x)

    assert whole(2, 3) == spread(2, 3) + spread(3, 2) == 65 + 95


def test_the_same_sources_in_another_place_are_not_compiled_again(tmp_path):
    """A second checkout, an image, a package installed anew: known by what they say, not by where they lie or since when."""
    code = "from stream.siphash import name_hash; name_hash('a'); from stream import siphash; print(sum(siphash._hash.stats.cache_misses.values()))"
    missed = []
    for place in ("one", "two"):
        for package in ("models", "stream"):
            shutil.copytree(ROOT / package, tmp_path / place / package)
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {
            "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / place),
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        missed.append(int(run.stdout))
    assert missed == [1, 0]
