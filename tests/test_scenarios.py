"""Each kind of incident and its harmless twin, planted at the same place of the same fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.alert import SEVERITIES
from stream.demo import HOME
from stream.engine import Engine
from stream.settings import load
from stream.simulate import KINDS, Simulation, lines, simulate

# What is not found at five alerts a day over this fleet, and why. An improvement must take its entry away.
MISSED = {
    "slow_drip": "each day is ordinary; only the sum over days is not, and it goes to a known partner",
    "dormant_scope": "the permission was used in the first days and has faded by a few bits only",
    "cold_start_rogue": "everything is new to a newcomer, as it was to its peers",
}


def run(simulation: Simulation) -> tuple[dict[str, float], list]:
    engine = Engine(replace(load({}), domains=(HOME,)))
    records = list(lines(simulation))
    scores: dict[str, float] = {}
    alerts = []
    for i in range(0, len(records), 4096):
        part = records[i : i + 4096]
        done = engine.score(engine.decode(part, range(len(part))))
        scores |= {e.event_id: float(s) for e, s in zip(done.events, done.score, strict=True)}
        alerts += done.alerts
    return scores, alerts


@pytest.fixture(scope="module")
def incidents():
    simulation = simulate(1)
    return simulation, *run(simulation)


@pytest.fixture(scope="module")
def twins():
    simulation = simulate(1, twins=True)
    return simulation, *run(simulation)


def naming(case, kind):
    """The planted one of a kind, its largest score, and the alerts whose evidence names one of its events."""
    simulation, scores, alerts = case
    planted = next(i for i in simulation.incidents if i.kind == kind)
    ids = set(planted.event_ids)
    named = [a for a in alerts if any(ids & set(e.event_ids) for e in a.evidence)]
    return planted, max(scores[i] for i in ids), named


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in MISSED])
def test_an_incident_is_named_by_an_alert_and_scores_above_its_twin(kind, incidents, twins):
    _, score, named = naming(incidents, kind)
    assert named
    assert score > naming(twins, kind)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_harmless_twin_raises_nothing_above_medium(kind, twins):
    _, _, named = naming(twins, kind)
    assert all(SEVERITIES.index(a.severity) <= SEVERITIES.index("medium") for a in named)


@pytest.mark.parametrize("kind", MISSED)
def test_what_is_said_to_be_missed_is_missed(kind, incidents):
    """Known gaps are better than unknown ones."""
    assert not naming(incidents, kind)[2]


def test_the_incident_that_prompted_the_project_pages_somebody(incidents):
    """Who, what, to how many, and that nobody approved it."""
    planted, _, named = naming(incidents, "flagship")
    first = named[0]
    assert first.agent_id == planted.agent_id
    assert first.severity == "critical"
    assert first.kinds[0] == "policy"
    for words in ("restricted data", "(2,000 people)", "may see internal data at most", "nobody approved it"):
        assert words in first.reason
    assert first.exposure.people_below_clearance == 2000
