"""Permanent scenarios: each kind of incident and its harmless twin in simulated fleets, and what the engine says of them.

`tests/detection.txt` has what is expected, a line a scenario, and a test compares. Where a change of detection is meant,
`python -m benchmarks.scenarios` rewrites the file and prints what changed: its diff is reviewed, and goes into CHANGELOG's
Detection section. Names never change their meaning: another scenario gets another name.

Scores are rounded to a tenth of a bit, so that the last digits of a machine's logarithm do not matter.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.report import say
from benchmarks.sets import ROOT, play
from stream.alert import Alert
from stream.demo import HOME, account
from stream.simulate import KINDS, Incident, Simulation, lines, simulate

EXPECTED = ROOT / "tests" / "detection.txt"
REWRITE = "python -m benchmarks.scenarios"
# The demo's fleet, and small ones in which an agent has few peers and less of a past: seed, agents, days.
FLEETS = {"demo": (1, 60, 28), "small-2": (2, 24, 21), "small-3": (3, 24, 21), "small-4": (4, 24, 21)}
WORDS = {"": ("missed", "found"), ".twin": ("quiet", "raised")}
HEADER = f"""\
# What is found, by name: FLEET.KIND is an incident, FLEET.KIND.twin what looks like it and is harmless, FLEET.all the alerts.
# An incident is found or missed, a twin quiet or raised. Then the severity of the alert that names it, or -; the largest score
# of its events, in bits; the alert's kinds. Rewritten by: {REWRITE}
"""


@dataclass(frozen=True)
class Case:
    """A simulated fleet, and what the engine says of it at its default budget."""

    simulation: Simulation
    scores: dict[str, float]
    alerts: list[Alert]

    def of(self, kind: str) -> tuple[Incident, float, list[Alert]]:
        """What was planted of a kind, the largest score of its events, and the alerts whose evidence names one of them."""
        planted = next(i for i in self.simulation.incidents if i.kind == kind)
        ids = set(planted.event_ids)
        naming = [a for a in self.alerts if any(ids & set(e.event_ids) for e in a.evidence)]
        return planted, max(self.scores[i] for i in ids), naming


@cache
def case(fleet: str, *, twins: bool = False) -> Case:
    """The fleet of this name, with incidents or with their twins, scored."""
    seed, agents, days = FLEETS[fleet]
    simulation = simulate(seed, agents, days, twins=twins)
    played = play(list(lines(simulation)), {"STRAYLINE_DOMAINS": HOME})
    ids = [str(event["event_id"]) for event in simulation.events]
    return Case(simulation, dict(zip(ids, played.scores, strict=True)), played.alerts)


def told() -> str:
    """What the engine says of every scenario, as the file has it."""
    return HEADER + "".join(f"{line}\n" for fleet in FLEETS for line in _fleet(fleet))


def _fleet(fleet: str) -> Iterator[str]:
    cases = {"": case(fleet), ".twin": case(fleet, twins=True)}
    for suffix, one in cases.items():
        a = account(one.simulation, one.alerts)
        yield f"{f'{fleet}.all{suffix}':36} {len(a.true):3} alerts on what was planted, {len(a.false):3} on nothing"
    for kind in KINDS:
        for suffix, one in cases.items():
            _, score, naming = one.of(kind)
            loudest = max(naming, key=lambda a: (a.score, a.revision), default=None)
            verdict = WORDS[suffix][loudest is not None]
            severity, kinds = (loudest.severity, " " + ",".join(loudest.kinds)) if loudest else ("-", "")
            yield f"{f'{fleet}.{kind}{suffix}':36} {verdict:6} {severity:8} {score:6.1f}{kinds}"


def difference(now: str) -> str:
    """From what the file expects to what is said now, as a unified diff; empty where nothing changed."""
    before = EXPECTED.read_text() if EXPECTED.exists() else ""
    return "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "expected", "now", n=0, lineterm=""))


def main() -> int:
    """Rewrite the file, and print what changed."""
    now = told()
    say(difference(now) or "nothing changed")
    EXPECTED.write_text(now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
