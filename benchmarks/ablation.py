"""What each signal is worth: recall and mean AP with its weight at zero, against everything on; and what is remembered for all of them.

Of a group only the largest signal counts, so one that is off may be stood in for by another of its group: groups of more than one
signal are switched off as a whole too. The compiled loop takes the weights for constants, so each variant is a copy of `models` and
`stream` with one line added, compiled for itself in a cache of its own: half a minute each, a quarter of an hour and more in all.
All are copies of one copy, taken at the start, so that an edit made meanwhile does not pass for the worth of a signal.
`python -m benchmarks ablation [--sets …]` runs it; `make bench` does not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.detection import with_mean
from benchmarks.report import save, say, table, warn
from benchmarks.sets import FLEETS, ROOT, LabelledSet, absent, judge, labelled_sets, lines, play, ranking, replay
from benchmarks.stages import state_bytes
from models.signals import GROUPS, SIGNALS

ALL = "everything on"
AT_ONCE = 2
CHANGES = ("recall_1", "recall_5", "mean_ap")
# What each run leaves out: signal by signal, then the groups that have several.
OFF: dict[str, tuple[str, ...]] = {s.name: (s.name,) for s in SIGNALS}
OFF |= {f"all of {g}": of for g in GROUPS if len(of := tuple(s.name for s in SIGNALS if s.group == g)) > 1}


def ablation(names: Iterable[str] = ()) -> dict[str, Any] | None:
    """Print the tables of ablations and of state; the numbers behind them."""
    why = absent()
    if why:
        warn(f"ABLATION NOT MEASURED: {why}")
        return None
    sets = labelled_sets(names)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="strayline-ablation-") as folder,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        source = without((), Path(folder) / "source")
        variants = {ALL: (), **OFF}
        running = [
            pool.submit(_scores, signals, sets, Path(folder) / str(n), source)
            for n, signals in enumerate(variants.values())
        ]
        for n, (variant, done) in enumerate(zip(variants, running, strict=True)):
            paths = done.result()
            results[variant] = {s.name: ranking(judge(s, paths[s.name])) for s in sets}
            shutil.rmtree(Path(folder) / str(n))
            say(f"ablation: {variant} done")
    _show(results)
    state = {s.name: _state(s) for s in sets}
    _show_state(state)
    save("ablation", {"ranking": results, "state_bytes_an_agent": state})
    return results


def without(signals: Iterable[str], to: Path, source: Path = ROOT) -> Path:
    """A copy of the code under `to` in which these signals pay nothing."""
    for package in ("models", "stream"):
        shutil.copytree(source / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (to / "models" / "signals.py").open("a") as table_of_signals:
        table_of_signals.writelines(f"WEIGHT_OF[INDEX[{name!r}]] = 0.0\n" for name in signals)
    return to


def _scores(signals: Iterable[str], sets: Iterable[LabelledSet], folder: Path, source: Path) -> dict[str, Path]:
    where = without(signals, folder, source)
    out = {}
    for s in sets:
        out[s.name] = folder / f"{s.name}.jsonl"
        replay(s.events, s.settings | {"XDG_CACHE_HOME": str(where)}, out[s.name], None, where)
    return out


def changes(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """For each variant the change of recall at 1 and 5 and of mean AP, on the mean of the fleets and on each other set."""
    of = {variant: with_mean(by_set, lambda numbers: numbers) for variant, by_set in results.items()}
    whole = set(of[ALL]) - set(results[ALL])  # the mean, where all fleets are there: then it stands for them
    return {
        variant: {
            name: {n: numbers[n] - of[ALL][name][n] for n in CHANGES}
            for name, numbers in by_set.items()
            if not (whole and name in FLEETS)
        }
        for variant, by_set in of.items()
    }


def _show(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    on = with_mean(results[ALL], lambda numbers: numbers)
    by_variant = changes(results)
    names = list(by_variant[ALL])
    rows = [[ALL, *("/".join(f"{on[name][n]:.2f}" for n in CHANGES) for name in names)]]
    rows += [
        [variant, *("/".join(_change(by_variant[variant][name][n]) for n in CHANGES) for name in names)]
        for variant in OFF
    ]
    table(
        "Each signal off, and each group: change of recall at 1 and 5 false alerts a day, and of mean AP over kinds",
        ["off", *names],
        rows,
    )


def _change(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.005 else "·"


def _state(s: LabelledSet) -> dict[str, float]:
    engine = play(lines(s.events), s.settings).engine
    agents = int(engine.state["agents"].tally[0])
    return {name: size / agents for name, size in state_bytes(engine).items()}


def _show_state(state: Mapping[str, Mapping[str, float]]) -> None:
    names = list(next(iter(state.values())))
    table(
        "State after each set: bytes an agent of the rows in use, by table",
        ["set", "all", *names],
        [[name, f"{sum(of.values()):,.0f}", *(f"{of[n]:,.0f}" for n in names)] for name, of in state.items()],
    )
