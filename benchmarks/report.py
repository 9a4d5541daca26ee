"""How results are shown: aligned tables on standard output, and the same numbers in `bench-out/NAME.json`."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numba

from benchmarks.sets import ROOT

OUT = ROOT / "bench-out"


def say(text: str) -> None:
    """What is being done, at once, also into a pipe."""
    print(text, flush=True)


def warn(text: str) -> None:
    """What is not measured, and why: not to be overlooked."""
    say(f"\n!!! {text}\n")


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows in columns: the first to the left, the others to the right; None is a dash."""
    cells = [list(header)] + [[cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in cells
    ]
    say("\n".join(["", title, lines[0], "-" * len(lines[0]), *lines[1:], ""]))


def cell(value: Any) -> str:
    """A value as a table has it."""
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def save(name: str, results: Any) -> None:
    """Keep the numbers, so that what is quoted elsewhere can be looked up."""
    OUT.mkdir(exist_ok=True)
    machine = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "command": sys.argv[1:],
    }
    path = OUT / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    say(f"numbers kept in {path.relative_to(ROOT)}")
