"""Events from files through the engine, with no broker: the path that the worker takes, and the tests.

One thread decodes batches and tells what they mean, another scores: compiled code, which does not hold the interpreter's lock. Three threads
would share two cores, and the slowest step, scoring, would get less than one.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

from models import profile
from models.budget import STEP, first_day
from models.schema import START
from stream.beginning import Kept
from stream.codec import Reject, decode, encode_lines, reject_line
from stream.engine import Engine, Ran, Scored
from stream.errors import InputError
from stream.files import Lines, Output, readable
from stream.foreign import MOST_FILES, others, told
from stream.heap import keep_freed
from stream.records import Records
from stream.settings import Settings
from stream.verdict import is_early, verdicts_in

log = structlog.get_logger()
MOST_REASONS = 1000  # that are told apart
FIRST_DAY = START / STEP  # bits from which an alert opens on a fleet's first day, at least
AHEAD = 3  # batches decoded before one is told of: what they mean takes unequal time, and scoring need not wait for it


class Summary(NamedTuple):
    """What a replay did."""

    events: int
    rejects: int
    commonest: str  # reason of a reject, in words; "" without any
    alerts: int
    messages: int
    late: int  # behind the stream's clock by more than ten minutes: scored all the same
    skewed: int  # ahead of it by more than a day, unconfirmed: scored at the clock
    repeated: int  # with an id that came before: scored, not learned again
    threshold: float  # bits from which an alert opens, at the end
    highest: float  # score in bits; 0 without events
    agents: int  # with a baseline
    warming: int  # of those, too young to be judged by their own past alone
    young: bool  # less than a day of the events' time was watched: of it few alerts are said (`models.budget`)
    verdicts: int  # heeded
    later: int  # verdicts of after the last event
    early: int  # verdicts heeded before the event that they are on had come: little or nothing follows from them
    strangers: tuple[str, ...]  # agents that verdicts are on, and no event is of
    unfit: int  # lines of the file of verdicts that are none
    why_unfit: str  # the first of those; "" without any
    looked: int  # events whose fields' names were looked at, a sample
    unknown: tuple[
        tuple[str, int], ...
    ]  # names that the contract does not have, with how many of those events have each
    foreign: tuple[
        str, ...
    ]  # lines to tell of files in which no line is an event: what is likely meant, and what mends it


def warn(scored: Scored) -> None:
    """Say what the operator may want to set differently."""
    for name in scored.unknown:
        log.warning(
            "a classification is not on the ladder and counts as unknown",
            classification=name,
            setting="STRAYLINE_CLASSIFICATIONS",
        )
    for name in scored.unknown_clearances:
        log.warning(
            "a recipient's clearance is not on the ladder and counts as unknown",
            clearance=name,
            setting="STRAYLINE_CLASSIFICATIONS",
        )


def scored(engine: Engine, batches: Iterable[tuple[int, Sequence[bytes | None]]]) -> Iterator[Scored]:
    """Score batches of (number of the first record, records). While one runs, others are decoded, and told of."""
    running: deque[Future[Ran]] = deque()
    with ThreadPoolExecutor(1, "score") as pool:
        cut: InputError | None = None
        try:
            for first, records in batches:
                running.append(pool.submit(engine.run, engine.decode(records, range(first, first + len(records)))))
                if len(running) > AHEAD:
                    yield engine.tell(running.popleft().result())
        except InputError as error:  # the file is cut short, what was read of it is not
            cut = error
        while running:
            yield engine.tell(running.popleft().result())
        if cut:
            raise cut


def replay(
    settings: Settings,
    paths: Sequence[str],
    scores: str | None,
    alerts: str | None,
    rejects: str | None,
    tick: Callable[[Lines], None] = lambda _: None,
    verdicts: str | None = None,
) -> tuple[Engine, Summary]:
    """Read files of events in the order given and write what the engine says of them.

    Raises `InputError` (what was read is scored and written all the same) and `OutputError` (nothing is written).
    """
    for path in paths:  # a name mistyped must not cost the results of the run before
        readable(path)
    engine = Engine(settings)
    unfit: list[Reject] = []
    if verdicts:
        engine.verdicts, unfit = verdicts_in(verdicts)
    given = tuple(engine.verdicts)
    outputs: list[Output] = []
    events = opened = messages = 0
    refused = strange = 0
    reasons: Counter[str] = Counter()
    highest = 0.0
    foreign: list[str] = []
    failed: InputError | None = None
    keep_freed()
    gc.freeze()  # decoding makes millions of small objects and no cycles
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(0.00005)  # the threads hand over once a batch, and should not wait 5 ms for it
    try:
        # One by one: those before one that cannot be opened are discarded.
        outputs.extend(Output(path) for path in (scores, alerts, rejects))
        outputs[2].write(b"".join(reject_line(r, verdicts or "") + b"\n" for r in unfit))
        for path in paths:
            before, had = refused - events, events
            kept = Kept()
            try:
                with Lines(path) as lines:
                    for done in scored(engine, _ticking(lines, tick)):
                        warn(done)
                        if scores:
                            outputs[0].write(done.lines())
                        outputs[1].write(encode_lines(done.alerts))
                        if rejects:
                            outputs[2].write(
                                b"".join(
                                    reject_line(r, path, whole=lines.cut.get(r.position)) + b"\n" for r in done.rejects
                                )
                            )
                        events += len(done.events)
                        refused += len(done.rejects)
                        reasons.update(
                            r.detail for r in done.rejects if r.detail in reasons or len(reasons) < MOST_REASONS
                        )
                        messages += len(done.alerts)
                        opened += sum(a.revision == 1 for a in done.alerts)
                        highest = max(highest, float(done.score.max(initial=0.0)))
                        kept.add(r.raw for r in done.rejects if r.reason != "empty")
            except InputError as error:
                failed = error
                break
            first = kept.raws[0] if kept.raws else b""
            # Whole files only, and no count of any one reason: most lines of a folded event are valid JSON, but no event.
            folded = refused - events > before and (first == b"{" or first.startswith(b"["))
            if first and (folded or events == had):
                strange += 1
                foreign += told(path, kept, events=events > had) if strange <= MOST_FILES else []
        for output in outputs:
            output.flush()
        for output in outputs:
            output.keep()
    finally:
        for output in outputs:
            output.discard()
        gc.unfreeze()
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()
    if failed:
        raise failed
    heeded = given[: len(given) - len(engine.verdicts)]
    fleet = engine.state.fleet
    marked = (int(fleet["late"]), int(fleet["skewed"]), int(fleet["repeated"]))
    return engine, Summary(
        events,
        refused,
        reasons.most_common(1)[0][0] if reasons else "",
        opened,
        messages,
        *marked,
        threshold=engine.threshold,
        highest=highest,
        agents=int(engine.state["agents"].tally[0]),
        warming=engine.warming,
        young=first_day(engine.state["fleet"].head, 1.0 / profile.fade(engine.state)),
        verdicts=len(heeded),
        later=len(engine.verdicts),
        early=sum(map(is_early, heeded)),
        strangers=tuple(dict.fromkeys(v.agent_id for v in heeded if not engine.knows(v.agent_id))),
        unfit=len(unfit),
        why_unfit=f"line {unfit[0].position:,}: {unfit[0].detail}" if unfit else "",
        looked=engine.fields.looked,
        unknown=tuple(engine.fields.unknown.most_common()),
        foreign=(*foreign, *others(strange - MOST_FILES)),
    )


def agents_in(settings: Settings, files: Sequence[str]) -> set[str]:
    """Whose events are in files that can be read a second time: only where a name is not known is it worth that."""
    found: set[str] = set()
    for path in files:
        if Path(path).is_file():
            with Lines(path) as lines:
                for first, batch in lines:
                    events, _, _ = decode(batch, range(first, first + len(batch)), settings.max_event_bytes)
                    found.update(event.agent_id for event in events)
    return found


def _ticking(lines: Lines, tick: Callable[[Lines], None]) -> Iterator[tuple[int, Records]]:
    for batch in lines:
        yield batch
        tick(lines)
