"""What is remembered: the same wherever batches are cut, the same after a restart, bounded, and fading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import REPEATED
from models.clock import CONFIRM, SETTLE
from models.piece import COUNTED, HEADER, PART, SAME, unpack
from models.schema import LAYOUTS, TABLES
from models.state import FEW, State
from models.table import find
from stream.codec import AccessEvent, Recipient, decode
from stream.simulate import lines, simulate
from tests import shared
from tests.looped import DAY, MIB, PER_EVENT, START, Run, read
from tests.shared import rows

SEEDS = (3, 4)

few = settings(shared.few, max_examples=15)


class Events(list[AccessEvent]):
    """Events whose text is short: a failing test prints its arguments."""

    def __repr__(self) -> str:
        return f"{len(self)} events"


def pages(state: State) -> list[bytes]:
    """The whole state; what holds for all agents is in every delta instead."""
    return [piece for page in state.pages() for piece in state.page(*page)] + state.delta()


def restored(pieces: Sequence[bytes]) -> Run:
    run = Run()
    for piece in pieces:
        run.state.apply(piece)
    return run


@pytest.fixture(scope="module", params=SEEDS)
def fleet(request: pytest.FixtureRequest) -> list[AccessEvent]:
    """Ten days of twelve agents; some late, some with a broken clock, some said twice."""
    events, _, rejects = decode(list(lines(simulate(request.param, agents=12, days=10))), range(1 << 20), 1 << 20)
    assert not rejects
    rng = np.random.default_rng(request.param)
    for i in rng.choice(len(events) - 100, 60, replace=False) + 50:
        events[i], events[i + 40] = events[i + 40], events[i]
    for i in rng.choice(len(events), 20, replace=False):
        events[i] = msgspec.structs.replace(events[i], time=START + 900 * DAY)
    for i in sorted(rng.choice(len(events), 60, replace=False), reverse=True):
        events.insert(i + 1, events[i])
    return Events(events)


@pytest.fixture(scope="module")
def whole(fleet) -> Run:
    return Run().feed(fleet)


# Cuts and restarts.


@few
@given(data=st.data())
def test_cuts_between_batches_change_neither_scores_nor_state(fleet, whole, data):
    """Kafka cuts batches where it likes; replay and worker must agree to the last bit."""
    cuts = data.draw(st.sets(st.integers(1, len(fleet) - 1), max_size=30))
    run = Run()
    for a, b in pairwise(sorted(cuts | {0, len(fleet)})):
        run.feed(fleet[a:b])
    assert run.same_as(whole)
    assert rows(run.state) == rows(whole.state)


def test_events_one_by_one_are_the_batch(fleet):
    """The smallest cut there is."""
    run = Run()
    for event in fleet[:500]:
        run.feed([event])
    whole = Run().feed(fleet[:500])
    assert run.same_as(whole)
    assert rows(run.state) == rows(whole.state)


@few
@given(end=st.integers(1, 3000), tail=st.integers(0, 500))
def test_an_event_is_scored_by_what_came_before_it(fleet, whole, end, tail):
    """Nothing that follows, in its batch or later, can change its score."""
    run = Run().feed(fleet[:end])
    assert all(run[name].tobytes() == whole[name][:end].tobytes() for name in PER_EVENT)
    strange = [read(i, START + 5 * DAY, tool="drop", bytes=1e12) for i in range(tail)]
    other = Run().feed(fleet[:end] + strange)
    assert all(other[name][:end].tobytes() == run[name].tobytes() for name in PER_EVENT)


@few
@given(data=st.data())
def test_the_deltas_in_order_are_the_state(fleet, whole, data):
    """A worker that takes over from the changelog goes on as if nothing had happened."""
    end = len(fleet) - 600
    cuts = data.draw(st.sets(st.integers(1, end - 1), max_size=12))
    first, pieces = Run(), []
    for a, b in pairwise(sorted(cuts | {0, end})):
        first.feed(fleet[a:b])
        pieces += first.state.delta()
    assert first.state.delta() == first.state.delta()
    second = restored(pieces)
    assert rows(second.state) == rows(first.state)
    assert second.state.nbytes == first.state.nbytes
    second.feed(fleet[end:])
    assert all(second[name].tobytes() == whole[name][end:].tobytes() for name in PER_EVENT)
    assert rows(second.state) == rows(whole.state)


@few
@given(end=st.integers(1, 3000), follow=st.integers(0, 1500))
def test_the_pages_of_a_moment_and_the_deltas_since_are_the_state(fleet, end, follow):
    """A compacted changelog holds old pages and newer changes."""
    first = Run().feed(fleet[:end])
    first.state.delta()
    pieces = pages(first.state)
    assert rows(restored(pieces).state) == rows(first.state)
    for at in range(end, end + follow, 400):
        first.feed(fleet[at : min(at + 400, end + follow)])
        pieces += first.state.delta()
    second = restored(pieces)
    assert rows(second.state) == rows(first.state)
    rest = fleet[end + follow : end + follow + 400]
    second.feed(rest)
    first.feed(rest)
    assert second["score"].tobytes() == first["score"][-len(rest) :].tobytes()


def test_a_page_from_before_a_table_grew_is_as_good(fleet):
    """Rows stay where they are: what was written of them before holds until they change."""
    first = Run().feed(fleet[:300])
    pieces = pages(first.state)
    grown = []
    fleet = Events([*fleet, *flood(3_000, 1_000_000)])
    for at in range(300, len(fleet), 300):
        before = [len(t.head) for t in first.state.tables]
        first.feed(fleet[at : at + 300])
        grown += [n for n, t in zip(before, first.state.tables, strict=True) if len(t.head) > n]
        pieces += first.state.delta()
    assert grown
    assert rows(restored(pieces).state) == rows(first.state)


def test_what_did_not_change_is_not_written(fleet):
    """Writing everything at every commit would be the cost of the whole state."""
    run = Run().feed(fleet)
    everything = sum(map(len, run.state.delta()))
    again = sum(map(len, run.feed([fleet[-1]]).state.delta()))
    assert 0 < again < everything / 20


def test_of_a_row_only_what_changed_is_written(fleet):
    """A count and not the doubt beside it, the new names of a ring and not all: an agent at work changes a hundred rows a flush."""
    run = Run().feed(fleet[:-300])
    run.state.delta()
    run.feed(fleet[-300:])
    sizes = {t.layout.name: t.row_bytes for t in run.state.tables}
    found: Counter[tuple[str, int]] = Counter()
    written, whole = 0, 0
    for piece in run.state.delta():
        which, kind, *_, n, _ = HEADER.unpack_from(piece)
        found[TABLES[which], kind] += n
        if kind in (COUNTED, PART):
            written += len(piece)
            whole += n * sizes[TABLES[which]]
    assert found["facts", COUNTED] > 2 * found["facts", SAME] > 0
    for name in ("tails", "contacts", "profiles"):
        assert found[name, PART] > found[name, SAME], name
    assert written < whole / 2


# Bounds.


def flood(n: int, start: int = 0, same: bool = False) -> list[AccessEvent]:
    """Events in each of which everything is new."""
    return [
        AccessEvent(
            f"e{i}",
            START + (0 if same else i),
            f"agent-{i}",
            "send",
            agent_type=f"type-{i}",
            principal=f"p@x{i}.example",
            session_id=f"s{i}",
            tool=f"tool-{i}",
            resource=f"a{i}/b{i}/c{i}",
            scopes=(f"scope-{i}",),
            bytes=float(i),
            records=1.0,
            recipients=(Recipient(f"r{i}@d{i}.example"),),
        )
        for i in range(start, start + n)
    ]


@pytest.mark.parametrize("same", [False, True], ids=["in time", "all at once"])
def test_a_flood_of_new_names_stays_within_the_memory_and_is_counted(same):
    """Whoever can send events can invent names without end."""
    run = Run()
    for at in range(0, 100_000, 10_000):
        run.feed(flood(10_000, at, same))
        assert run.state.nbytes <= MIB << 20
    assert np.isfinite(run["score"]).all()
    for name in ("facts", "amounts", "agents", "owners", "contacts"):
        t = run.state[name]
        assert len(t.head) == t.largest
        assert t.tally[0] == t.largest
        assert t.tally[1] > 40_000
    for t in run.state.tables[:-2]:
        used = np.flatnonzero(t.head["key"])
        keys = t.head["key"][used]
        assert len(used) == t.tally[0] <= len(t.head)
        assert len(np.unique(keys)) == len(keys), t.layout.name
        assert all(find(t.head, key) == slot for key, slot in zip(keys[:2000], used[:2000], strict=True))
        assert not np.delete(t.head, used).tobytes().strip(b"\0"), t.layout.name


def test_what_is_used_survives_a_flood():
    """The least used gives way: thirty thousand strangers do not make an agent forget its tools."""
    reads = [read(i, START + i * 600, bytes=1000.0, session_id=f"s{i // 5}") for i in range(501)]
    run = Run().feed(reads[:-1])
    usual = float(run["own"][-1])
    run.feed(flood(30_000, 400_000))
    after = float(run.feed(reads[-1:])["own"][-1])
    assert after <= usual + 3


@pytest.mark.parametrize(
    "recipients",
    [
        10,
        999,
        5000,
    ],
)
def test_an_event_with_many_recipients_is_scored(recipients):
    """The contract allows 65536; each needs room in several tables at once."""
    many = tuple(Recipient(f"r{i}@d.example") for i in range(recipients))
    run = Run(State(256)).feed([read(0, START), read(1, START + 1, recipients=many), read(2, START + 2)])
    assert np.isfinite(run["score"]).all()


def test_rows_unused_for_long_go_when_a_table_fills_up():
    """Sessions of last month make room before the table grows beyond a few."""
    run = Run(State(512)).feed([read(i, START + i * 7200, session_id=f"s{i}") for i in range(2 * FEW)])
    t = run.state["sessions"]
    assert len(t.head) == FEW
    assert t.tally[1] == 0
    assert t.head["w"][t.head["key"] != 0].min() > START + FEW / 2 * 7200
    busy = Run().feed([read(i, START + i, session_id=f"s{i}") for i in range(2000)])
    assert busy.state["sessions"].tally[0] == 2000


def test_a_table_that_fills_up_keeps_what_counts():
    """How often of late, calls of this session, what is new in this sitting: all that happened within half an hour."""
    run = Run().feed([read(i, START + i * 25, session_id="s", resource=f"crm/customers/{i}") for i in range(60)])
    for table in ("calls", "sessions"):
        before = run.state[table].tally[0]
        run.state.grow(TABLES.index(table))
        assert run.state[table].tally[0] == before > 0


def test_a_growth_that_empties_a_table_reaches_the_changelog():
    """Otherwise rows that are gone here come back after a restart."""
    first = Run().feed([read(i, START + i, session_id=f"s{i}") for i in range(300)])
    pieces = first.state.delta()
    first.state.fleet["clock"] += 30 * DAY
    first.state.grow(TABLES.index("sessions"))
    assert first.state["sessions"].tally[0] == 0
    pieces += first.state.delta()
    assert rows(restored(pieces).state) == rows(first.state)


# Fading.


def habits(days: int, pause: float, scopes: Sequence[str]) -> list[AccessEvent]:
    """Months of ordinary days, then only reading for a while, then one last use of the scopes."""
    events = [read(i, START + i * DAY / 4, scopes=("crm:read",)) for i in range(4 * days)]
    for i in range(0, len(events), 4):
        events[i] = msgspec.structs.replace(events[i], scopes=tuple(scopes))
    at = START + days * DAY
    steps = int(pause / (DAY / 4))
    events += [read(4 * days + i, at + i * DAY / 4, scopes=("crm:read",)) for i in range(steps)]
    return [*events, read(len(events), at + pause, scopes=tuple(scopes))]


def test_a_scope_unused_for_months_becomes_strange_again():
    """A permission that lies dormant is what an intruder finds first."""
    own = [
        float(Run().feed(habits(60, pause, ["crm:admin"]))["own"][-1])
        for pause in (DAY / 4, 60 * DAY, 240 * DAY, 720 * DAY)
    ]
    never = [*habits(60, 60 * DAY, ["crm:read"])[:-1], read(10**6, START + 120 * DAY, scopes=("crm:admin",))]
    assert own == sorted(own)
    assert own[0] + 3 < own[2]
    assert own[1] < float(Run().feed(never)["own"][-1])


def test_facts_unused_for_a_year_are_dropped_on_growth():
    """What nobody has touched for six half-lives takes no room."""
    run = Run().feed([read(i, START + i, resource=f"old/{i}") for i in range(2000)])
    for days, least, most in ((300, 0.9, 1), (420, 0, 0.1)):
        run.feed([read(10**6 + days * 10 + i, START + days * DAY + i) for i in range(5)])
        before = int(run.state["facts"].tally[0])
        run.state.grow(TABLES.index("facts"))
        assert before * least <= run.state["facts"].tally[0] <= before * most
    assert np.isfinite(run.feed([read(10**7, START + 420 * DAY)])["score"]).all()


@few
@given(cut=st.integers(1, 3000))
def test_moving_the_landmark_changes_no_score(fleet, whole, cut):
    """Weights are relative to a landmark; which one it is must not show."""
    run = Run().feed(fleet[:cut])
    run.state.rescale()
    run.feed(fleet[cut:])
    for name in ("score", "own", "parts", "threshold"):
        np.testing.assert_allclose(run[name], whole[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert (run["marks"] == whole["marks"]).all()


def test_the_landmark_moves_by_itself_before_a_weight_overflows():
    """After thirty years of events everything still holds, and what is usual still is."""
    years, n = 30, 24_000
    step = years * 365 * DAY / n
    run = Run().feed([read(i, START + i * step, scopes=("crm:read",), bytes=1000.0) for i in range(n)])
    assert run.state.fleet["begin"] > START + (years - 11) * 365 * DAY
    assert np.isfinite(run["score"]).all()
    assert run["score"][-100:].max() < 5
    assert run.state["facts"].head["w"].max() < 1e30
    strange = run.feed([read(n, START + n * step, tool="crm.drop", scopes=("crm:admin",))])
    assert strange["score"][-1] > 5


@pytest.mark.parametrize("years", [12, 40, 900])
def test_moving_the_landmark_does_not_count_an_event_twice(years):
    """The loop asks for it in the middle of an event, and begins that event again."""

    def clock_of(first: float) -> Run:
        run = Run().feed([read(i, START + first + i, f"bot-{i % 2}") for i in range(2 * SETTLE)])
        ahead = START + years * 365 * DAY
        return run.feed([read(100 + i, ahead + i * 40 * DAY, f"bot-{i % 2}") for i in range(CONFIRM)])

    far, near = clock_of(0), clock_of(years * 365 * DAY - 300 * DAY)
    assert far["marks"][-CONFIRM:].tolist() == near["marks"][-CONFIRM:].tolist()
    assert far.state.fleet["skewed"] == near.state.fleet["skewed"]
    assert far.state.fleet["clock"] == near.state.fleet["clock"]


# Bytes that are not ours.


@pytest.fixture(scope="module")
def packed(fleet) -> bytes:
    return b"".join(Run().feed(fleet[:300]).state.delta())


def refused(data: bytes) -> bool:
    """Whether a fresh state refuses these bytes; it must then be as fresh as before, and any other error is a fault."""
    state, fresh = State(MIB), rows(State(MIB))
    try:
        state.apply(data)
    except ValueError:
        assert rows(state) == fresh
        return True
    assert state.nbytes <= MIB << 20
    return False


def headers(data: bytes) -> list[int]:
    """Where the pieces of a delta begin."""
    out, at = [], 0
    while at < len(data):
        out.append(at)
        which, kind, *_, n, least = HEADER.unpack_from(data, at)
        layout = LAYOUTS[which]
        at = unpack(data, at + HEADER.size, kind, n, least, np.dtype(layout.fields), layout.body)[1]
    return out


@few
@given(cut=st.integers(1, 1 << 30))
def test_bytes_cut_short_are_refused(packed, cut):
    """Half a record must not become half a baseline."""
    cut %= len(packed)
    if cut and cut not in headers(packed):
        assert refused(packed[:cut])


@settings(few, max_examples=150)
@given(piece=st.integers(0, 99), place=st.integers(0, HEADER.size - 1), bit=st.integers(0, 7))
def test_a_damaged_header_is_refused_or_harmless(packed, piece, place, bit):
    """A count, a size or a slot that is wrong must not read or write anywhere else."""
    data = bytearray(packed)
    at = headers(packed)
    data[at[piece % len(at)] + place] ^= 1 << bit
    refused(bytes(data))


@settings(few, max_examples=150)
@given(
    st.binary(max_size=400)
    | st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=24).map(lambda x: np.array(x, "<i8").tobytes())
)
def test_any_bytes_are_applied_or_refused(data):
    """Nothing but a ValueError, whatever was stored."""
    refused(data)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, -1), (0, len(LAYOUTS)), (1, -1), (1, 7), (2, -8), (2, 0), (2, 1000), (2, 1 << 31), (2, 1 << 62), (3, -1), (3, 1 << 40), (4, -1), (5, -1), (5, 1 << 31), (6, -1), (6, -(1 << 40)), (6, 1 << 62)],
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused(packed, place, value):
    """Each of its numbers, below and above."""
    data = bytearray(packed)
    data[8 * place : 8 * place + 8] = np.array([value], "<i8").tobytes()
    assert refused(bytes(data))


def test_a_slot_out_of_range_is_refused(packed):
    """It would be another row's, or nobody's, memory."""
    _, kind, rows, *_, n, least = HEADER.unpack_from(packed)
    layout = LAYOUTS[0]
    slot = int(unpack(packed, HEADER.size, kind, n, least, np.dtype(layout.fields), layout.body)[0].slots[-1])
    last = HEADER.size + n - 1  # the slots are distances, lowest bytes first
    for plane in range(4):
        data = bytearray(packed)
        before, data[last + plane * n] = data[last + plane * n], 255
        assert refused(bytes(data)) == (slot + ((255 - before) << 8 * plane) >= rows), plane


# Repeats.


def test_a_repeated_event_is_scored_and_marked_and_not_learned(fleet):
    """At-least-once delivery must not make an incident look usual."""
    plain = fleet[:800]
    run = Run().feed(plain)
    seen = Run().feed(plain)
    seen.feed(plain[-1:] * 50)
    assert (seen["marks"][800:] & REPEATED > 0).all()
    assert (seen["own"][800:] == seen["own"][800]).all()
    assert seen.state.fleet["repeated"] == run.state.fleet["repeated"] + 50
    for name in ("facts", "amounts", "tails", "owners", "contacts", "levels", "recent", "calls"):
        assert rows(seen.state)[name][2:4] == rows(run.state)[name][2:4], name
    rest = fleet[800:1600]
    run.feed(rest)
    seen.feed(rest)
    assert seen["score"][850:].tobytes() == run["score"][800:].tobytes()
