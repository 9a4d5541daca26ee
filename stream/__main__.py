"""The command line: `strayline --help`. Each command imports what it needs when it runs, so help is instant."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
import structlog

from stream import analyst, operations
from stream.errors import SettingsError, StraylineError
from stream.log import Log, let_go
from stream.settings import SETTINGS, host_port, load
from stream.words import counted

if TYPE_CHECKING:
    from stream.files import Lines
    from stream.settings import Settings

_SETTINGS_HELP = "\b\nSettings, from the environment:\n" + "\n".join(
    f"  {s.name}={s.default or '(empty)'}\n      {s.help}" for s in SETTINGS
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_SETTINGS_HELP)
@click.version_option(package_name="strayline", prog_name="strayline")
def main_group() -> None:
    """Tells within seconds, and in words, that one of your AI agents has strayed: more data than usual for it, permissions
    or data that it never uses, or recipients who should not have it.

    \b
    Start here:
      strayline demo                                       a simulated fleet, no broker
      strayline replay events.jsonl --alerts alerts.jsonl  your own events from a file
      strayline topics --partitions 4 && strayline worker  live, on Kafka
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", Log())),
    )


@main_group.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["access"]),
    default="access",
    show_default=True,
    help="What a line is: `access` events of the contract.",
)
@click.option(
    "--scores", metavar="PATH", help="Write one score a line for each event, in order (`-`: standard output)."
)
@click.option("--alerts", metavar="PATH", help="Write every alert revision as a line (`-`: standard output).")
@click.option(
    "--rejects",
    metavar="PATH",
    help="Write every record that could not be used, with its reason and its bytes.",
)
@click.option(
    "--verdicts", metavar="PATH", help="Heed the verdicts of a file (`strayline verdict --to`), each at its time."
)
def replay(
    files: tuple[str, ...],
    format_: str,
    scores: str | None,
    alerts: str | None,
    rejects: str | None,
    verdicts: str | None,
) -> None:
    """Score events from files, with no broker.

    FILE is JSON Lines, plain or compressed (.gz, .zst); `-` is standard input. Files are read in the order given, as one
    stream. The same events give the same bytes out. The exit status is 0 when everything was read, rejects included.

    \b
    Example:
      strayline replay mon.jsonl.gz tue.jsonl.gz --alerts alerts.jsonl --rejects rejects.jsonl
    """
    del format_  # one format so far
    _refuse_shared((*files, *([verdicts] if verdicts else [])), [path for path in (scores, alerts, rejects) if path])
    settings = load()
    from stream.fields import told  # noqa: PLC0415
    from stream.replay import FIRST_DAY  # noqa: PLC0415
    from stream.replay import replay as run  # noqa: PLC0415

    _compile(settings)
    begin = time.perf_counter()
    with _progress(files) as tick:
        _, summary = run(settings, files, scores, alerts, rejects, tick, verdicts)
    seconds = time.perf_counter() - begin
    click.echo(
        f"{counted(summary.events, 'event')}, {counted(summary.rejects, 'reject')}, {counted(summary.alerts, 'alert')} "
        f"({counted(summary.messages, 'message')}) in {seconds:.1f} s"
        + "".join(
            f", {n:,} {what}"
            for n, what in ((summary.late, "late"), (summary.skewed, "skewed"), (summary.repeated, "repeated"))
            if n
        )
        + (
            f"; {'' if rejects else 'see why with --rejects PATH, '}most often: {summary.commonest}"
            if summary.rejects
            else ""
        )
        + (
            ""
            if summary.events
            else "; not one record is an event"
            if summary.rejects
            else "; nothing was there to read"
        ),
        err=True,
    )
    if summary.events:
        click.echo(
            f"at the end alerts open from {summary.threshold:.1f} bits; the highest score was {summary.highest:.1f}; "
            f"{summary.warming:,} of {counted(summary.agents, 'agent')} still warming",
            err=True,
        )
        if summary.young and not summary.alerts:
            click.echo(
                f"no alert means nothing yet: strange is what differs from the days before, and these events are of less than a day; in a fleet's first day "
                f"an alert needs {FIRST_DAY:.0f} bits. Give it some days of events, the past too (`strayline demo --events PATH` writes four weeks to try)",
                err=True,
            )
    if verdicts:
        analyst.tell_heeded(settings, summary, verdicts, files)
    for line in (*told(summary.looked, summary.unknown), *summary.foreign):
        click.echo(line, err=True)


