"""Floods: one agent, or one host, that does the same hundreds of times in minutes, among ordinary traffic of the benchmark's own making.

Two streams, the same for every run. `calls`: agents with tools, resources, bytes and a few partners; floods repeat one call, send to one
known partner, or send to one stranger. `network`: hosts, and nothing but who reaches whom; floods go from one to one, from many to
one, or from one to many. A model is judged by the area under the ROC curve (AUC) of a flood's events against the ordinary ones: how
probably an event of a flood scores above an ordinary one. It says nothing of how soon a flood is told, hence the last columns: the
share of floods with an event above all but one in a thousand ordinary ones, and the first such event's place in its flood.

`python -m benchmarks floods`; MIDAS-R is made for exactly this.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers import PEERS, scored
from benchmarks.report import save, say, table
from benchmarks.sets import play
from models.table import Array

BEGIN, DAY = 1_760_000_000.0, 86400.0
WARM_UP_DAYS = 1.0
RARE = 1e-3  # of ordinary events may score as high as what counts as noticed
CALLS = ("repeated call", "known partner", "stranger")
NETWORK = ("one to one", "many to one", "one to many")
Event = dict[str, Any]
Flooded = tuple[str, list[Event]]  # what kind of flood, its events


class Stream(NamedTuple):
    """Events by time, and of each the flood that it belongs to (−1: none)."""

    events: list[Event]
    flood: Array  # (n,)
    kinds: list[str]  # of each flood


def calls(seed: int = 1, agents: int = 30, days: int = 6, each: int = 3) -> Stream:
    """Agents at work around the clock, six tools and eight partners each; `each` floods of every kind after the warm-up."""
    r = random.Random(seed)
    ordinary, floods = [], []
    for a in range(agents):
        ordinary += [_call(r, a, BEGIN + r.uniform(0, days) * DAY) for _ in range(int(days * r.uniform(60, 140)))]
    for kind in CALLS * each:
        a, at, flood = r.randrange(agents), BEGIN + r.uniform(WARM_UP_DAYS + 1, days - 0.1) * DAY, []
        tool, partner = {"repeated call": ("c", -1), "known partner": ("a", 1), "stranger": ("a", 99)}[kind]
        for _ in range(r.randrange(200, 500)):
            at += r.expovariate(1 / 1.5)
            flood.append(_call(r, a, at, tool, partner) | {"resource": f"{tool}/{a}"})
        floods.append((kind, flood))
    return _mixed(ordinary, floods)


def _call(r: random.Random, agent: int, at: float, tool: str = "", partner: int | None = None) -> Event:
    """One call; what is not given is as usual. Tools a and b send."""
    tool = tool or r.choice("aaabbcdef")
    event = {
        "time": at,
        "agent_id": f"agent-{agent}",
        "agent_type": f"type-{agent % 3}",
        "session_id": f"{agent}-{int(at // 1800)}",
        "action": "send" if tool in "ab" else "read",
        "tool": f"{tool}.call",
        "resource": f"{tool}/{r.randrange(40)}",
        "bytes": int(r.lognormvariate(7, 0.8)),
    }
    if event["action"] == "send":
        partner = min(int(r.expovariate(0.5)), 7) if partner is None else partner
        event["recipients"] = [{"id": f"user-{agent}-{partner}@home.example"}]
    return event


def network(seed: int = 1, hosts: int = 120, days: int = 4, each: int = 3) -> Stream:
    """Hosts that reach a dozen others each, the popular ones most, busier by day than by night; `each` floods of every kind."""
    r = random.Random(seed)
    popular = [1 / (1 + n) for n in range(hosts)]
    reached = [r.choices(range(hosts), popular, k=12) for _ in range(hosts)]
    ordinary, floods = [], []
    for h in range(hosts):
        for _ in range(int(days * r.lognormvariate(3.6, 0.9))):
            hour = min(max(r.gauss(13, 4), 0.0), 23.99)
            to = r.choice(reached[h]) if r.random() < 0.97 else r.randrange(hosts)
            ordinary.append(_reach(h, to, BEGIN + (r.randrange(days) + hour / 24) * DAY))
    for kind in NETWORK * each:
        one, at, flood = r.randrange(hosts), BEGIN + r.uniform(WARM_UP_DAYS + 0.5, days - 0.1) * DAY, []
        other = r.randrange(hosts)
        for _ in range(r.randrange(300, 900)):
            at += r.expovariate(3)
            some = r.randrange(hosts)
            ends = {"one to one": (one, other), "many to one": (some, one), "one to many": (one, some)}[kind]
            flood.append(_reach(*ends, at))
        floods.append((kind, flood))
    return _mixed(ordinary, floods)


def _reach(source: int, destination: int, at: float) -> Event:
    return {"time": at, "agent_id": f"h{source}", "action": "send", "recipients": [{"id": f"h{destination}"}]}


def _mixed(ordinary: Sequence[Event], floods: Sequence[Flooded]) -> Stream:
    told = [(event, -1) for event in ordinary]
    told += [(event, n) for n, (_, flood) in enumerate(floods) for event in flood]
    told.sort(key=lambda one: float(one[0]["time"]))
    events = [event | {"event_id": str(i)} for i, (event, _) in enumerate(told)]
    return Stream(events, np.array([n for _, n in told]), [kind for kind, _ in floods])


def auc(high: Array, low: Array) -> float:
    """How probably one of `high` is above one of `low`; a tie is half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / 2 / len(low))


