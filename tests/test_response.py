"""The next step: it asks about all who got something, and nobody else, and what can be done about it."""

from __future__ import annotations

import pytest

from stream import words
from tests.telling import episode, hostile, mail, scored


def test_every_recipient_is_named_or_counted_and_all_are_recalled():
    """Whoever acts on the alert alone leaves none of the leak behind: three by name, and how many more."""
    cleared = [{"id": f"drop{i}@x.example", "clearance": "restricted"} for i in range(6)]
    counted = set()
    for many in range(2, 7):
        alert = episode([hostile(n, "x", recipients=[r]) for n, r in enumerate(cleared[:many])])[-1]
        asked = alert.next_step.partition("whether ")[2].partition(" should have")[0]
        rest = [r for r in alert.exposure.recipients if r != asked]
        assert len(rest) == alert.exposure.recipients_total - 1
        assert alert.next_step.endswith(f" Then the same of {words.few(rest)}.")
        counted.add(len(rest) > 3)
    assert counted == {True, False}


def test_who_got_what_it_often_gets_is_not_asked_about():
    """Only how much it was is strange; the stranger is asked about, and so is who got data of another class."""

    usual = [mail(n, f"post{n % 3}@parcels.example") for n in range(300)]
    much = {"bytes": 90_000_000, "records": 9000}
    for what, is_usual in (({}, True), ({"classification": "restricted"}, False)):
        strange = [mail(300, "mal@drop.example", classification="restricted"), mail(301, "post1@parcels.example", **much | what), mail(302, "mal@drop.example", classification="restricted")]  # fmt: skip
        alert = scored([*usual, *strange], STRAYLINE_ALERTS_PER_DAY="1000", STRAYLINE_DOMAINS="corp.example").alerts[-1]
        assert {g.recipient: g.usual for g in alert.exposure.given} == {
            "mal@drop.example": False,
            "post1@parcels.example": is_usual,
        }
        assert "mal@drop.example" in alert.next_step
        assert ("post1@parcels.example" in alert.next_step) != is_usual


def test_who_was_denied_it_is_not_asked_about():
    """Nothing went there."""
    got, tried = ({"id": f"{name}@x.example", "clearance": "restricted"} for name in ("got", "tried"))
    events = [hostile(n, "x", recipients=[got]) for n in range(3)]
    alert = episode([hostile(9, "x", recipients=[tried], outcome="denied"), *events])[-1]
    assert alert.exposure.recipients == ["tried@x.example", "got@x.example"]
    assert "tried@x.example" not in alert.next_step
    assert [g.recipient for g in alert.exposure.given] == ["got@x.example"]


def test_all_that_a_recipient_got_is_asked_about_the_most_classified_by_its_name():
    """Several files to one address are not one file."""
    eve = {"id": "eve@drop.example", "clearance": "restricted"}
    one, two, three = (
        hostile(n, "x", recipients=[eve], resource=f"crm/{name}", classification=of)
        for n, name, of in ((0, "a", "internal"), (1, "b", "restricted"), (2, "b", "restricted"))
    )
    for events, said in (
        ([two, three], "crm/b; if not, "),
        ([one, two], "crm/b and 1 other resource; if not, "),
        ([one, two, three], "crm/b and 1 other resource; if not, "),
    ):
        alert = episode(events)[-1]
        asked = alert.next_step.partition("whether eve@drop.example should have ")[2]
        assert asked.startswith(
            said if alert.event.resource == "crm/b" else said.replace("crm/b", "crm/b (restricted)")
        )
        assert asked.endswith("have them deleted there." if " and 1 " in said else "have it deleted there.")
        (got,) = alert.exposure.given
        assert (got.recipient, got.resource, got.classification) == ("eve@drop.example", "crm/b", "restricted")
        assert got.resources == len({e["resource"] for e in events})


def test_only_what_a_recipient_was_not_cleared_for_is_taken_back():
    """It may have got other things by right."""
    low = {"id": "#forum", "type": "channel", "clearance": "internal"}
    events = [
        hostile(n, "x", recipients=[low], resource=f"crm/{n}", classification=of, records=3, bytes=1000)
        for n, of in enumerate(["public", "restricted", "confidential"])
    ]
    alert = episode(events)[-1]
    assert " and 1 other resource from #forum" in alert.next_step
    assert "who has opened them" in alert.next_step
    assert [(g.resources, g.uncleared) for g in alert.exposure.given] == [(3, 2)]


@pytest.mark.parametrize(
    ("party", "first"),
    [
        ({"id": "#forum", "type": "channel"}, "withdraw {} from #forum, who was"),
        ({"id": "ada@corp.example", "type": "user"}, "withdraw {} from ada@corp.example, who was"),
        ({"id": "ada@corp.example", "type": "email"}, "have ada@corp.example delete {},"),
        ({"id": "eve@x.example", "type": "user"}, "have eve@x.example delete {},"),
        ({"id": "bot-7", "type": "agent"}, "stop bot-7 before it passes {} on:"),
    ],
)
def test_what_was_mailed_is_not_withdrawn_and_what_is_critical_is_stopped_first(party, first):
    """What can be done: nobody can take back a mail, and who does harm goes on meanwhile."""
    shared = [
        hostile(n, "x", recipients=[party | {"clearance": "public"}], principal="p@corp.example") for n in range(2)
    ]
    alerts = episode(shared)
    contain = "Suspend the agent, or revoke its credential. Then "
    assert (
        [a.next_step.startswith(contain) for a in alerts] == [a.severity == "critical" for a in alerts] == [False, True]
    )
    first = first.format("root/branch/1x and 1 other resource")
    step = alerts[-1].next_step.removeprefix(contain)
    assert step[0].lower() + step[1:].partition(" not cleared")[0][: len(first) - 1] == first