@main_group.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another fleet.")
@click.option("--agents", type=click.IntRange(12, 5000), default=60, show_default=True, help="Agents in the fleet.")
@click.option("--days", type=click.IntRange(5, 365), default=28, show_default=True, help="Days that pass.")
@click.option("--events", "events_path", metavar="PATH", help="Write the simulated events to a file as well.")
@click.option("--quiet", is_flag=True, help="With --events: write them, and play nothing.")
@click.option(
    "--to-kafka",
    is_flag=True,
    help="Produce the simulated events to agent.access.events instead of scoring them here. They are dated in the simulated weeks, "
    "from 2 March 2026 on, whatever the seed: after others on the same topic they count as late.",
)
def demo(seed: int, agents: int, days: int, events_path: str | None, quiet: bool, to_kafka: bool) -> None:
    """Watch a simulated fleet of AI agents live through four weeks, with incidents planted in it.

    Six types of agents with weekdays, nightly batches, a rollout, new hires, a role change and a quarter's end; and one incident of each
    kind, first among them: an assistant reads restricted user data, then posts to a channel of 2,000 people most of whom
    lack the clearance, without approval. Alerts appear as they open; the end says what was planted, found, missed
    and falsely raised.
    """
    if quiet and not events_path:
        raise click.UsageError("--quiet writes events and plays nothing: it needs --events PATH")
    settings = load()
    from stream.demo import account_text, alert_text, play  # noqa: PLC0415
    from stream.files import Output  # noqa: PLC0415
    from stream.simulate import lines, simulate  # noqa: PLC0415

    simulation = simulate(seed, agents, days)
    if events_path:
        output = Output(events_path)
        try:
            output.write(b"".join(lines(simulation)))
            output.keep()
        finally:
            output.discard()
    if quiet and not to_kafka:
        click.echo(f"{counted(len(simulation.events), 'event')} written to {events_path}", err=True)
        return
    if to_kafka:
        from stream.produce import produce  # noqa: PLC0415
        from stream.topics import EVENTS, partitions_of  # noqa: PLC0415

        count, partitions = produce(settings, simulation.events), partitions_of(settings, EVENTS)
        click.echo(f"{counted(count, 'event')} delivered to {EVENTS} on {settings.broker}", err=True)
        if partitions > 1:
            click.echo(
                f"its alerts from {partitions} partitions are not all those of `strayline demo` or of a replay, and may be more: what partitions teach each other comes "
                "a little later than in one process (of the demo without options 84 alerts in one process; on four partitions 95 to 140, the more the further behind the "
                "worker is). Over one partition they are the same",
                err=True,
            )
        return
    click.echo(
        f"{counted(len(simulation.events), 'event')} of {agents} simulated agents over {days} days, "
        f"{counted(len(simulation.incidents), 'incident')} planted, seed {seed}.\n",
        err=True,
    )
    _compile(settings)
    begin = time.perf_counter()
    opened: dict[str, str] = {}
    alerts = play(
        settings,
        simulation,
        lambda a: click.echo(alert_text(a, opened.setdefault(a.alert_id, a.time))),
        lambda _: None,
    )
    click.echo(account_text(simulation, alerts))
    seconds = time.perf_counter() - begin
    click.echo(f"Scored {counted(len(simulation.events), 'event')} in {seconds:.1f} s.")


@main_group.command()
def worker() -> None:
    """Consume events from Kafka, keep baselines, produce alerts. Run as many as there are partitions.

    Needs the topics (`strayline topics`). Serves /metrics, /healthz and /readyz on STRAYLINE_HTTP_HOST:STRAYLINE_HTTP_PORT. SIGTERM drains and
    commits. Baselines are kept on agent.access.baselines, so a restarted worker goes on where it was.
    """
    settings = load()
    gc.disable()  # looking for garbage in what is only being imported is a fifth of the start
    from stream.worker import run  # noqa: PLC0415

    gc.enable()
    sys.exit(run(settings))


for _command in (*operations.COMMANDS, *analyst.COMMANDS):
    main_group.add_command(_command)


