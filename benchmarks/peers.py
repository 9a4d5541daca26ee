"""What others would run on the same events: the rules that most SOCs have, River's half-space trees, PySAD's xStream, MIDAS-R.

A peer is a function from an event, as `json.loads` gives it, to a score; it scores by what came before and then learns. All get what
our own models get where it helps them: amounts on a log scale, flags of novelty. No labels while scoring. The rules are the best on
the whole of eleven variants (amounts raw or log, capped or not, weights) judged on five of these very sets, which favours them; so are
MIDAS-R's tick (of a minute, ten and an hour) and xStream's scaling (of four), chosen on the same sets; the trees are River's defaults.
"""

from __future__ import annotations

import gc
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import numpy as np
from river import anomaly, base, compose, preprocessing

from benchmarks.midas import Sketches

Event = Mapping[str, Any]
Peer = Callable[[Event], float]
ROLLING = 500  # calls of an agent that its mean and spread are taken over
FIRST_SEEN = 10.0  # what a first-seen value counts, in standard deviations: of 3 and 10 the better, see above
AMOUNTS = ("bytes", "records")
TICK = 60.0  # seconds, as in the paper's first set
FARTHEST = 20.0  # standard deviations: one value must not stretch the bins of all
PYSAD = "PySAD xStream"


def recipients(event: Event) -> list[str]:
    """Who received the data."""
    return [r["id"] for r in event.get("recipients") or ()]


def _values(event: Event) -> dict[str, list[str]]:
    """What the first-seen rules watch."""
    return {
        "tool": [event.get("tool") or event["action"]],
        "scope": list(event.get("scopes") or ()),
        "recipient": recipients(event),
    }


def soc_rules() -> Peer:
    """First-seen and rolling z-score rules, as a SOC writes them, added up.

    Each of an agent's tool, scope and recipient that it never used before counts `FIRST_SEEN`; the larger z-score of its bytes and
    records over its last `ROLLING` amounts is added, on a log scale: on raw amounts, as many write it, it does worse.

    What they miss: how usual novelty is for this agent, anything seen once long ago, anything that adds up slowly.
    """
    seen: set[tuple[str, str, str]] = set()
    rolling: dict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=ROLLING))
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def score(event: Event) -> float:
        agent = event["agent_id"]
        total = 0.0
        for name, values in _values(event).items():
            keys = {(agent, name, value) for value in values}
            total += FIRST_SEEN * (not keys <= seen)
            seen.update(keys)
        strangest = 0.0
        for name in AMOUNTS:
            if event.get(name) is None:
                continue
            value = math.log1p(event[name])
            last, add = rolling[agent, name], sums[agent, name]
            if len(last) >= 10:
                mean = add[0] / len(last)
                spread = math.sqrt(max(1e-6, add[1] / len(last) - mean * mean))
                strangest = max(strangest, (value - mean) / spread)
            if len(last) == ROLLING:
                add[0] -= last[0]
                add[1] -= last[0] * last[0]
            last.append(value)
            add[0] += value
            add[1] += value * value
        return total + strangest

    return score


def _features() -> Callable[[Event], dict[str, float]]:
    """Numbers for models that take numbers: whether the tool, a scope, a recipient, the resource's root or the outcome is new to the
    agent, and log(1 + x) of bytes, records and the number of recipients."""
    seen: set[tuple[str, str, str]] = set()

    def features(event: Event) -> dict[str, float]:
        watched = _values(event) | {
            "root": [str(event.get("resource") or "").strip("/").split("/")[0]],
            "outcome": [event.get("outcome") or "success"],
        }
        x = {}
        for name, values in watched.items():
            keys = {(event["agent_id"], name, value) for value in values}
            x[name] = float(not keys <= seen)
            seen.update(keys)
        for name in AMOUNTS:
            x[name] = math.log1p(event.get(name) or 0.0)
        x["recipients"] = math.log1p(len(recipients(event)))
        return x

    return features


def half_space_trees() -> Peer:
    """River's HalfSpaceTrees with its own defaults, one for each agent, its features scaled to 0..1 by River's MinMaxScaler.

    What they miss: an agent's first window of 250 events, since mass is needed before anything is anomalous; anything that adds up.
    """
    features = _features()
    models: dict[str, base.AnomalyDetector] = {}

    def score(event: Event) -> float:
        model = models.get(event["agent_id"])
        if model is None:
            model = compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=1))
            models[event["agent_id"]] = model
        x = features(event)
        out = float(model.score_one(x))
        model.learn_one(x)
        return out

    return score


def xstream() -> Peer:
    """PySAD's xStream with its own defaults, one for the fleet, on the features of the trees in standard deviations of the agent's own.

    Manzoor, Lamba and Akoglu (2018), xStream: Outlier Detection in Feature-Evolving Data Streams, KDD, 1963-1972.

    What it misses: anything that adds up; what only peers make strange.
    """
    from pysad.models import xStream  # noqa: PLC0415 (optional: the extra `bench`)

    features = _features()
    model = xStream(random_state=1)
    scalers: dict[str, preprocessing.StandardScaler] = defaultdict(preprocessing.StandardScaler)

    def score(event: Event) -> float:
        x, scaler = features(event), scalers[event["agent_id"]]
        scaler.learn_one(x)
        x = scaler.transform_one(x)
        return float(model.fit_score_partial(np.clip(list(x.values()), -FARTHEST, FARTHEST)))

    return score


def midas_r() -> Peer:
    """MIDAS-R on the edges from the agent to each recipient and to the resource; the largest score counts."""
    parties, things = Sketches(TICK), Sketches(TICK)

    def score(event: Event) -> float:
        agent, at = event["agent_id"], event["time"]
        if isinstance(at, str):
            at = datetime.fromisoformat(at).timestamp()
        largest = max((parties.score(agent, party, at) for party in recipients(event)), default=0.0)
        thing = event.get("resource") or event.get("tool") or event["action"]
        return max(largest, things.score(agent, thing, at))

    return score


PEERS: dict[str, Callable[[], Peer]] = {"SOC rules": soc_rules, "River HST": half_space_trees, "MIDAS-R": midas_r}
if find_spec("pysad"):
    PEERS[PYSAD] = xstream


def scored(peer: Peer, events: Iterable[Event]) -> list[tuple[str, float]]:
    """Each event's id and its score, in order.

    Half-space trees are a million objects a few dozen agents on, which the collector of cycles would go through again and again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return [(event["event_id"], peer(event)) for event in events]
    finally:
        if collecting:
            gc.enable()
