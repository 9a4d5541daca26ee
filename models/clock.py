"""The stream's clock: event time that only goes forward, and that one broken clock cannot carry away.

An event up to a day ahead moves the clock to itself. One further ahead is *skewed*: it is scored at the present clock, and
the clock moves only when another agent's event confirms the time (one with ten events or more), or the third in a row where there is only one agent, or the twentieth
in a row of one of ten events or more, over eight hours of their own time: whoever goes on alone must not be judged by a clock that stands. How long the fleet was silent is
remembered (the longest, a tenth less with each silence since): within a quarter more than that the third in a row is enough, so that who is the first on a Monday waits for nobody. Where there is only one agent, there is nobody
to ask: a gap of up to twice what its working days lie apart in the mean is no surprise, so who works once a week is not doubted each week. An event more
than ten minutes behind is *late*: scored and learned at the present clock, and marked.

Among the first twenty events the clock may also go back: a broken clock must not become the stream's for being first.

What it misses: a clock that creeps ahead by less than a day at a time; two agents of standing that agree on a wrong time, or one of them, over hours, while all others are silent.
"""

from __future__ import annotations

from models import parties, schema
from models import state as st
from models.batch import LATE, SKEWED
from models.compiled import inline
from models.table import Key, find

DAY = 86400.0
TOLERANCE = 600.0
CONFIRM, ALONE, HOURS_ALONE = 3, 20, 8 * 3600.0
KNOWN = 10  # events: names can be made up, histories cannot
SETTLE = 20
LONGER, FORGETS = 1.25, 0.9  # than the longest silence; of it with each that follows
GAPS = 2.0  # mean gaps between the working days of an agent alone that surprise nobody
_AGENTS = schema.TABLES.index("agents")


@inline
def weekend(time: float) -> bool:
    """Whether a time is on a Saturday or Sunday, UTC."""
    return int(time // DAY + 3) % 7 >= 5


@inline
def _apart(a: st.Arrays, agent: Key) -> float:
    """Seconds that an agent's working days lie apart, in the mean since the fleet began; 0 before its first one ended."""
    i = find(a.levels, parties.entity_of(a, agent))
    f = a.fleet[0]
    return (f.clock - f.since) / a.levels[i].n if i >= 0 and a.levels[i].n > 0 else 0.0


@inline
def advance(a: st.Arrays, time: float, agent: Key, known: bool) -> int:
    """Move the clock for an event of an agent, `known` if it has a history; its mark (0, LATE or SKEWED)."""
    fleet = a.fleet
    f = fleet[0]
    if f.events == 0 or (f.events < SETTLE and f.clock - time > DAY):
        if f.events > 0 or f.begin == 0.0:  # else it is that of what other partitions have given
            fleet[0].begin = fleet[0].since = time
        fleet[0].clock = time
        return 0
    only = a.tally[_AGENTS, 0] <= 1
    if time <= f.clock + DAY or (only and time <= f.clock + GAPS * _apart(a, agent)):
        fleet[0].ahead = 0.0
        if time > f.clock:
            fleet[0].clock = time
        elif f.clock - time > TOLERANCE:
            fleet[0].late += 1
            return LATE
        return 0
    if f.ahead > 0 and time >= f.ahead - DAY:
        another = agent != f.doubted
        fleet[0].times = CONFIRM if another else f.times + 1
        row = fleet[0].times >= CONFIRM
        alone = fleet[0].times >= ALONE and time - f.ahead_from >= HOURS_ALONE
        as_before = row and time <= f.clock + LONGER * f.silence
        lone = only and row
        if (known and (another or alone or as_before)) or lone:
            if another or alone:  # else who goes on alone would lengthen it each time
                fleet[0].silence = max(f.ahead_from - f.clock, FORGETS * f.silence)
            if lone or time - f.ahead <= DAY:
                fleet[0].clock = time
                fleet[0].ahead = 0.0
                return 0
            fleet[0].clock = f.ahead
    else:
        fleet[0].times = 1
        fleet[0].ahead_from = time
    fleet[0].ahead = time
    fleet[0].doubted = agent
    fleet[0].skewed += 1
    return SKEWED
