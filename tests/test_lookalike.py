"""A recipient that looks like one that is known is told of as that; what is known, or only of the same trade, is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.engine import Engine
from stream.lookalike import alike, looks_like
from stream.settings import load
from tests.telling import ADA, mail


@pytest.mark.parametrize(
    "domain",
    [
        "c0rp-world.example", "corpworld.example", "corp-wor1d.example", "corp-wolrd.example", "corp-world.test", "corp-world.example.evil.test", "corp-world-example.test",
        "c\u043erp-world.example", "c\u043erp-world.example".encode("idna").decode(),
    ],
)  # fmt: skip
def test_a_domain_that_is_spelt_nearly_as_another_looks_like_it(domain):
    assert alike(domain, "corp-world.example")


@pytest.mark.parametrize(
    ("domain", "known"),
    [
        ("corp-world.example", "corp-world.example"), ("mail.corp-world.example", "corp-world.example"), ("corp-world.example", "mail.corp-world.example"),
        ("customers1.example", "customers2.example"), ("ups.test", "usps.test"), ("nord-logistics.example", "south-logistics.example"), ("localhost", "localhosts"),
    ],
)  # fmt: skip
def test_its_harmless_twins_do_not(domain, known):
    """It itself, what lies within it, a series of them, and short names, of which many are alike."""
    assert not alike(domain, known)


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_sender_writes_is_compared(domain, known):
    assert alike(domain, known) in {True, False}
    said = looks_like([(domain, known)], known, [domain], [known])
    assert said is None or said[2].isprintable()


@pytest.mark.parametrize(
    ("mailbox", "name", "same"),
    [
        ("ada.lee83", "ada.lee", True), ("adalee", "ada.lee", True), ("ada_lee_1", "ada.lee", True), ("ada.lee.ann", "ada.lee", False), ("bea.lee83", "ada.lee", False),
        ("p1234", "p1234", True), ("p12345", "p1234", False), ("sales1", "sales", False),
    ],
)  # fmt: skip
def test_a_name_is_the_same_without_points_and_the_number_behind_it(mailbox, name, same):
    """Of a name that is a number the number is the name."""
    found = looks_like([(f"{mailbox}@mail.example", "mail.example")], f"{name}@corp.example", [], [])
    assert (found is not None) == same


def test_who_sends_work_home_is_told_to_do_so():
    """The mailbox of the person that the agent acts for, of a person it has sent to; not one that many firms have, nor of its own firm."""
    home = looks_like([("Ada.Lee@mail.example", "mail.example")], ADA, [], [])
    assert home
    assert home[2] == "Ada.Lee@mail.example has the name of ada.lee@corp.example, for whom it acts, at another domain"
    typo = looks_like([("jo.ott@post.example", "post.example")], ADA, ["jo.ott@clinic.example"], [])
    assert typo
    assert typo[1] == "jo.ott@clinic.example"
    for recipient, known in (
        ("sales@post.example", ["sales@clinic.example"]),
        ("ada.lee@eu.corp.example", []),
        ("jo.ott@clinic.example", ["jo.ott@clinic.example"]),
    ):
        assert looks_like([(recipient, recipient.partition("@")[2])], ADA, known, []) is None


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("kim@parcels-nord.test", "the domain of kim@parcels-nord.test looks like parcels-nord.example, to which it has sent"),
        ("ada.lee@home.example", "ada.lee@home.example has the name of ada.lee@corp.example, for whom it acts, at another domain"),
        ("kim@elsewhere.example", ""),
    ],
)  # fmt: skip
def test_an_alert_on_one_says_so(to, told):
    engine = Engine(load({"STRAYLINE_DOMAINS": "corp.example", "STRAYLINE_ALERTS_PER_DAY": "1000"}))
    usual = [mail(n, f"post{n % 3}@parcels-nord.example") for n in range(300)]
    strange = [mail(300 + n, to, classification="restricted", records=900) for n in range(3)]
    records = [*usual, *strange]
    alert = engine.score(engine.decode(records, range(len(records)))).alerts[-1]
    assert [str(e.observed) for e in alert.evidence if e.name == "look_alike"] == ([told] if told else [])
    assert told in alert.reason
    assert ("looks like" in alert.reason or "has the name" in alert.reason) == bool(told)
