"""The baseline of one agent in words: what is usual for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from models import profile
from models.schema import HALF_LIFE
from stream.alert import rfc3339
from stream.engine import Engine
from stream.errors import BrokerError, InputError
from stream.files import Lines
from stream.replay import Summary, agents_in, replay
from stream.settings import Settings
from stream.siphash import name_hash
from stream.words import counted, nearest, number, plain, size


def baseline(engine: Engine, agent_id: str) -> dict[str, Any] | None:
    """All that an engine knows of an agent, or None."""
    return profile.baseline(engine.state, agent_id, name_hash(agent_id))


def from_files(
    settings: Settings, files: Sequence[str], agent_id: str, tick: Callable[[Lines], None], verdicts: str | None = None
) -> tuple[dict[str, Any], Summary]:
    """Replay files, heeding the verdicts of another, then read the agent's baseline; and what the replay did."""
    engine, summary = replay(settings, files, None, None, None, tick, verdicts)
    found = baseline(engine, agent_id)
    if found is None:
        raise InputError(
            f"no event of agent {agent_id!r} among the {counted(summary.events, 'event')} read ({counted(summary.rejects, 'reject')})"
            + (
                "; `strayline replay` tells why so many"
                if summary.rejects > summary.events
                else nearest(agent_id, agents_in(settings, files)) or "; check the id's spelling"
            )
        )
    return found, summary


def from_worker(address: str, agent_id: str) -> dict[str, Any]:
    """Ask a running worker."""
    url = f"http://{address}/agents/{urllib.parse.quote(agent_id, safe='')}"
    try:
        # A proxy is for the world outside, and knows no worker; its refusal would be taken for the worker's.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise InputError(
                f"the worker at {address} has no baseline of agent {agent_id!r}; another worker may hold its partition"
            ) from None
        if error.code == 503:
            waiting = json.load(error)["error"]
            raise BrokerError(
                f"the worker at {address} is still {waiting}; ask again once its /readyz answers 200"
            ) from None
        raise BrokerError(f"the worker at {address} answered {error.code}; see its log") from None
    except (OSError, ValueError) as error:
        raise BrokerError(
            f"no worker answers at {address} ({error}); it serves on STRAYLINE_HTTP_HOST:STRAYLINE_HTTP_PORT"
        ) from None


def _different(n: float, listed: int) -> str:
    """How many values, as a whole number: it is counted from what fades, and nobody has seven tenths of a tool.

    >>> _different(7.7, 7), _different(2.0, 2), _different(5.6, 8)
    ('about 8 different', '2 different', 'at least 8 different')
    """
    if round(n) < listed:  # values are forgotten more slowly than the count
        return f"at least {listed} different"
    return f"{'' if n == round(n) else 'about '}{round(n):,} different"


def _by_hour(half_hours: Sequence[float]) -> dict[int, float]:
    """Hours in which sessions begin: those of less than a tenth have faded.

    >>> _by_hour([0.0] * 16 + [3.0, 4.5] + [0.04, 0.0])
    {8: 7.5}
    """
    sums = {i // 2: sum(half_hours[i : i + 2]) for i in range(0, len(half_hours), 2)}
    return {hour: n for hour, n in sums.items() if n >= 0.1}


def _times(v: dict[str, Any]) -> str:
    """How often a value was used, apart from what people have said of it.

    >>> _times({"count": 27.0, "by_verdict": 168.9}), _times({"count": 0.0, "malicious": True}), _times({"count": 4.0})
    ('27 + 169 by a verdict', '0, called malicious', '4')
    """
    added = f" + {number(round(v['by_verdict']) or v['by_verdict'])} by a verdict" if "by_verdict" in v else ""
    return f"{number(v['count'])}{added}{', called malicious' if v.get('malicious') else ''}"


def _moved(what: str, v: dict[str, Any]) -> str:
    say = size if what == "bytes" else number
    typical = size(v["typical"]) if what == "bytes" else counted(v["typical"], "record")
    hostile = f"; above {say(v['hostile_above'])} called malicious" if "hostile_above" in v else ""
    return f"{typical} (rarely above {say(v['high'])}{hostile})"


def baseline_text(b: dict[str, Any]) -> str:
    """A baseline for reading, and last the key to its numbers."""
    begin = "since its baseline was begun anew, behind the fleet's event of" if b["begun_anew"] else "from"
    end = f" to {rfc3339(b['last_event_time'])}" if b["events"] else ""
    rows = [f"{plain(b['agent_id'])}: {counted(b['events'], 'event')} {begin} {rfc3339(b['first_event_time'])}{end}"]
    for fact, values in b["usual"].items():
        known = ", ".join(f"{plain(v['value'], 60)} ({_times(v)})" for v in values)
        rows.append(f"  {fact:15} {known}; {_different(b['distinct'][fact], len(values))} in all")
    for tool, amounts in b["amounts"].items():
        said = ", ".join(_moved(what, v) for what, v in amounts.items())
        rows.append(f"  a call of {plain(tool, 48)} moves {said}")
    if b["daily_amounts"]:
        rows.append(f"  amounts a day, latest last: {', '.join(number(x) for x in b['daily_amounts'][-14:])}")
    starts = {days: _by_hour(b.get("session_starts", {}).get(days, ())) for days in ("weekdays", "weekends")}
    if any(starts.values()):
        rows += [
            f"  sessions begin on {days}: {', '.join(f'{hour:02}h {number(n)}' for hour, n in found.items()) or 'never'}"
            for days, found in starts.items()
        ]
    if b["level_changed"]:
        rows.append(f"  its amounts a day lie at another level since the days before {rfc3339(b['level_changed'])}")
    days = HALF_LIFE / 86400
    rows.append(f"(in brackets: times used; these counts fade by half in {days:.0f} days, so they need not be whole)")
    if any("by_verdict" in v for values in b["usual"].values() for v in values):
        rows.append(
            "(+ by a verdict: what a benign verdict counts it for beside its use, so that the same is ordinary; it fades as the rest. "
            "The use that its alert was about is counted in full since then, and amounts that it was on are part of what is rarely passed)"
        )
    if any(starts.values()):
        rows.append(
            "(sessions by the hour of the day in UTC in which they begin; one at an odd hour counts less, and those that begin within minutes are one)"
        )
    if b["daily_amounts"]:
        rows.append("(amounts a day are in bytes where events carry them, else in records, else in events)")
    return "\n".join(rows)
