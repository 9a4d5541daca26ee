"""Whether an event may have done serious harm, by its numbers alone: the budget counts it before a person reads of it.

`stream.severity.harm` says how bad it is, and heeds a person's approval, which this does not see.
"""

from __future__ import annotations

from models import batch as col
from models import signals
from models.batch import Batch
from models.compiled import inline, njit
from models.table import Array

MANY_PEOPLE, MANY_RECORDS = 20, 1000
NEW = 6.0  # bits

NEW_USE = (
    "tool",
    "permission",
    "root",
    "branch",
    "classification",
    "action",
)  # whose a resource is says nothing of who got it
TELLS = tuple(i for i, s in enumerate(signals.SIGNALS) if s.kind == "recipient" or s.name in NEW_USE)


@njit
def sensitivity(rung: int, rungs: int) -> int:
    """2 where data is of the highest class of a ladder with so many, 1 of its upper half, else 0."""
    return 2 if rung == rungs - 1 else 1 if 2 * rung >= rungs else 0


@inline
def answers(b: Batch, e: int, detail: Array, much: bool) -> bool:
    """Whether whoever it acts for got, alone, what they may well have asked for: not of the highest class, not much of it, nothing that had been for others, and as its agent sends such data out every day."""
    others = 0
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        others += b.recipient.hash[j] != b.principal.hash[e]
    strange = detail[col.BITS + signals.FLOW] >= NEW or detail[col.BITS + signals.OWNER] >= NEW
    return bool(b.principal.hash[e] != 0 and b.sensitive[e] < 2 and not (much or others > 0 or strange))


@inline
def serious(b: Batch, e: int, detail: Array) -> bool:
    """Whether what is sensitive reached eyes that it should not: without the clearance, or outside and newly so."""
    if b.denied[e]:
        return False
    rung = b.rung[e]
    sensitive = b.sensitive[e]
    people = 0.0
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        if 0 <= b.clearance[j] < rung:
            people += b.size[j]
    wrong = 2 if people >= MANY_PEOPLE else 1 if people > 0 else 0
    much = sensitive > 0 and b.records[e] >= MANY_RECORDS
    if wrong == 0 and detail[col.SESSION + 2] > 0 and not answers(b, e, detail, much):
        for k in TELLS:
            if detail[col.PAID + k] > 0 and detail[col.BITS + k] >= NEW:
                wrong = 1
    if wrong == 0:
        return False
    return bool(wrong + sensitive + (1 if much else 0) >= 2)
