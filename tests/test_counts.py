"""Nobody who counts the events of a demo finds its alerts wrong: what was never done was not, what was done only in strange events or seldom was done, and seldom."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from stream.alert import Alert, Evidence
from stream.clauses import clause
from stream.simulate import lines, simulate
from tests.telling import HOME, scored

SELDOM = 0.1  # share of the chances
STEPS = {"closeness", "owner"}  # of whose raw counts a receiver has no simple notion
OTHERS = {"unvouched", "unapproved", "off_hours"}  # what is said of them is no count of these
NEVER, SINCE, STRANGE, SOME = (
    re.compile(p)
    for p in (
        r"^it has never .+?(?: in (?P<bound>at least |about )?(?P<of>[\d,]+) [a-z ]+| before)?(?:, |$)",
        r"^until .+ before it had never ",
        r"^it has .+ only in strange events before, or long ago",
        r"^it seldom .+?(?P<doubted> but in strange events)? \((?:about )?(?P<own>[\d,]+)(?: or more)? of (?:about |at least )?(?P<of>[\d,]+) ",
    )
)


def facts(event: dict[str, Any], before: str | None) -> Iterator[tuple[str, str, str]]:
    """Signal, what its chances are counted by, and value of what an event says."""
    tool = event.get("tool") or event["action"]
    yield "tool", "", tool
    yield "outcome", "", event.get("outcome") or "success"
    yield "action", tool, f"{event['action']} with {tool}"
    yield (
        "transition",
        before or "",
        f"from {before} to {tool}" if before else f"straight to {tool} before any usual step of its session",
    )
    for scope in event.get("scopes", ()):
        yield "permission", "", scope
    if event.get("classification"):
        yield "classification", "", event["classification"]
    if event.get("resource"):
        parts = event["resource"].split("/")
        yield "root", "", parts[0]
        yield "branch", "", "/".join(parts[:2])
        yield "resource", "", event["resource"]
    for r in event.get("recipients", ()):
        domain = r.get("domain") or r["id"].partition("@")[2]
        inside = domain in {"", HOME["STRAYLINE_DOMAINS"]}
        kind = r.get("type") or "recipient"
        to = f"to {'an' if kind in {'agent', 'email'} else 'a'} {kind}" if inside else "outside the organisation"
        yield "recipient", "", r["id"]
        if domain:
            yield "domain", "", domain
        yield "flow", "", f"{event['classification']} data {to}"


class Counted:
    """How often each agent did each thing, by the events alone."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.times: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self.at, self.when, self.type_of = {}, [], {}
        last: dict[tuple[str, str], str] = {}
        for i, event in enumerate(events):
            agent, session = event["agent_id"], (event["agent_id"], event["session_id"])
            self.at[event["event_id"]] = i
            self.when.append(datetime.fromisoformat(event["time"]).timestamp())
            self.type_of[agent] = event["agent_type"]
            for name, of, value in facts(event, last.get(session)):
                self.times[agent, name, of].append(i)
                self.times[agent, name, of, value].append(i)
            last[session] = event.get("tool") or event["action"]

    def before(self, agent: str, e: Evidence, i: int) -> tuple[int, int]:
        """How often of how many times an agent had done what evidence says, before the event of that number."""
        value, of = str(e.observed), ""
        if e.name == "action":
            of = value.partition(" with ")[2]
        elif value.startswith("from "):
            of = value.removeprefix("from ").partition(" to ")[0]
        own, chances = self.times[agent, e.name, of, value], self.times[agent, e.name, of]
        return bisect_left(own, i), bisect_left(chances, i)

    def peers(self, agent: str, e: Evidence, i: int) -> tuple[int, int]:
        others = [a for a, kind in self.type_of.items() if kind == self.type_of[agent] and a != agent]
        counts = [self.before(a, e, i) for a in others]
        return sum(c for c, _ in counts), sum(n for _, n in counts)


@pytest.mark.parametrize("seed", [1, 11, 12])
def test_a_plain_count_of_the_events_before_finds_what_an_alert_says_of_them(seed):
    fleet = simulate(seed)
    events = [dict(e) for e in fleet.events]
    count = Counted(events)
    said: dict[str, int] = defaultdict(int)
    told = scored([line.rstrip(b"\n") for line in lines(fleet)], **HOME).alerts
    for alert in told:
        assert "hardly ever" not in alert.reason
        for e in alert.evidence:
            if "own" in e.baseline and e.event_ids and e.name not in STEPS and e.name not in OTHERS:
                said[checked(count, alert, e)] += 1
            elif e.name in STEPS and e.baseline["own"] > 0:
                assert clause(e).startswith("it seldom ")
                assert "%" not in clause(e)
                assert not re.search(r"\d", clause(e).partition(", but")[0])
    assert min(said[how] for how in ("never", "since", "strange", "seldom")) > 5


def checked(count: Counted, alert: Alert, e: Evidence) -> str:
    """Which claim an item of evidence makes, once it has been compared with the events."""
    i, text = count.at[e.event_ids[0]], clause(e).replace("tried to ", "").replace("tries to ", "")
    own, of = count.before(alert.agent_id, e, i)
    others, chances = count.peers(alert.agent_id, e, i)
    if re.search("nor ha(ve|d) peers(?!.*, unless in strange events)", text):
        assert others == 0, text
    elif "peers seldom" in text or "unless in strange events" in text:
        assert others <= 0.1 * chances, text
    elif "peer has" in text or "peers have" in text or "peers do" in text:
        assert others > 0, text
    if SINCE.match(text):
        begin = bisect_left(count.when, count.when[i] - e.baseline["since"] - 1)
        assert count.before(alert.agent_id, e, begin)[0] == 0 < own, text
        return "since"
    if STRANGE.match(text):
        assert own > 0, text
        return "strange"
    if found := SOME.match(text):
        assert own > 0, text
        assert own <= SELDOM * of or found["doubted"], text
        if e.name != "transition":
            assert int(found["own"].replace(",", "")) <= own, text
            assert int(found["of"].replace(",", "")) <= of, text
        return "seldom"
    found = NEVER.match(text)
    assert found, text
    assert own == 0, text
    if found["of"] and found["bound"] != "about ":
        assert int(found["of"].replace(",", "")) <= of, text
    return "never"
