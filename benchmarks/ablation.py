"""What each group of signals is worth: recall and AP with the group's weights at zero, against everything on.

The compiled loop takes the weights for constants, so each variant is a copy of `models` and `stream` with one line added, compiled
for itself in a cache of its own: about half a minute each. All are copies of one copy, taken at the start, so that an edit made
meanwhile does not pass for the worth of a group. `python -m benchmarks ablation` runs it; `make bench` does not.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import save, say, table, warn
from benchmarks.sets import ROOT, LabelledSet, absent, judge, labelled_sets, ranking, replay
from models.signals import GROUPS, SIGNALS

SETS = ("fleet-dev", "fleet-101")
ALL = "everything on"
AT_ONCE = 2


def ablation() -> dict[str, Any] | None:
    """Print the table of ablations; the numbers behind it."""
    why = absent()
    if why:
        warn(f"ABLATION NOT MEASURED: {why}")
        return None
    sets = labelled_sets(SETS)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="strayline-ablation-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        variants = (None, *GROUPS)
        source = without(None, Path(folder) / "source")
        running = [pool.submit(_scores, group, sets, Path(folder), source) for group in variants]
        for group, done in zip(variants, running, strict=True):
            paths = done.result()
            results[group or ALL] = {s.name: ranking(judge(s, paths[s.name])) for s in sets}
            say(f"ablation: {group or ALL} done")
    _show(results, [s.name for s in sets])
    save("ablation", results)
    return results


def without(group: str | None, to: Path, source: Path = ROOT) -> Path:
    """A copy of the code under `to` in which no signal of this group pays anything."""
    for package in ("models", "stream"):
        shutil.copytree(source / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    if group is not None:
        with (to / "models" / "signals.py").open("a") as table_of_signals:
            table_of_signals.write(f"WEIGHT_OF[GROUP_OF == GROUPS.index({group!r})] = 0.0\n")
    return to


def _scores(group: str | None, sets: list[LabelledSet], folder: Path, source: Path) -> dict[str, Path]:
    name = group or "all"
    where = without(group, folder / name, source)
    out = {}
    for s in sets:
        out[s.name] = folder / f"{name}.{s.name}.jsonl"
        replay(s.events, s.settings | {"XDG_CACHE_HOME": str(where)}, out[s.name], None, where)
    return out


def _show(results: dict[str, dict[str, dict[str, float]]], names: list[str]) -> None:
    rows = []
    for group, by_set in results.items():
        row: list[Any] = [group, ", ".join(s.name for s in SIGNALS if s.group == group)]
        for name in names:
            n = by_set[name]
            row += [f"{n['recall_1']:.2f}/{n['recall_5']:.2f}", n["ap"], n["ap"] - results[ALL][name]["ap"]]
        rows.append(row)
    header = ["group off", "its signals"]
    for name in names:
        header += [f"{name} 1/5", "AP", "change"]
    table("Each group of signals off: recall at 1 and 5 false alerts a day, and AP", header, rows)
