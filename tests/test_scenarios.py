"""Each kind of incident and its harmless twin, planted at the same place of the same fleet."""

from __future__ import annotations

import pytest

from benchmarks import scenarios
from stream.alert import SEVERITIES
from stream.simulate import KINDS

# What is not found at five alerts a day over the demo's fleet, and why. An improvement must take its entry away.
MISSED = {
    "slow_drip": "each day is ordinary; only the sum over days is not, and it goes to a known partner",
}


@pytest.fixture(scope="module")
def incidents():
    return scenarios.case("demo")


@pytest.fixture(scope="module")
def twins():
    return scenarios.case("demo", twins=True)


def test_detection_is_what_the_reviewed_file_says():
    """A change of detection shows as a diff of one file, for each scenario by its name."""
    changed = scenarios.difference(scenarios.told())
    assert not changed, (
        f"\n{changed}\n\nDetection has changed. If that is meant: `{scenarios.REWRITE}` rewrites the file; "
        "review its diff, and put it into CHANGELOG's Detection section."
    )


def test_a_change_is_shown_by_the_name_of_its_scenario(monkeypatch, tmp_path):
    """And a file that is missing shows every line."""
    monkeypatch.setattr(scenarios, "EXPECTED", tmp_path / "detection.txt")
    now = "a.one found\na.two missed\n"
    assert scenarios.difference(now).splitlines()[3:] == ["+a.one found", "+a.two missed"]
    scenarios.EXPECTED.write_text("a.one found\na.two found\n")
    assert scenarios.difference(now).splitlines()[3:] == ["-a.two found", "+a.two missed"]
    scenarios.EXPECTED.write_text(now)
    assert scenarios.difference(now) == ""


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in MISSED])
def test_an_incident_is_named_by_an_alert_and_scores_above_its_twin(kind, incidents, twins):
    _, score, named = incidents.of(kind)
    assert named
    assert score > twins.of(kind)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_harmless_twin_raises_nothing_above_medium(kind, twins):
    _, _, named = twins.of(kind)
    assert all(SEVERITIES.index(a.severity) <= SEVERITIES.index("medium") for a in named)


@pytest.mark.parametrize("kind", MISSED)
def test_what_is_said_to_be_missed_is_missed(kind, incidents):
    """Known gaps are better than unknown ones."""
    assert not incidents.of(kind)[2]


def test_the_incident_that_prompted_the_project_pages_somebody(incidents):
    """Who, what, to how many, and that nobody approved it."""
    planted, _, named = incidents.of("flagship")
    first = named[0]
    assert first.agent_id == planted.agent_id
    assert first.severity == "critical"
    assert first.kinds[0] == "policy"
    for words in ("restricted data", "(2,000 people)", "may see internal data at most", "nobody approved it"):
        assert words in first.reason
    assert first.exposure.people_below_clearance == 2000
