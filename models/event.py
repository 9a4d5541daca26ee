"""What an event says, as facts: (attribute, context, value), each of which has a surprise (`models.facts`).

An attribute with several values (permissions, recipients) gives a fact for each; the largest surprise counts. Four are derived from
what is remembered: which data flow where, the tool before, and, as steps of a scale (`models.ordinal`), how close a recipient stands and whose resource it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models import parties, signals, vouching
from models import state as st
from models.batch import SESSION, Batch
from models.compiled import inline
from models.here import Facts, Here, Room
from models.table import Array, Key, find, mix

CLOSENESS, OWNER, UNVOUCHED = (
    x - signals.N_NAMED for x in (signals.CLOSENESS, signals.OWNER, signals.UNVOUCHED)
)  # the scales
ANOTHERS = 4  # the farthest step of an owner
CHANGED = np.uint64(741)  # with a root: what others have changed there after they had looked at it
APPROVED, REFUSED, UNTOLD = 1, 2, 3  # of an approval


@inline
def most(b: Batch, e: int) -> int:
    """How many facts event e can have: three for each recipient, one for each permission, and twelve others."""
    return int(12 + b.scope_at[e + 1] - b.scope_at[e] + 3 * (b.recipient_at[e + 1] - b.recipient_at[e]))


@inline
def say(f: Facts, q: int, attribute: int, context: Key, value: Key, entry: int, derived: float) -> int:
    """Put down fact q; the number of the next."""
    f.attribute[q], f.context[q], f.value[q], f.entry[q], f.derived[q] = attribute, context, value, entry, derived
    return q + 1


@inline
def facts_of(b: Batch, e: int, f: Facts, tool_before: Key) -> int:
    """Put down what event e says by itself; the number of facts."""
    q = say(f, 0, signals.TOOL, 0, b.tool.hash[e], e, 0.0)
    if b.action[e] != 0:
        q = say(f, q, signals.ACTION, b.tool.hash[e], b.action[e], e, 0.0)
    for j in range(b.scope_at[e], b.scope_at[e + 1]):
        q = say(f, q, signals.PERMISSION, 0, b.scope.hash[j], j, 0.0)
    if b.root[e] != 0:
        q = say(f, q, signals.ROOT, 0, b.root[e], e, 0.0)
        if b.branch[e] != 0:
            q = say(f, q, signals.BRANCH, 0, b.branch[e], e, 0.0)
        q = say(f, q, signals.RESOURCE, 0, b.resource.hash[e], e, 0.0)
    if b.classification.hash[e] != 0:
        q = say(f, q, signals.CLASSIFICATION, 0, b.classification.hash[e], e, 0.0)
    q = say(f, q, signals.TRANSITION, tool_before, b.tool.hash[e], e, 0.0)
    return say(f, q, signals.OUTCOME, 0, b.outcome[e], e, 0.0)


@inline
def fact_of_approval(b: Batch, e: int, q: int, f: Facts) -> int:
    """Put down whether a person approved a call, where it says so; the number of facts."""
    if b.approved[e] == UNTOLD:
        return q
    return say(f, q, signals.UNAPPROVED, b.tool.hash[e], np.uint64(b.approved[e]), e, 0.0)


@inline
def judged_in(session: Key, principal: Key, step: int, changes: bool) -> int:
    """Sixteen bits: 14 of the session, and for whom, in which it was last judged whose a resource is, whether it was another's, and whether it was changed."""
    return (
        int((mix(session, principal) & np.uint64(0x3FFF)) << np.uint64(2)) | int(step == ANOTHERS) << 1 | int(changes)
    )


