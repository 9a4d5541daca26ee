"""Events from files through the engine, with no broker: the path that the worker takes, and the tests.

The next batch is read and decoded while the compiled loop, which does not hold the interpreter's lock, scores this one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import structlog

from stream.codec import encode_lines, reject_line
from stream.engine import Decoded, Engine, Scored
from stream.errors import InputError
from stream.files import Lines, Output
from stream.settings import Settings

log = structlog.get_logger()


class Summary(NamedTuple):
    """What a replay did."""

    events: int
    rejects: int
    alerts: int
    messages: int


def scored(engine: Engine, batches: Iterable[tuple[int, Sequence[bytes]]]) -> Iterator[Scored]:
    """Score batches of (number of the first record, records), each decoded while the one before is scored."""
    with ThreadPoolExecutor(1, "score") as pool:
        pending = None
        for first, records in batches:
            decoded: Decoded = engine.decode(records, range(first, first + len(records)))
            for name in engine.unknown_classifications(decoded):
                log.warning(
                    "a classification is not on the ladder and counts as unknown",
                    classification=name,
                    setting="STRAYLINE_CLASSIFICATIONS",
                )
            done = pending.result() if pending else None
            pending = pool.submit(engine.score, decoded)
            if done:
                yield done
        if pending:
            yield pending.result()


def replay(
    settings: Settings,
    paths: Sequence[str],
    scores: str | None,
    alerts: str | None,
    rejects: str | None,
    tick: Callable[[Lines], None] = lambda _: None,
) -> tuple[Engine, Summary]:
    """Read files of events in the order given and write what the engine says of them.

    Raises `InputError` (what was read is scored and written all the same) and `OutputError` (nothing is written).
    """
    engine = Engine(settings)
    outputs = [Output(path) for path in (scores, alerts, rejects)]
    events = refused = opened = messages = 0
    failed: InputError | None = None
    gc.freeze()  # decoding makes millions of small objects and no cycles
    collecting = gc.isenabled()
    gc.disable()
    try:
        for path in paths:
            try:
                with Lines(path) as lines:
                    for done in scored(engine, _ticking(lines, tick)):
                        if scores:
                            outputs[0].write(encode_lines(done.lines()))
                        outputs[1].write(encode_lines(done.alerts))
                        if rejects:
                            outputs[2].write(b"".join(reject_line(r, path) + b"\n" for r in done.rejects))
                        events += len(done.events)
                        refused += len(done.rejects)
                        messages += len(done.alerts)
                        opened += sum(a.revision == 1 for a in done.alerts)
            except InputError as error:
                failed = error
                break
        for output in outputs:
            output.keep()
    finally:
        for output in outputs:
            output.discard()
        gc.unfreeze()
        if collecting:
            gc.enable()
    if failed:
        raise failed
    return engine, Summary(events, refused, opened, messages)


def _ticking(lines: Lines, tick: Callable[[Lines], None]) -> Iterator[tuple[int, list[bytes]]]:
    for batch in lines:
        yield batch
        tick(lines)
