"""The commands that look after a deployment on Kafka: topics, produce, alerts, lag, rejects, doctor."""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import timedelta
from pathlib import Path

import click

from stream.alert import SEVERITIES, Alert
from stream.analyst import moment
from stream.settings import load
from stream.words import counted, nearest, plain

_NOW = math.inf  # what comes, whatever its time
_SPAN = re.compile(r"(\d{1,6})([hd])")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _since(context: click.Context, parameter: click.Parameter, text: str | None) -> float | timedelta | None:
    """A time, a date (in UTC), `now`, or a span such as 24h or 7d: of the events' time, before the last strange event there."""
    span = _SPAN.fullmatch(text or "")
    if span:
        return timedelta(hours=int(span[1])) if span[2] == "h" else timedelta(days=int(span[1]))
    if text == "now":
        return _NOW
    try:
        return moment(context, parameter, f"{text}T00:00:00Z" if text and _DATE.fullmatch(text) else text)
    except click.BadParameter:
        raise click.BadParameter(
            f"{text!r} is no time: give 2026-03-12, 2026-03-12T08:44:00Z, or hours or days such as 24h and 7d"
        ) from None


@click.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 100_000),
    help="Partitions of the events (and of the baselines); needed when they do not exist yet.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 32),
    help="Copies of each partition; default: as many as those of the events have, or 1.",
)
def topics(partitions: int | None, replication: int | None) -> None:
    """Create the topics that are missing, and tell what differs from what they should be.

    Partitions, copies, retention and compaction. Harmless to run again. The exit status is 1 if something differs; each difference
    comes with the command that mends it.
    """
    settings = load()
    from stream.topics import ensure_topics  # noqa: PLC0415

    drift = ensure_topics(settings, partitions, replication, created=lambda line: click.echo(line, err=True))
    for line in drift:
        click.echo(line)
    if drift:
        sys.exit(1)
    click.echo(f"the topics on {settings.broker} are as they should be", err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def lag(as_json: bool) -> None:
    """How far the workers are behind: events, and time of the events', of each partition.

    Committed is what the group STRAYLINE_GROUP has finished. The exit status is 0 however far behind it is, and 1 where no worker runs, or
    some partition is nobody's. A worker that was killed is in the group until its session ends (STRAYLINE_SESSION_SECONDS): Kafka tells nobody when it was
    last heard of. So where events wait, it is said when a worker last delivered: one that scores does so every few seconds.
    """
    settings = load()
    from stream.lag import group, lag_json, lag_text, lags, since_delivery  # noqa: PLC0415

    told = settings, lags(settings), group(settings), since_delivery(settings)
    click.echo(json.dumps(lag_json(*told), indent=2) if as_json else lag_text(*told))
    sys.exit(told[2].lacks is not None)


@click.command()
@click.option("--reason", metavar="REASON", help="Only those with this reason, such as bad_value.")
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="Tell so many, the latest; all are counted."
)
@click.option("--json", "as_json", is_flag=True, help="All of them, one a line, whole; mend `value` there for --from.")
@click.option("--resubmit", is_flag=True, help="Tell which would be sent again, because they decode now.")
@click.option("--from", "path", metavar="FILE", help="With --resubmit: lines of --json, mended, in place of what came.")
@click.option("--yes", is_flag=True, help="With --resubmit: send them.")
def rejects(reason: str | None, limit: int, as_json: bool, resubmit: bool, path: str | None, yes: bool) -> None:
    """Look at records that could not be used, and send them again once the cause is mended.

    Nothing is sent twice: each record sent again is marked on the rejected topic, in the same transaction, and neither a marked
    record nor a marked event id is sent again. An event from long ago is scored as late.

    \b
    Examples:
      strayline rejects
      strayline rejects --resubmit --reason too_large         what would be sent, now that the limit is raised
      strayline rejects --resubmit --reason too_large --yes   send it
      strayline rejects --json > mended.jsonl                 then mend `value` in each line, and
      strayline rejects --resubmit --from mended.jsonl --yes
    """
    if (path or yes) and not resubmit:
        raise click.UsageError("--from and --yes belong to --resubmit")
    from stream.codec import REASONS  # noqa: PLC0415

    if reason is not None and reason not in REASONS:
        raise click.UsageError(f"no reason {reason!r}; reasons are {', '.join(REASONS)}")
    settings = load()
    if resubmit:
        from stream.rejects import mended, send_again  # noqa: PLC0415

        outcome = send_again(settings, reason, mended(path) if path else None, send=yes)
        still = sum(outcome.unfit.values())
        why = ", ".join(f"{why} {n:,}" for why, n in outcome.unfit.most_common())
        done = "sent again" if yes else "would be sent again (`--yes` sends them)"
        told = f"{outcome.send:,} {done}, {still:,} still no event{f' ({why})' if why else ''}, {outcome.before:,} sent before, or twice there"
        click.echo(told)
        return
    from collections import Counter, deque  # noqa: PLC0415

    from stream.rejects import Rejected, line, look, text  # noqa: PLC0415

    by: Counter[str] = Counter()
    latest: deque[str] = deque(maxlen=limit)

    def tell(rejected: Rejected) -> None:
        by[rejected.reason] += 1
        if as_json:
            click.echo(line(rejected))
        else:
            latest.append(text(rejected))

    look(settings, reason, tell)
    for told in latest:
        click.echo(told)
    by_reason = ", ".join(f"{why} {n:,}" for why, n in by.most_common())
    click.echo(f"{by.total():,} rejected and not sent again{f': {by_reason}' if by_reason else ''}", err=True)


