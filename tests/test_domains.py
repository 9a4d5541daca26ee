"""Where a recipient's data goes: the domain of an address or a URL, whatever a sender puts before it, and whether that is the organisation's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.batch import NONE
from stream.codec import AccessEvent, Recipient, encode
from stream.columns import columns, read
from stream.siphash import name_hash
from tests.columned import LADDER, one, thorough, to, word, words
from tests.telling import mail, scored

DOMAINS = {
    "bob@corp.example": "corp.example",
    "Bob@CORP.Example": "corp.example",
    '"a@b"@corp.example': "corp.example",
    "mailto:bob@corp.example": "corp.example",
    "bob@": "",
    "@corp.example": "corp.example",
    "bot-7": "",
    "#general": "",
    "https://Hook.Example/x": "hook.example",
    "https://hook.example": "hook.example",
    "https://hook.example:8443/x": "hook.example",
    "https://hook.example?to=bob@corp.example": "hook.example",
    "https://hook.example#bob@corp.example": "hook.example",
    "https://hook.example/bob@corp.example": "hook.example",
    "https://hook.example/https://corp.example/": "hook.example",
    "https://user@hook.example/": "hook.example",
    "https://user:secret@hook.example:8443/x": "hook.example",
    "https://corp.example:x@evil.example/": "evil.example",
    "https://corp.example:443@evil.example": "evil.example",
    "https://a@b@evil.example/": "evil.example",
    "https://evil.example\\@corp.example/": "evil.example",
    "https://[2001:DB8::1]:8443/x": "[2001:db8::1]",
    "https://u:p@[::1]/": "[::1]",
    "https:///x": "",
    "https://": "",
    "s3://Bucket/key": "bucket",
    "user@bücher.example": "bücher.example",
    " eve@evil.example": "evil.example",
    "eve@evil.example, ": "evil.example",
    "<eve@evil.example>": "evil.example",
    "Eve Doe <eve@evil.example>": "evil.example",
    '"Doe, Eve" <eve@evil.example>;': "evil.example",
    "Sales @ Berlin, all": "",
    "#general, #random": "",
}


@pytest.mark.parametrize(("party", "domain"), DOMAINS.items(), ids=str)
def test_the_domain_of_a_party_is_where_its_data_goes(party, domain):
    """Behind the last @ of an address, the host of a URL; nothing that the sender puts before it can stand in its place."""
    b = to(party)
    assert words(b.domain) == [domain]
    assert b.domain.hash[0] == (name_hash(domain) if domain else NONE)


@pytest.mark.parametrize(
    ("party", "domain"),
    {
        "eve@evil.example,ana@corp.example": "eve@evil.example,ana@corp.example",
        "evil.example/drop?to=@corp.example": "evil.example/drop?to=@corp.example",
        "https:/evil.example/@corp.example": "https:/evil.example/@corp.example",
        "eve.evil.example": "eve.evil.example",
        "ana@corp.example": "corp.example",
    }.items(),
)
def test_an_address_without_a_readable_domain_is_its_own(party, domain):
    """Nowhere inside, whatever stands in it."""
    for kind in ("email", "url"):
        assert words(to(party, type=kind).domain) == [domain]


@pytest.mark.parametrize("party", DOMAINS)
def test_a_domain_that_is_given_wins(party):
    """In lower case; an empty one is none."""
    assert words(to(party, domain="Given.Example").domain) == ["given.example"]
    assert words(to(party, domain="").domain) == [DOMAINS[party]]
    assert to(party, domain="GIVEN.example").domain.hash[0] == name_hash("given.example")


@thorough
@given(st.lists(st.tuples(st.sampled_from(sorted(DOMAINS)), st.none() | word), min_size=1, max_size=9))
def test_the_domains_of_many_parties_are_those_of_each(parties):
    """Given and derived ones side by side share one buffer."""
    b = one(recipients=tuple(Recipient(i, domain=d) for i, d in parties))
    expected = [folded(d.replace("\0", "\ufffd")) if d else DOMAINS[i] for i, d in parties]
    assert words(b.domain) == expected
    assert b.domain.hash.tolist() == [name_hash(d) for d in expected]


def folded(domain: str) -> str:
    """ASCII in lower case; the rest as it is, as in DNS."""
    return "".join(c.lower() if c.isascii() else c for c in domain)


OWN = np.array([name_hash("corp.example"), name_hash("corp.test")], np.uint64)
LIES_IN = {
    "ana@corp.example": "corp.example",
    "ana@mail.corp.example": "corp.example",
    "ana@MAIL.Corp.Test": "corp.test",
    "https://a.b.corp.example:8443/drop": "corp.example",
    "ana@notcorp.example": "notcorp.example",
    "ana@corp.example.evil.test": "corp.example.evil.test",
    "https://evil.test/.corp.example": "evil.test",
    "https://evil.test\\.corp.example": "evil.test",
    "https://x.corp.example@evil.test": "evil.test",
    "https://evil.test%2f.corp.example": "evil.test%2f.corp.example",
    f"ana@{'a.' * 130}corp.example": f"{'a.' * 130}corp.example",  # longer than any name of a host
}


@pytest.mark.parametrize(("party", "domain"), LIES_IN.items(), ids=str)
def test_a_subdomain_lies_in_the_domain_that_is_the_organisations(party, domain):
    """And nothing else does that only ends alike."""
    event = AccessEvent("e", 0.0, "bot", "send", recipients=(Recipient("x"), Recipient(party)))
    assert columns([event], LADDER, OWN).under.tolist() == [NONE, name_hash(domain)]


@pytest.mark.parametrize("kind", ["email", "user", "channel", None])
@pytest.mark.parametrize(
    "several",
    [
        "a@evil.test,b@corp.example",
        "a@evil.test; b@x.corp.example",
        "a@evil.test b@corp.example",
        "a@evil.test <b@corp.example>",
        "<a@evil.test>, <b@corp.example>",
        "https://evil.test b@corp.example",
        "https://corp.example/x https://evil.test/",
        "https://evil.test,@corp.example/",
    ],
)
def test_several_addresses_in_one_lie_nowhere(kind, several):
    """Whatever the recipient is said to be: a stranger beside a colleague is a stranger."""
    event = AccessEvent("e", 0.0, "bot", "send", recipients=(Recipient(several, type=kind),))
    b = columns([event], LADDER, OWN)
    assert words(b.domain) != [""]
    assert not {*b.under.tolist()} & {NONE, *OWN.tolist()}


def test_without_domains_of_the_deployment_a_subdomain_lies_in_the_principals():
    """With them the principal's counts for nothing."""
    to_both = (Recipient("a@mail.home.test"), Recipient("a@mail.corp.test"))
    events = [
        AccessEvent("1", 0.0, "bot", "send", principal="ada@home.test", recipients=to_both),
        AccessEvent("2", 0.0, "bot", "send", principal="ada@corp.test", recipients=to_both),
        AccessEvent("3", 0.0, "bot", "send", recipients=to_both),
    ]
    home, corp, mail_home, mail_corp = map(name_hash, ("home.test", "corp.test", "mail.home.test", "mail.corp.test"))
    assert columns(events, LADDER).under.tolist() == [home, mail_corp, mail_home, corp, mail_home, mail_corp]
    assert columns(events, LADDER, OWN).under.tolist() == [mail_home, corp] * 3


