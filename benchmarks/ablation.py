"""What each signal is worth: how recall, AP and mean AP over kinds change with its weight at zero; and what is remembered for all of them.

Of a group only the largest signal counts, so one that is off may be stood in for by another of its group: groups of more than one
signal are switched off as a whole too. The compiled loop is given what signals pay (`models.signals.PAYS`), so a variant costs a replay in this process.
Beside the labelled sets there are the fleets of `strayline demo` under seeds on which nothing else is measured, and the benchmark's own floods.
`python -m benchmarks ablation [--sets …]` runs it; `make bench` does not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import floods
from benchmarks.detection import nab
from benchmarks.report import save, say, table, warn
from benchmarks.sets import BATCH, FLEETS, LabelledSet, absent, demo_set, judge, labelled_sets, lines, ranking
from benchmarks.stages import state_bytes
from models.signals import GROUPS, INDEX, PAYS, SIGNALS
from models.table import Array
from stream.engine import Decoded, Engine, Ran
from stream.score_lines import score_lines
from stream.settings import load

ALL = "everything on"
# What each variant leaves out: signal by signal, then the groups that have several.
OFF: dict[str, tuple[str, ...]] = {s.name: (s.name,) for s in SIGNALS}
OFF |= {f"all of {g}": of for g in GROUPS if len(of := tuple(s.name for s in SIGNALS if s.group == g)) > 1}
VARIANTS = {ALL: (), **OFF}
DEMOS = tuple(range(101, 107))  # seeds
FAMILIES = {
    "fleets": FLEETS,
    "demos": tuple(f"demo-{seed}" for seed in DEMOS),
    "cloudtrail": ("cloudtrail-invictus", "cloudtrail-s3breach"),
}
NUMBERS = ("recall_1", "recall_5", "ap", "mean_ap")
FLOODS = {"floods: calls": floods.calls, "floods: network": floods.network}
Results = dict[str, dict[str, dict[str, float]]]  # variant → set → number


def ablation(names: Sequence[str] = ()) -> Results | None:
    """Print the tables of ablations and of state; the numbers behind them. Demos and floods are left out where sets are named."""
    why = absent()
    if why:
        warn(f"ABLATION NOT MEASURED: {why}")
        return None
    results: Results = {variant: {} for variant in VARIANTS}
    state: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="strayline-ablation-") as name:
        folder = Path(name)
        for s in [*labelled_sets(names), *([] if names else (demo_set(seed, folder) for seed in DEMOS))]:
            records = decoded(lines(s.events), s.settings)
            for variant, off in VARIANTS.items():
                engine, runs = scored(records, s.settings, without(off))
                results[variant][s.name] = judged(s, runs, folder / "scores.jsonl")
                if variant == ALL:
                    state[s.name] = _state(engine)
            say(f"ablation: {s.name} done")
    for name, make in {} if names else FLOODS.items():
        stream = make()
        records = decoded([json.dumps(event).encode() for event in stream.events], {})
        for variant, off in VARIANTS.items():
            score = scores(scored(records, {}, without(off))[1])
            results[variant][name] = {"auc": floods.judged(stream, score)["all"]["auc"] or 0.0}
        say(f"ablation: {name} done")
    _show(results)
    _show_state(state)
    save("ablation", {"ranking": results, "state_bytes_an_agent": state})
    return results


def without(signals: Iterable[str]) -> Array:
    """What signals pay where these pay nothing."""
    pays = PAYS.copy()
    pays[[INDEX[name] for name in signals], 0] = 0.0
    return pays


def decoded(records: Sequence[bytes], settings: Mapping[str, str]) -> list[Decoded]:
    """Records past the border, in batches: once for all variants."""
    engine = Engine(load(settings))
    return [engine.decode(records[i : i + BATCH], range(i, i + BATCH)) for i in range(0, len(records), BATCH)]


def scored(records: Iterable[Decoded], settings: Mapping[str, str], pays: Array) -> tuple[Engine, list[Ran]]:
    """What an engine says in which signals pay this, and the engine. Nothing is told: alerts do not change scores."""
    engine = Engine(load(settings), pays)
    return engine, [engine.run(d) for d in records]


def scores(runs: Iterable[Ran]) -> Array:
    """The scores of batches that were run."""
    return np.concatenate([ran.out.score for ran in runs if ran.out is not None])


def judged(s: LabelledSet, runs: Iterable[Ran], path: Path) -> dict[str, float]:
    """What the evaluator says of scores, written to `path` as replay does; of series what NAB's own rules say."""
    with path.open("wb") as file:
        for ran in runs:
            if ran.batch is not None and ran.out is not None:
                file.write(score_lines(ran.decoded.events, ran.batch, ran.out.score, ran.out.parts))
    profiles = nab(s, path)
    return {"nab": profiles["nab"]["standard"]} if profiles else ranking(judge(s, path))


def _families(by_set: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The numbers of each set, of a family that is all there the mean instead."""
    out: dict[str, dict[str, float]] = {}
    for family, of in FAMILIES.items():
        if all(name in by_set for name in of):
            out[family] = {n: sum(by_set[name][n] for name in of) / len(of) for n in NUMBERS}
    inside = {name for family, of in FAMILIES.items() if family in out for name in of}
    return out | {name: dict(numbers) for name, numbers in by_set.items() if name not in inside}


def changes(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """For each variant the change of every number, of each family and each other set."""
    of = {variant: _families(by_set) for variant, by_set in results.items()}
    return {
        variant: {name: {n: x - of[ALL][name][n] for n, x in told.items()} for name, told in by_name.items()}
        for variant, by_name in of.items()
    }


def _show(results: Results) -> None:
    on = {name: _told(numbers) for name, numbers in _families(results[ALL]).items()}
    by_variant = changes(results)
    rows = [
        [
            ALL,
            *(
                "/".join(f"{1000 * x:.1f}" if n == "nab" else f"{x:.3f}".lstrip("0") for n, x in numbers.items())
                for numbers in on.values()
            ),
        ]
    ]
    rows += [
        [variant, *("/".join(_change(x) for x in _told(by_variant[variant][name]).values()) for name in on)]
        for variant in OFF
    ]
    table(
        "Each signal off, and each group: change of recall at 1 and 5 false alerts a day, of AP and of mean AP over kinds, in thousandths (of NAB in points, of floods of AUC)",
        ["off", *on],
        rows,
    )


def _told(numbers: Mapping[str, float]) -> dict[str, float]:
    """In the table NAB's points, which go to a hundred, are as wide as the others."""
    return {n: x / 1000 if n == "nab" else x for n, x in numbers.items() if n in (*NUMBERS, "nab", "auc")}


def _change(value: float) -> str:
    return f"{1000 * value:+.0f}" if abs(value) >= 0.0005 else "·"


def _state(engine: Engine) -> dict[str, float]:
    agents = int(engine.state["agents"].tally[0])
    return {name: size / agents for name, size in state_bytes(engine).items()}


def _show_state(state: Mapping[str, Mapping[str, float]]) -> None:
    names = list(next(iter(state.values())))
    table(
        "State after each set: bytes an agent of the rows in use, by table",
        ["set", "all", *names],
        [[name, f"{sum(of.values()):,.0f}", *(f"{of[n]:,.0f}" for n in names)] for name, of in state.items()],
    )