@inline
def owner_of(a: st.Arrays, b: Batch, e: int, session: Key, w: Room) -> bool:
    """Put down, once a session and principal, and once more when it is changed after it was looked at, whose resource it is: 0 it bears the principal's name,
    1 it was first or last touched for them, 2 it is shared by more than two, 3 never seen, 4 another's. Whether there is any telling."""
    if b.principal.hash[e] == 0 or b.root[e] == 0 or (b.branch[e] == 0 and not b.in_path[e]):
        return False
    o, principal = find(a.owners, b.resource.hash[e]), np.uint32(b.principal.hash[e])
    before = int(a.owners[o].session) if o >= 0 else -1
    again = before >= 0 and before >> 2 == judged_in(session, b.principal.hash[e], 0, False) >> 2
    if again and (before & 1 or not b.changes[e]):
        return True
    w.step_of[OWNER] = b.root[e]
    w.step_above[OWNER] = mix(CHANGED, b.root[e]) if again else b.root[e]
    if again:  # what it was before this session: since then it was touched for this principal
        w.step[OWNER] = ANOTHERS if before & 2 else 0
    elif b.in_path[e]:
        w.step[OWNER] = 0
    elif o < 0:
        w.step[OWNER] = 3
    elif principal == a.owners[o].principal or principal == a.owners[o].last:
        w.step[OWNER] = 1
    else:
        w.step[OWNER] = 2 if a.owners[o].people > 2 else ANOTHERS
    return True


@inline
def facts_of_recipients(
    a: st.Arrays,
    b: Batch,
    e: int,
    q: int,
    own: Array,
    h: Here,
    w: Room,
) -> tuple[int, float]:
    """Put down who receives; the number of facts, and the policy value: 2 + 2·rungs + 2·log2(recipients below clearance), or 0."""
    below = short = 0
    rung = b.rung[e]
    f, detail = w.facts, w.detail
    for j in range(b.recipient_at[e], b.recipient_at[e + 1]):
        inside = 1 if parties.is_home(a.facts, own, b.under[j], b.home[e], h.fade) else 0
        q = say(f, q, signals.RECIPIENT, 0, b.recipient.hash[j], j, 0.0)
        if b.domain.hash[j] != 0:
            q = say(f, q, signals.DOMAIN, 0, b.domain.hash[j], j, 0.0)
        vouched = vouching.by_peers(a, b.recipient.hash[j], h)
        detail[SESSION + 2] += 0 if vouched else 1 - inside
        close = 0 if vouched else parties.closeness(a, h.agent, w.entity[2], b.recipient.hash[j], h.clock)
        if close > w.step[CLOSENESS]:
            w.step[CLOSENESS] = close
            w.step_place[CLOSENESS] = j - b.recipient_at[e]
        if not inside:
            far = vouching.step(a, b, e, b.recipient.hash[j], w.entity[2], h)
            if far > w.step[UNVOUCHED]:
                w.step[UNVOUCHED] = far
                w.step_place[UNVOUCHED] = j - b.recipient_at[e]
        q = say(f, q, signals.FLOW, 0, flow(rung, inside, b.kind[j]), j, inside)
        if 0 <= b.clearance[j] < rung:
            below += 1
            short = max(short, rung - b.clearance[j])
    return q, (2.0 + 2.0 * short + 2.0 * math.log2(below) if below else 0.0)


@inline
def flow(rung: int, inside: int, kind: Key) -> Key:
    """Number of a flow: of which class, out or, inside, to what type of recipient."""
    return mix(rung + 2, mix(inside, kind if inside else 0))


@inline
def place_in_list(b: Batch, e: int, attribute: int, entry: int) -> int:
    """Where in the event's own list a fact's entry stands."""
    if attribute == signals.PERMISSION:
        return int(entry - b.scope_at[e])
    if attribute in (signals.RECIPIENT, signals.DOMAIN, signals.FLOW):
        return int(entry - b.recipient_at[e])
    return 0


@inline
def spelling(b: Batch, e: int, attribute: int, entry: int) -> Any:
    """Buffer, first and last byte of a fact's name."""
    if attribute == signals.PERMISSION:
        return b.scope.buffer, b.scope.low[entry], b.scope.high[entry]
    if attribute == signals.ROOT:
        return b.resource.buffer, b.resource.low[e], b.root_high[e]
    if attribute == signals.BRANCH:
        return b.resource.buffer, b.resource.low[e], b.branch_high[e]
    if attribute == signals.CLASSIFICATION:
        return b.classification.buffer, b.classification.low[e], b.classification.high[e]
    if attribute == signals.RECIPIENT:
        return b.recipient.buffer, b.recipient.low[entry], b.recipient.high[entry]
    if attribute == signals.DOMAIN:
        return b.domain.buffer, b.domain.low[entry], b.domain.high[entry]
    return b.tool.buffer, b.tool.low[e], b.tool.high[e]
