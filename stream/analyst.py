"""The commands with which an analyst says what an alert was, or that an agent's past no longer counts: verdict, reset; and what came of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from stream.alert import rfc3339
from stream.errors import InputError
from stream.settings import load
from stream.words import counted, nearest, plain

if TYPE_CHECKING:
    from stream.replay import Summary
    from stream.settings import Settings


def moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """RFC 3339 with an offset."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min  # noqa: DTZ901
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} is no time with an offset, such as 2026-03-12T08:44:00Z")
    return moment.timestamp()


def _must_say(why: str, *given: tuple[str, str]) -> None:
    for option, text in given:
        if not text.strip():
            raise click.BadParameter(f"must not be empty: {why}", param_hint=option)


@click.command()
@click.argument("verdict", type=click.Choice(["benign", "malicious"]))
@click.argument("alert_id")
@click.option("--by", default="", help="Who says so: a person's name. It is kept.")
@click.option("--reason", default="", help="Why. It is kept, for the auditor and for whoever meets the next one.")
@click.option("--alerts", metavar="FILE", help="Find the alert in a file of alerts instead of on agent.access.alerts.")
@click.option(
    "--to",
    metavar="FILE",
    help="Append the verdict to a file, for `strayline replay --verdicts`, instead of sending it.",
)
@click.option(
    "--time",
    "moment",
    metavar="TIME",
    callback=moment,
    help="When it was said, as 2026-03-12T08:44:00Z; default: now. It is on the alert as it stood then.",
)
@click.option(
    "--show", is_flag=True, help="Tell what `benign` would make ordinary, or `malicious` mark, and write nothing."
)
def verdict(
    verdict: str,
    alert_id: str,
    by: str,
    reason: str,
    alerts: str | None,
    to: str | None,
    moment: float | None,
    show: bool,
) -> None:
    """Say what an alert was: it changes what is learned.

    `benign`: what it did is ordinary for this agent, and will not be an alert again unless it gets worse. `malicious`: what was
    learned from it is taken back, and its like is not learned, so however often it is repeated it stays strange. The last verdict
    on a thing holds. It is told what becomes ordinary, or is marked: recipients, resources, permissions, amounts.

    \b
    Examples:
      strayline verdict benign 3f1c9a… --show
      strayline verdict benign 3f1c9a… --by "Ana Lima" --reason "approved migration, CHG-1042"
      strayline verdict malicious 3f1c9a… --by ana --reason "exfiltration, INC-7" --alerts alerts.jsonl --to verdicts.jsonl
    """
    if not show:
        _must_say("a verdict has an owner and a reason", ("--by", by), ("--reason", reason))
    if alerts and to and os.path.realpath(alerts) == os.path.realpath(to):
        raise click.UsageError(
            f"{to} holds alerts: give --to a file of its own, such as verdicts.jsonl; nothing was written"
        )
    settings = load()
    from stream import judge  # noqa: PLC0415
    from stream.ordinary import told  # noqa: PLC0415

    alert = judge.alert_in(alerts, alert_id, moment) if alerts else judge.alert_on(settings, alert_id, moment)
    if moment is not None and moment < judge.seconds(alert.time):
        began = "the alert opened" if alert.revision == 1 else f"revision {alert.revision}, the oldest that is there,"
        raise click.UsageError(
            f"--time is before {began} ({alert.time}): what it is about was not known, nor learned, by then, so little or nothing would follow; "
            f"give {alert.time} or later"
        )
    by, reason = by.strip(), reason.strip()
    said = judge.verdict_on(alert, verdict, by or "-", reason or "-", moment)
    becomes = told(said, settings.classifications)
    if show:
        for line in becomes:
            click.echo(line)
        return
    judge.say(settings, alert.agent_id, said, to)
    where = to or f"agent.access.verdicts on {settings.broker}"
    click.echo(
        f"{alert.agent_id}, revision {alert.revision}{'' if moment is None else ', the last of that time'}: {alert.title}; {verdict} by {by}, written to {where}",
        err=True,
    )
    for line in becomes:
        click.echo(line, err=True)
    if to and moment is None and judge.is_past(alert):
        click.echo(
            f"it is said now, and the alert is of {alert.time}: a replay of events of that time does not come to it; "
            f"say it as of then with --time {alert.time}",
            err=True,
        )


