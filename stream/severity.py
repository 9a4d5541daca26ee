"""How bad an episode is: what harm it may mean, and how sure it is that something is wrong.

*Harm* is about data, not about bits: whose eyes it reached (outside, or without the clearance), how sensitive it is, how much, and
how many people stand behind the recipients. Only what was itself unusual counts: an agent that mails confidential quotes to customers
all day does no harm by one more; and data of the lowest class is for everybody. *Certainty* is about bits: how far over the threshold, or over 6 where that is lower; less for an agent that is
new, or runs a new version, where its whole cohort does the same, a person approved it, or it hangs on the odd hour of one session; and sure where it is like what a person called malicious.

A severity says what an analyst does: critical: is woken; high: within the hour; medium: the same day; low: when there is time.
The two scales in one table follow NIST SP 800-30 r1 (impact × likelihood, table I-2).
"""

from __future__ import annotations

from collections.abc import Sequence

from models.batch import BITS, PAID
from models.budget import LONE
from models.harm import MANY_PEOPLE, MANY_RECORDS, NEW, NEW_USE, sensitivity
from models.signals import FLOW, OWNER
from stream.alert import Evidence
from stream.kept import Kept, below, outside, unknown

NONE, LIMITED, SERIOUS, SEVERE = range(4)
HARMS = ("none", "limited", "serious", "severe")
WEAK, FAIR, STRONG = range(3)
CONFIDENCES = ("low", "medium", "high")
SURE = 2.0  # times the threshold; the threshold is what ordinary life reaches now and then
PLAIN = 6.0  # bits that a threshold is taken for at the least: a small fleet's budget has room for what happens each day, and nobody is sure of that
ENOUGH = 3  # strange events that make an alert at the threshold
HALVES = 5  # events half as strange that count as one: a flood is a thousand of these
_LEVELS = {  # by harm and certainty: index into `stream.alert.SEVERITIES`
    NONE: (0, 0, 1),
    LIMITED: (0, 1, 2),
    SERIOUS: (1, 2, 2),
    SEVERE: (2, 3, 3),
}


def harm(kept: Kept, d: list[float], found: Sequence[Evidence], rungs: int) -> int:
    """What one event may mean, of a ladder with so many classes."""
    if kept.denied:
        return NONE
    sensitive = sensitivity(kept.rung, rungs)
    uncleared = below(kept)
    wrong = 2 if uncleared >= MANY_PEOPLE else 1 if uncleared else 0
    new = any(e.name in NEW_USE and e.bits >= NEW for e in found)
    unusual = new or any(e.kind == "recipient" and e.bits >= NEW for e in found)
    many = much(kept, rungs)
    if not wrong and kept.rung != 0 and outside(d) and unusual and not _answers(kept, d, sensitive, many=many):
        wrong = 1
    if not wrong:  # nothing left it: new use of what is most sensitive, or of what changes things; what is sensitive, to many who may not have been meant; or a hoard
        grave = sensitive == 2 or kept.event.action in {"delete", "grant"}
        spread = sensitive > 0 and unusual and unknown(kept) >= MANY_PEOPLE
        return LIMITED if (grave and new) or spread or (many and _far_more(found)) else NONE
    if kept.event.approved is True and not uncleared:  # a person answers for it
        return LIMITED
    return max(LIMITED, min(SEVERE, wrong + sensitive + many - (kept.event.approved is True)))


def _answers(kept: Kept, d: list[float], sensitive: int, *, many: bool) -> bool:
    """As `models.harm.answers`: a customer who is answered is a stranger outside each time."""
    strange = d[BITS + FLOW] >= NEW or d[BITS + OWNER] >= NEW
    if strange or many or sensitive == 2:
        return False
    return kept.event.principal is not None and {r.id for r in kept.event.recipients or ()} == {kept.event.principal}


def much(kept: Kept, rungs: int) -> bool:
    """Whether an event moved much of what is sensitive."""
    return sensitivity(kept.rung, rungs) > 0 and (kept.event.records or 0.0) >= MANY_RECORDS


def hoarded(kept: Kept, found: Sequence[Evidence], rungs: int) -> float:
    """Sensitive records that an event moved which moved far more than its agent does: a hoard is seldom one call."""
    sensitive = sensitivity(kept.rung, rungs) > 0 and not kept.denied
    return kept.event.records or 0.0 if sensitive and _far_more(found) else 0.0


def trespassed(kept: Kept, d: list[float], rungs: int) -> bool:
    """Whether an event touched something sensitive that had only been used for others, and such is rare for its agent: a harvest is many of these."""
    return sensitivity(kept.rung, rungs) > 0 and not kept.denied and d[PAID + OWNER] > 0 and d[BITS + OWNER] >= NEW


def _far_more(found: Sequence[Evidence]) -> bool:
    """Whether it moved far more than its agent does."""
    return any(e.kind == "volume" and e.bits >= NEW for e in found)


def judged(found: Sequence[Evidence]) -> bool:
    """Whether evidence is like what a person called malicious."""
    return any(e.name == "judged" for e in found)


def certainty(score: float, threshold: float, *, excused: bool, judged_malicious: bool = False) -> int:
    """How sure it is, by how far `score` is over `threshold`, both in bits; `excused` if the agent or its version is new, its peers do the same, a person approved it, or it hangs on the odd hour of one session; `judged_malicious` if it is like
    what a person called malicious, who has answered the question.

    That there were many strange events opens an alert and makes it no surer: ordinary days have many too.
    """
    if judged_malicious:
        return STRONG
    over = score / max(threshold, PLAIN)
    level = STRONG if over >= SURE else FAIR if over >= LONE else WEAK
    return max(WEAK, level - excused)


def severity(harm: int, certainty: int) -> int:
    """Index into `stream.alert.SEVERITIES`.

    >>> severity(SEVERE, FAIR), severity(NONE, STRONG)
    (3, 1)
    """
    return _LEVELS[harm][certainty]


def opens(over: float, events: int, harm: int) -> bool:
    """Whether an episode that has reached the threshold is an alert: a lone oddity that did no serious harm must be odder still.

    Ordinary life is full of single strange events, often two in a row; what goes wrong seldom stays at that.
    """
    return events >= ENOUGH or over >= LONE or harm >= SERIOUS