def _address(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """HOST:PORT, an IPv6 host in brackets."""
    try:
        if text is not None:
            host_port(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not HOST:PORT, such as localhost:9464; the port is the worker's STRAYLINE_HTTP_PORT"
        ) from None
    return text


@main_group.command()
@click.argument("agent_id")
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option(
    "--worker",
    "address",
    metavar="HOST:PORT",
    callback=_address,
    help="Ask a running worker instead of replaying files.",
)
@click.option(
    "--verdicts", metavar="PATH", help="With files: heed the verdicts and resets of a file, as `strayline replay` does."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def explain(agent_id: str, files: tuple[str, ...], address: str | None, verdicts: str | None, as_json: bool) -> None:
    """What is usual for one agent: tools, permissions, resources, recipients, amounts.

    \b
    Examples:
      strayline explain support-assistant-11 events.jsonl.gz --verdicts verdicts.jsonl
      strayline explain support-assistant-11 --worker localhost:9464
    """
    if bool(files) == bool(address):
        raise click.UsageError("give files to replay, or --worker HOST:PORT of a running worker")
    if verdicts and address:
        raise click.UsageError("--verdicts is for files: a worker has heeded those on its topic")
    settings = load()
    from stream.explain import baseline_text, from_files, from_worker  # noqa: PLC0415

    if address:
        baseline = from_worker(address, agent_id)
    else:
        _compile(settings)
        with _progress(files) as tick:
            baseline, summary = from_files(settings, files, agent_id, tick, verdicts)
        if verdicts:
            analyst.tell_heeded(settings, summary, verdicts, files)
    click.echo(json.dumps(baseline, indent=2, ensure_ascii=False) if as_json else baseline_text(baseline))


def _compile(settings: Settings) -> None:
    """Compile the models, or load them, before the clock runs and a bar stands still."""
    from stream.compiling import on_terminal  # noqa: PLC0415
    from stream.engine import warm_up  # noqa: PLC0415

    with on_terminal():
        warm_up(settings)


def _refuse_shared(files: tuple[str, ...], outputs: list[str]) -> None:
    """Results must not overwrite each other, nor what is read. Devices, pipes and `-` may be named twice."""
    taken = {os.path.realpath(f) for f in files if f != "-"}
    for path in outputs:
        real = os.path.realpath(path)
        if path == "-" or (os.path.exists(real) and not os.path.isfile(real)):  # noqa: PTH110, PTH113
            continue
        if real in taken:
            raise click.UsageError(f"{path} is read, or written, twice in one run; give each result a path of its own")
        taken.add(real)


class _progress:  # noqa: N801
    """A bar on a terminal, over the bytes of the files; silent in a pipe."""

    def __init__(self, files: tuple[str, ...]) -> None:
        sizes = [os.path.getsize(f) for f in files if f != "-" and os.path.isfile(f)]  # noqa: PTH202, PTH113
        self._bar: Any = None
        if sys.stderr.isatty() and sizes and "-" not in files:
            self._bar = click.progressbar(length=sum(sizes), label="scoring", file=sys.stderr)
        self._seen: dict[str, int] = {}

    def __enter__(self) -> Callable[[Lines], None]:
        if self._bar is not None:
            self._bar.__enter__()
        return self._tick

    def _tick(self, lines: Lines) -> None:
        if self._bar is not None:
            self._bar.update(lines.consumed - self._seen.get(lines.path, 0))
            self._seen[lines.path] = lines.consumed

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)


class _Terminated(BaseException):  # no error, and only `main` may catch it: click takes KeyboardInterrupt for itself
    """SIGTERM came."""


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the tidying up
    raise _Terminated


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Run a command; every error the operator can meet becomes one message and an exit status."""
    try:
        # Unless whoever started us has it ignored. The worker puts its own in place, which drains first.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        main_group(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else 1)
    except SettingsError as error:
        click.echo(f"strayline: {error}", err=True)
        sys.exit(2)
    except StraylineError as error:
        click.echo(f"strayline: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("strayline: interrupted; no file was left half-written", err=True)
        sys.exit(130)
    except _Terminated:
        click.echo("strayline: terminated; no file was left half-written", err=True)
        sys.exit(143)
    except BrokenPipeError:
        let_go(sys.stdout)  # the reader has gone
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        let_go(sys.stdout)
        click.echo(
            f"strayline: standard output could not be written: {error.strerror}; free space, then run again", err=True
        )
        sys.exit(1)
    finally:
        let_go(sys.stderr)
        if signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    main()