def judged(stream: Stream, score: Array) -> dict[str, dict[str, float | None]]:
    """For each kind of flood and all: AUC after the warm-up, share of floods noticed, median place of the first noticed event."""
    time = np.array([e["time"] for e in stream.events])
    ordinary = score[(stream.flood < 0) & (time >= BEGIN + WARM_UP_DAYS * DAY)]
    loud = np.quantile(ordinary, 1 - RARE)
    out = {}
    for kind in (*dict.fromkeys(stream.kinds), "all"):
        own = [n for n, k in enumerate(stream.kinds) if kind in {k, "all"}]
        first = [np.flatnonzero(score[stream.flood == n] > loud) for n in own]
        places = [int(f[0]) + 1 for f in first if len(f)]
        out[kind] = {
            "auc": auc(score[np.isin(stream.flood, own)], ordinary),
            "noticed": len(places) / len(own),
            "first": float(np.median(places)) if places else None,
        }
    return out


def floods() -> dict[str, Any]:
    """Print the tables of floods; the numbers behind them."""
    results: dict[str, Any] = {}
    streams: dict[str, Callable[[], Stream]] = {"calls": calls, "network": network}
    for name, make in streams.items():
        stream = make()
        say(f"floods: {name}, {len(stream.events):,} events, {len(stream.kinds)} floods …")
        results[name] = {who: judged(stream, score) for who, score in _scores(stream)}
        kinds = list(results[name]["ours"])
        table(
            f"Floods, {name}: AUC by kind; share noticed at one in {1 / RARE:,.0f} ordinary events; from which event of the flood on",
            ["", *kinds, *(f"{kind}, noticed" for kind in kinds[:-1]), "first"],
            [
                [
                    who,
                    *(f"{by[k]['auc']:.3f}" for k in kinds),
                    *(by[k]["noticed"] for k in kinds[:-1]),
                    by["all"]["first"],
                ]
                for who, by in results[name].items()
            ],
        )
    save("floods", results)
    return results


def _scores(stream: Stream) -> Iterator[tuple[str, Array]]:
    records = [json.dumps(event).encode() for event in stream.events]
    yield "ours", np.array(play(records, {}).scores)
    for name, peer in PEERS.items():
        yield name, np.array([score for _, score in scored(peer(), stream.events)])