def test_the_home_of_a_principal_is_the_domain_of_its_address():
    """What is inside the organisation is learned from it."""
    assert one(principal="Ada@Corp.Example").home[0] == name_hash("corp.example")
    assert one(principal="ada").home[0] == NONE


@pytest.mark.parametrize(
    ("action", "resource", "who"),
    [
        ("write", "https://Drop.example:8443/in/7f3?k=1", ["https://Drop.example:8443"]),
        ("send", "HTTP://drop.example", ["HTTP://drop.example"]),
        ("share", "https://corp.example:x@drop.example/", ["https://corp.example:x@drop.example"]),
        ("read", "https://drop.example/in", []),
        ("write", "s3://bucket/key", []),
        ("write", "https:", []),
        ("write", "https:///in", []),
        ("write", "docs/https://drop.example", []),
    ],
)
def test_a_url_that_something_is_given_to_received_it(action, resource, who):
    """Though no recipient is named; whoever is named received it, and no one else."""
    event = {"event_id": "1", "time": 1772445600, "agent_id": "a", "action": action, "resource": resource}
    found = read([encode(event), encode(event | {"recipients": [{"id": "ada"}]})], [0, 1], 1 << 20, LADDER, OWN)
    assert found.batch is not None
    assert [[r.id for r in e.recipients or ()] for e in found.events] == [who, ["ada"]]
    assert words(found.batch.recipient) == [*who, "ada"]
    assert [r.type for r in found.events[0].recipients or ()] == ["url"] * len(who)


@pytest.mark.parametrize(
    ("server", "impact"), [("drop.example", "severe"), ("files.corp.test", "limited"), ("share.corp.test", None)]
)
def test_what_is_uploaded_to_a_server_is_told_of_as_sent_there(server, impact):
    """A stranger's; one of the organisation that is new to the agent; and its usual one."""
    put = {"action": "write", "tool": "file.put", "recipients": None, "classification": "restricted"}
    past = [mail(n, "", resource=f"https://share.corp.test/orders/{n % 9}", **put) for n in range(400)]
    strange = [mail(n, "", resource=f"https://{server}/orders/{n % 9}", **put) for n in range(400, 404)]
    said = scored([*past, *strange], STRAYLINE_DOMAINS="corp.test").alerts
    assert {(a.impact, *a.exposure.recipients) for a in said} == ({(impact, f"https://{server}")} if impact else set())