@click.command()
@click.argument("agent_id")
@click.option("--by", required=True, help="Who says so: a person's name. It is kept.")
@click.option("--reason", required=True, help="Why. It is kept, for the auditor.")
@click.option(
    "--to",
    metavar="FILE",
    help="Append it to a file, for `strayline replay --verdicts`, instead of sending it.",
)
@click.option(
    "--time",
    "moment",
    metavar="TIME",
    callback=moment,
    help="When it was said, as 2026-03-12T08:44:00Z; default: now. A replay heeds it then, a worker when it reads it, whatever the time.",
)
@click.option("--unseen", is_flag=True, help="Write it though none of the last events is of such an agent.")
def reset(agent_id: str, by: str, reason: str, to: str | None, moment: float | None, unseen: bool) -> None:
    """Begin an agent's baseline anew: after it was given other work, or where what it has learned was poisoned.

    What is usual for it, its amounts, hours and contacts no longer count, and marks of malicious verdicts on it neither; an open alert of
    it ends. What its cohort and the fleet have learned stays, so it is judged by its peers, and its alerts say that it is warming.
    On Kafka an agent of which no late event is (the last 40,000 are looked at, where they may be read) is taken for one mistyped: nothing is written, and the exit status is 1.

    \b
    Example:
      strayline reset support-assistant-11 --by "Ana Lima" --reason "now handles refunds, CHG-1042"
    """
    _must_say("a reset has an agent, an owner and a reason", ("AGENT_ID", agent_id), ("--by", by), ("--reason", reason))
    settings = load()
    from stream import judge  # noqa: PLC0415

    lately = judge.seen_lately(settings) if to is None and not unseen else None
    if lately is not None and agent_id not in lately[0]:
        raise InputError(
            f"none of the last {counted(lately[1], 'event')} on agent.access.events is of agent {plain(agent_id)!r}{nearest(agent_id, lately[0]) or '.'} "
            "Nothing was written; if it is only quiet, give --unseen"
        )
    said = judge.reset_of(agent_id, by.strip(), reason.strip(), moment)
    judge.say(settings, agent_id, said, to)
    click.echo(
        f"{agent_id}: to begin anew, by {by.strip()}, written to {to or f'agent.access.verdicts on {settings.broker}'}; "
        + (_what_a_replay_does(moment) if to else _what_a_worker_does(agent_id, moment, known=lately is not None)),
        err=True,
    )


def _what_a_replay_does(moment: float | None) -> str:
    """With a reset in a file."""
    when = "the time of now (for events of the past give --time)" if moment is None else rfc3339(moment)
    return (
        f"`strayline replay --verdicts` heeds it before the first event later than {when}, and `strayline explain` then shows the time of the event before that; "
        "both say if no event is of such an agent"
    )


def _what_a_worker_does(agent_id: str, moment: float | None, *, known: bool) -> str:
    """With a reset on the topic."""
    at_once = (
        ""
        if moment is None
        else f"its worker heeds it when it reads it, behind the events that it has scored by then, and not at {rfc3339(moment)}: that time is kept, and goes by in a replay alone (--to FILE); "
    )
    return (
        f"{at_once}{'' if known else 'whether there is such an agent only its worker knows: '}`strayline explain {agent_id} --worker HOST:PORT` shows since when, "
        f"and its worker's log says `verdict heeded`{'' if known else ', or that the agent is not known'}"
    )


def tell_heeded(settings: Settings, summary: Summary, path: str, files: Sequence[str]) -> None:
    """What of a file of verdicts was heeded, and what could not be; `files` are those of the events."""
    from stream.replay import agents_in  # noqa: PLC0415

    click.echo(
        f"{counted(summary.verdicts, 'verdict')} heeded"
        + (f"; {summary.later:,} not, being later than the last event (their `time`)" if summary.later else ""),
        err=True,
    )
    if summary.early:
        click.echo(
            f"{summary.early:,} of those came (`time`) before the event that {'it is' if summary.early == 1 else 'each is'} on (`event.time`), of which nothing was learned yet, "
            "so little or nothing follows; say it anew with --time of then or later",
            err=True,
        )
    if summary.strangers:
        more = f" and {len(summary.strangers) - 5:,} more" if len(summary.strangers) > 5 else ""
        click.echo(
            f"{counted(len(summary.strangers), 'agent')} that verdicts or resets name {'has' if len(summary.strangers) == 1 else 'have'} no event here: "
            f"{', '.join(plain(name) for name in summary.strangers[:5])}{more}{nearest(summary.strangers[0], agents_in(settings, files)) or '; check the spelling'}",
            err=True,
        )
    if summary.unfit:
        click.echo(
            f"{counted(summary.unfit, 'line')} of {path} {'is' if summary.unfit == 1 else 'are'} no verdict ({plain(summary.why_unfit, 300)}); "
            "give --verdicts what `strayline verdict --to` wrote",
            err=True,
        )


COMMANDS = (verdict, reset)
