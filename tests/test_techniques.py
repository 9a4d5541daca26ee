"""Which catalogue entries an alert names."""

from __future__ import annotations

from itertools import product

import pytest

from models.signals import KINDS
from stream.techniques import techniques

# The catalogues' entries for what agents do, by the version that alerts name.
CATALOGUE = {
    "MITRE ATT&CK 19.1": {
        "T1213", "T1530", "T1119", "T1005", "T1039", "T1114", "T1567", "T1048", "T1041", "T1020", "T1030", "T1537", "T1222", "T1078", "T1550.001",
        "T1528", "T1199", "T1098", "T1484", "T1087", "T1069", "T1083", "T1526", "T1619", "T1552", "T1485", "T1685.002",
    },
    "MITRE ATLAS 5.6.1": {
        "AML.T0085", "AML.T0036", "AML.T0086", "AML.T0025", "AML.T0024", "AML.T0057", "AML.T0053", "AML.T0012", "AML.T0081", "AML.T0084",
        "AML.T0098", "AML.T0082", "AML.T0083", "AML.T0051", "AML.T0080", "AML.T0110", "AML.T0101", "AML.T0034.002",
    },
    "OWASP Agentic 2026": {f"ASI{n:02}" for n in range(1, 11)},
}  # fmt: skip
OWASP_NAMES = {
    "ASI02": "Tool Misuse and Exploitation",
    "ASI03": "Identity and Privilege Abuse",
    "ASI07": "Insecure Inter-Agent Communication",
    "ASI10": "Rogue Agents",
}


# Techniques


def test_every_technique_is_in_its_catalogue():
    """Whatever the kinds and the action: at least one, none twice, each with its catalogue's version."""
    actions = ("read", "grant", "delete", "share", "something else")
    flags = (True, False)
    for kinds in [(a,) for a in KINDS] + list(product(KINDS, KINDS)) + [KINDS]:
        for action, outside, denied, to_agent in product(actions, flags, flags, flags):
            found = techniques(kinds, action, outside=outside, serious=denied, denied=denied, to_agent=to_agent)
            assert found
            assert len(found) == len(set(found))
            for each in found:
                assert each.id in CATALOGUE[each.framework]
                assert each.framework != "OWASP Agentic 2026" or each.name == OWASP_NAMES[each.id]


@pytest.mark.parametrize(
    ("kinds", "action", "flags", "ids"),
    [
        (("volume",), "read", {}, {"T1213"}),
        (("recipient",), "send", {"outside": True}, {"T1567", "AML.T0086"}),
        (("recipient",), "share", {}, {"AML.T0057"}),
        (("policy",), "share", {"outside": True}, {"T1567", "T1078"}),
        (("scope",), "execute", {}, {"AML.T0053", "ASI03"}),
        (("scope",), "send", {"outside": True, "serious": True}, {"AML.T0053", "T1567"}),
        (("scope",), "read", {"denied": True}, {"T1087"}),
        (("rate",), "grant", {}, {"T1098"}),
        (("rate",), "delete", {}, {"T1485"}),
        (("rate",), "send", {"to_agent": True}, {"ASI07"}),
        (("rate",), "read", {}, {"ASI10"}),
    ],
)
def test_a_technique_follows_from_what_was_done(kinds, action, flags, ids):
    """An outside recipient is exfiltration, an inside one a leak; and what nothing points to is not named."""
    none = {"outside": False, "serious": False, "denied": False, "to_agent": False}
    found = {t.id for t in techniques(kinds, action, **(none | flags))}
    assert ids <= found
    assert ("T1567" in found) is bool(flags.get("outside"))
    assert ids == {"ASI10"} or not ids & {t.id for t in techniques(("rate",), "read", **none)}
