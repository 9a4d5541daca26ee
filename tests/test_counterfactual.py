"""What an alert says would have been otherwise comes true."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from models.signals import INDEX, SIGNALS
from stream import counterfactual
from stream.alert import Did, Evidence
from stream.codec import encode
from stream.severity import HARMS, SERIOUS
from tests.shared import few
from tests.telling import BASE, HISTORY, HOME, about, episode, hostile, said_of, scored

# What would have been otherwise


def test_every_alert_says_what_would_have_been_otherwise(alerts):
    """In its last sentence."""
    ways, titled = defaultdict(int), 0
    for alert in alerts:
        own = [e for e in alert.evidence if alert.event.event_id in e.event_ids]
        said, named = counterfactual.otherwise(
            alert.event,
            own,
            alert.exposure.events,
            alert.score,
            alert.threshold,
            strong=alert.strange_events,
            serious=HARMS.index(alert.impact) >= SERIOUS,
            about=about(alert),
        )
        assert alert.reason.endswith(said)
        if named and about(alert) in own:  # it is about what the title is about
            assert counterfactual.condition(about(alert).name) in {counterfactual.condition(e.name) for e in named}
            titled += 1
        for e in named:  # nothing is excused that was not accused
            told = [
                said_of(alert, x) for x in own if counterfactual.condition(x.name) == counterfactual.condition(e.name)
            ]
            assert any(x in alert.reason for x in told), (alert.reason, e)
        ways[said.split(" had ")[0].strip()] += 1
        paid = sum({SIGNALS[INDEX[e.name]].group: 1 for e in own if e.name in INDEX}.values())
        assert paid > 0
    assert titled > 50
    assert {"It would not have been raised", "This event would not have raised it"} <= set(ways)


def test_what_would_not_have_been_raised_is_not_raised():
    """The sentence is true: the same event to a recipient that the agent knows opens no alert. (To an outsider it is serious harm.)"""
    known = {"id": "ada@corp.example", "type": "email", "clearance": "restricted"}
    past = [
        json.loads(line)
        | {"action": "send", "classification": "confidential", "recipients": [known | {"id": f"c{i % 9}@corp.example"}]}
        for i, line in enumerate(HISTORY)
    ]
    event = past[-9] | {
        "event_id": "last",
        "time": BASE + 48 * 1800,
        "recipients": [known | {"id": "eve@drop.example"}],
    }
    twin = event | {"recipients": past[-9 - 10]["recipients"]}
    raised, not_raised = (
        [
            a
            for a in scored([*map(encode, past), encode(e)], STRAYLINE_ALERTS_PER_DAY="1000").alerts
            if a.event.event_id == "last"
        ]
        for e in (event, twin)
    )
    assert raised[0].reason.endswith("It would not have been raised had eve@drop.example been a usual recipient.")
    assert not not_raised


def test_what_the_simulated_fleet_s_alerts_claim_comes_true(fleet):
    """With a recipient or a resource that the agent uses most, in place of the one that is blamed, the event raises nothing."""
    many = HOME | {"STRAYLINE_ALERTS_PER_DAY": "40"}
    alerts = scored([encode(e) for e in fleet.events], **many).alerts
    at = {str(event["event_id"]): i for i, event in enumerate(fleet.events)}
    checked = 0
    for alert in alerts:
        _, _, claim = alert.reason.partition(" It would not have been raised ")
        event = fleet.events[at[alert.event.event_id]]
        past = [e for e in fleet.events[: at[alert.event.event_id]] if e["agent_id"] == alert.agent_id]
        if " and had " in claim or checked == 6:
            continue
        if "usual recipient" in claim:
            kind = event["recipients"][0].get("type")
            known = [r for e in past for r in e.get("recipients", ()) if r.get("type") == kind]
            usual, times = (Counter(map(json.dumps, known)).most_common(1) or [("", 0)])[0]
            other = {"recipients": [json.loads(usual)]} if times >= 3 else {}  # once is not usually
        elif "been usual for it" in claim:
            other = {"resource": Counter(e["resource"] for e in past).most_common(1)[0][0]}
        else:
            continue
        if other:
            checked += 1
            before = [encode(e) for e in fleet.events[: at[alert.event.event_id]]]
            again = scored([*before, encode(event | other)], **many).alerts
            assert not [a for a in again if a.event.event_id == alert.event.event_id], claim
    assert checked > 4


def test_what_the_next_signal_of_a_group_would_say_is_reckoned_with():
    """A new tool that comes with a new permission: had only the tool been known, the permission would have been new."""
    known = {"records": 3, "bytes": 1000, "resource": "crm/customers/1", "classification": "internal", "action": "read"}
    alert = episode([hostile(0, "x") | known | {"session_id": "s-1-9"}])[0]
    new = next(e for e in alert.evidence if e.name in {"tool", "permission", "transition"})
    assert new.baseline["next_bits"] > 5
    assert counterfactual.pays(new) >= new.baseline["next_bits"]


def test_an_agent_that_uses_an_id_twice_cannot_mix_its_events():
    """The same id with other content is another event, and no evidence of it names the strangest."""
    small = hostile(0, "x", recipients=None, records=None, bytes=None, approved=None) | {"event_id": "same"}
    alert = episode([small, hostile(1, "x") | {"event_id": "same"}])[-1]
    assert alert.event.event_id == "same"
    assert alert.exposure.events == 2
    own = [e.name for e in alert.evidence if "same" in e.event_ids]
    assert len(own) == len(set(own))
    assert [e for e in alert.evidence if not e.event_ids]


@settings(parent=few, max_examples=300)
@given(
    bits=st.lists(st.tuples(st.sampled_from(sorted(INDEX)), st.floats(0, 30)), min_size=1, max_size=8),
    events=st.integers(1, 3),
    lead=st.floats(0, 20),
)
def test_a_claim_that_one_signal_raised_it_holds_by_the_numbers(bits, events, lead):
    """Without what it names, what the other groups pay stays below the threshold."""
    numbers = {"tool": "t", "typical": 1.0, "high": 2.0}
    items = [Evidence(name, "scope", "x", "-", b, ["e"], 1, numbers) for name, b in dict(bits).items()]
    groups: dict[str, float] = defaultdict(float)
    for item in items:
        group = SIGNALS[INDEX[item.name]].group
        groups[group] = max(groups[group], counterfactual.pays(item))
    own = sum(groups.values())
    said = counterfactual.otherwise(
        Did("e", "read"), items, events, max(own, 12.0) + lead, 12.0, strong=3, serious=False
    ).sentence
    assert said
    if said.startswith(" Alone, this event was below"):
        assert own < 12
    elif " would not have " in said:
        named = [i for i in items if counterfactual._had(i, Did("e", "read")) in said]
        silent = {counterfactual.CONDITION.get(i.name, i.name) for i in named}
        assert 1 <= len(silent) <= 2
        winners = {
            SIGNALS[INDEX[i.name]].group: i for i in sorted(items, key=counterfactual.pays)
        }  # of equals the last
        assert (
            sum(
                counterfactual.pays(i)
                for i in winners.values()
                if counterfactual.CONDITION.get(i.name, i.name) not in silent
            )
            < 12
        )
    elif "It would have been raised even" in said:
        assert own - max(groups.values()) < own
