"""Any detector of `river.anomaly` over each agent's window features, as one more signal that can be switched on.

The features are an agent's calls, bytes, records, recipients, denials and bits of novelty, each summed with a decay of an
hour, on a log scale, brought to 0..1 by River's MinMaxScaler. One detector an agent; its raw score becomes bits through a
streaming tail of the fleet's raw scores, so any detector's scale will do. Off by default: `make bench` prints what it is worth and what it costs.

What it misses: a River detector is an object and not a row, so it is not stored; after a restart it warms up again.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Sequence

from river import anomaly, base, compose, preprocessing

from models.levels import FEATURES
from models.tails import Exceedance

WEIGHT, DEAD = 0.4, 3.0
MOST_AGENTS = 10_000


def names() -> list[str]:
    """Detectors of `river.anomaly` that learn without labels and without parameters."""
    return [n for n in anomaly.__all__ if _usable(getattr(anomaly, n, None))]


def _usable(kind: object) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, base.AnomalyDetector)):
        return False
    try:
        kind()
    except TypeError:
        return False
    return True


class WindowDetector:
    """One River detector an agent.

    Parameters
    ----------
    name
        One of `names()`.

    Raises `ValueError` for another name.
    """

    def __init__(self, name: str) -> None:
        if name not in names():
            raise ValueError(f"river.anomaly has no {name!r} that can be used here; there are {', '.join(names())}")
        self.kind = getattr(anomaly, name)
        # Unseeded trees would give other bytes at every run.
        self._seeded = {"seed": 1} if "seed" in inspect.signature(self.kind).parameters else {}
        self.tail = Exceedance()
        self._of: OrderedDict[int, compose.Pipeline] = OrderedDict()

    def forget(self, agent: int) -> None:
        """Begin anew with an agent."""
        self._of.pop(agent, None)

    def pay(self, agent: int, sums: Sequence[float]) -> float:
        """Score an agent's present window, then learn it; what the signal pays, in bits."""
        model = self._of.get(agent)
        if model is None:
            model = compose.Pipeline(preprocessing.MinMaxScaler(), self.kind(**self._seeded))
            if len(self._of) >= MOST_AGENTS:
                self._of.popitem(last=False)
            self._of[agent] = model
        self._of.move_to_end(agent)
        x = {name: math.log1p(value) for name, value in zip(FEATURES, sums, strict=True)}
        raw: dict[object, float] = {"raw": float(model.score_one(x)) * 100.0}
        bits = self.tail.score_one(raw)
        model.learn_one(x)
        self.tail.learn_one(raw)
        return WEIGHT * max(0.0, bits - DEAD)
