"""What an episode is mostly about, where that is how much it moves or how often it calls: a harvest is one of many calls, of which none is the strangest.

The single strangest event in the middle of it may be a harmless mail. Who received it and what was touched is told by the event that shows it. What it
misses: a harvest with several tools, of which none makes half.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.signals import INDEX, SIGNALS
from stream.alert import Evidence
from stream.counterfactual import pays

ENOUGH = 5  # events
SHARE = 0.5  # of all bits
MOST = 64  # things that are told apart


def thing(e: Evidence) -> str:
    """What an item of evidence is about: who receives, what is touched; of amounts and calls which tool's."""
    return f"{SIGNALS[INDEX[e.name]].group} {e.baseline.get('tool', '')}".strip()


def add(story: dict[str, tuple[int, float]], found: Sequence[Evidence]) -> None:
    """Count an event's evidence: of each thing in how many events, and the bits."""
    for e in found:
        if e.name not in INDEX or (bits := pays(e)) <= 0:
            continue
        what = thing(e)
        if len(story) < MOST or what in story:
            events, sum_ = story.get(what, (0, 0.0))
            story[what] = events + 1, sum_ + bits


def main(story: dict[str, tuple[int, float]]) -> str | None:
    """The tool of which enough events have moved or called more than usual, and that is stranger than all else together; None where none is."""
    most = max(story, key=lambda k: (story[k][1], k), default=None)
    if (
        most is None
        or " " not in most
        or story[most][0] < ENOUGH
        or story[most][1] <= SHARE * sum(bits for _, bits in story.values())
    ):
        return None
    return most


def tells(found: Sequence[Evidence], what: str | None) -> bool:
    """Whether an event's evidence is of it."""
    return what is not None and any(e.name in INDEX and pays(e) > 0 and thing(e) == what for e in found)
