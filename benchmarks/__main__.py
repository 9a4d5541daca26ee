"""`python -m benchmarks [speed] [detection] [floods] [transport] [worker] [agents] [soak] [scale] [ablation] [robustness] [partitions] [pair]`: by default the first six, what `make bench` prints.

Each section prints its tables beside the peers of the same run and keeps the numbers in `bench-out/`.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks import transport
from benchmarks.ablation import ablation
from benchmarks.agents import agents
from benchmarks.detection import detection
from benchmarks.floods import floods
from benchmarks.kafka import missing
from benchmarks.pair import pair
from benchmarks.partitions import partitions
from benchmarks.report import save, say, table, warn
from benchmarks.robustness import robustness
from benchmarks.scale import scale
from benchmarks.speed import speed
from benchmarks.worker import MINUTES, soak, worker

SECTIONS = (
    "speed",
    "detection",
    "floods",
    "transport",
    "worker",
    "agents",
    "soak",
    "scale",
    "ablation",
    "robustness",
    "partitions",
    "pair",
)
DEFAULT = SECTIONS[:6]
TRANSPORT_RECORDS = (
    100_000  # a third of what `python -m benchmarks.transport` reads: the slowest reader takes minutes over that
)


def _transport() -> None:
    lack = missing()
    if lack is not None:
        warn(f"TRANSPORT NOT MEASURED: {lack}")
        return
    transport.RECORDS = TRANSPORT_RECORDS
    say(f"transport: a broker, and each reader in turn over {transport.RECORDS:,} records …")
    rates = transport.run()
    slowest = min(rate for _, rate in rates)
    table(
        "Records from Kafka to Python, nothing done with them",
        ["reader", "events/s", "ratio"],
        [[name, f"{rate:,.0f}", f"{rate / slowest:.1f} x"] for name, rate in rates],
    )
    save("transport", dict(rates))


def main() -> int:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"{', '.join(SECTIONS)}; default {', '.join(DEFAULT)}",
    )
    parser.add_argument("--sets", default="", help="only these labelled sets, separated by commas")
    parser.add_argument(
        "--soak-minutes", type=float, default=MINUTES, help="how long the soak lasts (default %(default)g)"
    )
    parser.add_argument("--no-peers", action="store_true", help="detection of ours alone: the peers are slow")
    args = parser.parse_args()
    sections = args.sections or list(DEFAULT)
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    sets = [name for name in args.sets.split(",") if name]
    begin = time.perf_counter()
    for section in SECTIONS:
        if section not in sections:
            continue
        if section == "speed":
            speed()
        elif section == "detection":
            detection(sets, peers=not args.no_peers)
        elif section == "transport":
            _transport()
        elif section == "worker":
            worker()
        elif section == "agents":
            agents()
        elif section == "soak":
            soak(args.soak_minutes)
        elif section == "scale":
            scale()
        elif section == "floods":
            floods()
        elif section == "robustness":
            robustness(sets)
        elif section == "partitions":
            partitions(sets)
        elif section == "pair":
            pair()
        else:
            ablation(sets)
    say(f"benchmarks: {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
