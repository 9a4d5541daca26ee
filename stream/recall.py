"""What is to be asked about, taken back or deleted: all that a recipient got, and the other recipients of the alert."""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert import Did, Evidence, Exposure
from stream.change import said_to_explain
from stream.clauses import OF_THE_COHORT
from stream.handed import MOST_EACH
from stream.words import few, plain


def asks_about(about: Evidence, event: Did, evidence: Sequence[Evidence], *, serious: bool) -> bool:
    """Whether the next step asks about recipients of what was handed out, which all other evidence leaves to another question."""
    own = event.event_id in about.event_ids
    if own and event.denied:
        return False
    change = said_to_explain(about, [e for e in evidence if e.name in OF_THE_COHORT])
    if change is not None and (change.name == "rollout" or not serious):
        return False
    if about.name == "clearance":
        return True
    if not serious and any(e.name == "new_version" for e in evidence):
        return False
    return about.kind == "recipient" or (serious and own and bool(event.recipients))


def resources(recipient: object, where: str, event: Did, exposure: Exposure, *, uncleared: bool = False) -> str:
    """What a recipient got: the most classified by its name (`where`, if nothing is more so), and how many more; `uncleared`: it was not to have.

    >>> from stream.alert import Given
    >>> got = [Given("r", "hr/1", "restricted", 3, 2)]
    >>> resources("r", "crm/1", Did("e", "send", resource="crm/1", classification="internal"), Exposure(given=got))
    'hr/1 (restricted) and 2 other resources'
    >>> resources("r", "crm/1", Did("e", "send", resource="crm/1", classification="restricted"), Exposure(given=got), uncleared=True)
    'crm/1 and 1 other resource'
    """
    got = next((g for g in exposure.given if g.recipient == recipient), None)
    named = plain(where) if where else "the data"
    if got is None:
        return named
    of = event.classification if where == event.resource else None
    if got.resource and got.resource != where and (of or "").lower() != (got.classification or "").lower():
        named = plain(got.resource) + (f" ({plain(got.classification, 24)})" if got.classification else "")
    n = (got.uncleared if uncleared else got.resources) - 1
    if n < 1:
        return named
    return f"{named} and {n}{' or more' if n >= MOST_EACH - 1 else ''} other resource{'' if n == 1 else 's'}"


def others(about: Evidence, event: Did, exposure: Exposure) -> str:
    """The alert's recipients beside those that the step names or counts, up to three by name; of what was shown without clearance those who lack it. Who got what it often gets is asked about by nobody."""
    own = event.event_id in about.event_ids
    asked = {str(about.baseline.get("recipient") or about.observed), *(event.recipients if own else ())}
    asked |= {event.principal or ""}  # who is asked
    if about.name == "clearance":
        rest = (exposure.people_below_clearance or 0) > int(about.baseline.get("people", 0))
        names = [g.recipient for g in exposure.given if g.uncleared and g.recipient not in asked] if rest else []
        return few(names)
    got = exposure.given  # and not who was denied it
    names = [g.recipient for g in got if g.recipient not in asked and (g.uncleared or not g.usual)]
    return few(names, all_of=len(names) + exposure.recipients_total - len(got)) if names else ""


def passed_on(about: Evidence, evidence: Sequence[Evidence]) -> str:
    """To whom an agent that got the data has sent something since, as far as its own alert tells; empty where it has not."""
    relay = next((e for e in evidence if e.name == "relay"), None)
    if relay is None or about.baseline.get("recipient") not in relay.baseline.get("passed_on", {}):
        return ""
    name = str(about.baseline["recipient"])
    alert = relay.baseline["alerts"][relay.baseline["agents"].index(name)]
    return f"{few(relay.baseline['passed_on'][name])} (alert {alert})"