@click.command()
@click.option(
    "--role",
    type=click.Choice(["producer", "worker", "analyst", "admin"]),
    default="worker",
    show_default=True,
    help="Whose rights on the broker to ask for: whoever sends events, the worker, whoever reads alerts, whoever runs these commands.",
)
def doctor(role: str) -> None:
    """Examine this installation and its broker: settings, versions, TLS, password, rights, topics, workers, clock.

    Changes nothing. Run it with the settings of whom it is about. Each line says ok, warn or fail, and what to do next; the exit
    status is 1 if something fails.
    """
    settings = load()
    from stream.doctor import examine  # noqa: PLC0415

    failed = False
    for answer in examine(settings, role):
        failed |= answer.state == "fail"
        click.echo(f"{answer.state:4}  {answer.what:8}  {answer.said}")
    sys.exit(failed)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--rejects",
    "rejects_path",
    metavar="PATH",
    help="Write every line that was not sent, with its reason, its place and its bytes.",
)
def produce(files: tuple[str, ...], rejects_path: str | None) -> None:
    """Send events from files to agent.access.events, keyed by agent: to try a deployment, or to give it a past.

    FILE is what `strayline replay` reads. A line that is no event is not sent, and stays where it is; how many, and why the first, is said, and the exit
    status is 1 though the others were sent. Mend those lines in a file of their own, and send that. Send the past before the present: behind newer events it counts as late. And send it once: an event that comes
    again is known as repeated, and not learned again, only while it is among the last events (of 7,000 ago 9 in 10 are). If it ends in the
    middle, send the rest: `tail -n +N FILE | strayline produce -`.

    \b
    Example:
      strayline produce events.jsonl.gz
    """
    settings = load()
    from collections import Counter  # noqa: PLC0415

    from stream.beginning import Kept  # noqa: PLC0415
    from stream.codec import Reject, reject_line  # noqa: PLC0415
    from stream.fields import Fields  # noqa: PLC0415
    from stream.fields import told as unknown  # noqa: PLC0415
    from stream.files import Output, readable  # noqa: PLC0415
    from stream.foreign import MOST_FILES, others  # noqa: PLC0415
    from stream.foreign import told as likely  # noqa: PLC0415
    from stream.produce import produce_files  # noqa: PLC0415

    fields = Fields()
    unfit: Counter[str] = Counter()
    first: list[str] = []
    kept = {path: Kept() for path in files}

    def tell(path: str, reject: Reject) -> None:
        unfit[reject.reason] += 1
        if reject.reason != "empty":
            kept[path].add([reject.raw])
            if not first:
                first.append(f"line {reject.position:,} of {path}: {plain(reject.detail, 300)}")
            output.write(reject_line(reject, path) + b"\n")

    for path in files:
        readable(path)
        if rejects_path and rejects_path != "-" and Path(path).resolve() == Path(rejects_path).resolve():
            raise click.UsageError(f"{path} is read: give --rejects a path of its own")
    output = Output(rejects_path)
    try:
        count = produce_files(settings, files, tell, fields)
        output.keep()
    finally:
        output.discard()
    lacking = unfit.total() - unfit["empty"]  # a blank line lacks nothing
    why = ", ".join(f"{why} {n:,}" for why, n in unfit.most_common())
    rest = (
        f"; {counted(unfit.total(), 'line')} not sent ({why}){f', the first {first[0]}' if first else ''}"
        if unfit
        else ""
    )
    click.echo(f"{counted(count, 'event')} delivered to agent.access.events on {settings.broker}{rest}", err=True)
    for line in unknown(fields.looked, fields.unknown.most_common()):
        click.echo(line, err=True)
    if lacking:
        it = "it" if lacking == 1 else "them"
        where = (
            f"and, with reason and place, in {rejects_path}"
            if rejects_path
            else "alone; `strayline replay FILE --rejects PATH` tells each with its reason and place, and sends nothing"
        )
        click.echo(
            f"what is no event stays in its file {where}. Mend {it} in a file of {'its' if lacking == 1 else 'their'} own and `strayline produce` that: "
            "what was sent is not to be sent again",
            err=True,
        )
    strange = [path for path in files if kept[path].raws] if not count else []
    for path in strange[:MOST_FILES]:
        for line in likely(path, kept[path]):
            click.echo(line, err=True)
    for line in others(len(strange) - MOST_FILES):
        click.echo(line, err=True)
    sys.exit(lacking > 0)


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option("--follow", is_flag=True, help="Go on with those that come, until interrupted.")
@click.option(
    "--last/--revisions",
    default=None,
    help="Of each alert its last revision, how it stands, as is the default in words; or every revision, as is the default of --json.",
)
@click.option(
    "--severity",
    type=click.Choice(SEVERITIES, case_sensitive=False),
    default=SEVERITIES[0],
    help="Only those as severe, or more.",
)
@click.option("--agent", "agent_id", metavar="ID", help="Only those of one agent.")
@click.option("--id", "alert_id", metavar="ID", help="Only this alert: the id that stands below it.")
@click.option(
    "--since",
    metavar="TIME",
    callback=_since,
    help="Only those with strange events of this time or later: 2026-03-12, 2026-03-12T08:44:00Z, or 24h or 7d before the last such event there; with --follow also "
    "`now`: only those that come. An alert of which only the closing message is later is none of them.",
)
@click.option("--json", "as_json", is_flag=True, help="As they are, one a line.")
def alerts(
    files: tuple[str, ...],
    follow: bool,
    last: bool | None,
    severity: str,
    agent_id: str | None,
    alert_id: str | None,
    since: float | timedelta | None,
    as_json: bool,
) -> None:
    """Read alerts, oldest first: each as it stands; with --follow when it opens, and when it becomes worse.

    Those of files that `strayline replay --alerts` wrote (plain, .gz or .zst; `-` is standard input), in their order; without FILE those on
    agent.access.alerts, by the time they came there. Changes nothing, and needs no consumer group. The heading has when it opened, and its last
    event where that is another minute. Where an agent gave data to another of which there is an alert at that time, both say so, whichever partitions they are of.

    \b
    Examples:
      strayline alerts alerts.jsonl --severity high
      strayline alerts alerts.jsonl --since 7d
      strayline alerts alerts.jsonl --revisions --agent support-assistant-11
      strayline alerts alerts.jsonl --id 09723fdf4fd7c7625af0cb1b
      strayline alerts --follow --since now
      strayline alerts --json > alerts.jsonl
    """
    if follow and (files or last):
        raise click.UsageError(
            f"--follow waits for what comes on agent.access.alerts: leave {'FILE' if files else '--last'} out, or --follow"
        )
    for file in files:
        if re.fullmatch(r"\d+[hd]?", file) and not Path(file).exists():
            raise click.UsageError(
                f"there is no file {file!r}; for the alerts of a time give --since 24h, 7d or 2026-03-12"
            )
    if since == _NOW and not follow:
        raise click.UsageError("--since now shows what comes from now on: it needs --follow")
    settings = load()
    from stream.demo import alert_text  # noqa: PLC0415
    from stream.follow import Choice, Told, alerts_in  # noqa: PLC0415
    from stream.follow import alerts as read  # noqa: PLC0415

    news = follow and last is None and not as_json
    if last is None:
        last = not (follow or as_json)

    def tell(alert: Alert, value: bytes) -> None:
        click.echo(
            value if as_json else alert_text(alert, told.opened(alert), told.beside(alert), how_it_stands=not news)
        )

    def read_so_far() -> None:
        begin = told.settle()
        if begin:
            click.echo(
                f"since {begin}, counted back from the last strange event of an alert there, of {told.newest}", err=True
            )
        if agent_id is not None and agent_id not in told.agents and told.agents:
            click.echo(
                f"of {counted(len(told.alerts), 'alert')} none is of agent {plain(agent_id)!r}{nearest(agent_id, told.agents)}",
                err=True,
            )

    choice = Choice(severity, agent_id, -math.inf if since == _NOW or not isinstance(since, float) else since, alert_id)
    told = Told(choice, tell, every=not news, last=last, span=since if isinstance(since, timedelta) else None)
    if files:
        alerts_in(files, told.read)
        read_so_far()
    else:
        read(settings, told.know if since == _NOW else told.read, told.read, read_so_far, follow=follow)
    told.end()
    if not told.count and (agent_id is None or agent_id in told.agents or not told.agents):
        where = " ".join(files) if files else f"agent.access.alerts on {settings.broker}"
        click.echo(
            f"of {counted(len(told.alerts), 'alert')} none is {_asked(alert_id, told.alerts)}"
            if told.alerts
            else f"no alert in {where}",
            err=True,
        )


def _asked(alert_id: str | None, known: set[str]) -> str:
    """What none is; of an id with those that are like it."""
    if alert_id is None or alert_id in known:
        return "as asked for"
    begin = [x for x in known if x.startswith(alert_id.lower())][:3]
    return f"{plain(alert_id)!r} (an id has 24 characters){nearest(begin[0] if len(begin) == 1 else alert_id.lower(), known)}"


COMMANDS = (topics, produce, alerts, lag, rejects, doctor)
