"""Numbers, amounts and names for reading. Names come from outside, so they are made safe to print first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_OFTEN = "most often "
HEARD = ", as far as its partition has heard"  # once a reason
MOST_PEOPLE = 1 << 53  # the largest whole number that every reader of JSON keeps as it is


# Of a step: a strange one does not count, for what follows it is judged from the same place.
STRAIGHT = " before any usual step of its session"


def number(x: float) -> str:
    """A count for reading.

    >>> number(12345.0), number(3.25)
    ('12,345', '3.2')
    """
    return f"{x:,.0f}" if x >= 10 or x == int(x) else f"{x:.1f}"


def counted(n: float, what: str, many: str = "") -> str:
    """A count with its noun.

    >>> counted(1.0, "record"), counted(1.5, "record"), counted(1200, "delivery", "deliveries")
    ('1 record', '1.5 records', '1,200 deliveries')
    """
    return f"{number(n)} {what if n == 1 else many or f'{what}s'}"


def roughly(n: float) -> int:
    """A count that has faded, to two digits: more would be made up.

    >>> roughly(7.3), roughly(98.6), roughly(461.2), roughly(1234.0)
    (7, 99, 460, 1200)
    """
    whole = round(n)
    return round(whole, 2 - len(str(whole)))


def people(n: int) -> str:
    """How many people, for reading: a sum stops at the largest number that a receiver can hold.

    >>> people(2000), people(1), people(1 << 53)
    ('2,000 people', '1 person', 'at least 9,007,199,254,740,992 people')
    """
    return f"{'at least ' if n >= MOST_PEOPLE else ''}{n:,} {'person' if n == 1 else 'people'}"


def size(x: float) -> str:
    """Bytes for reading, in powers of ten.

    >>> size(532.0), size(1532000.0), size(1.2)
    ('532 bytes', '1.5 MB', '1 byte')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if x >= factor:
            return f"{x / factor:.1f} {unit}"
    return counted(round(x), "byte")


def lasting(seconds: float) -> str:
    """How long, for reading, in whole units of which there are at least two.

    >>> lasting(20.0), lasting(60.0), lasting(7000.0), lasting(11_000.0), lasting(172_800.0)
    ('less than a minute', '1 minute', '116 minutes', '3 hours', '2 days')
    """
    if seconds < 60:
        return "less than a minute"
    unit, length = next((u for u in (("day", 86400), ("hour", 3600)) if seconds >= 2 * u[1]), ("minute", 60))
    n = int(seconds // length)
    return counted(n, unit)


def plain(text: str, most: int = 80) -> str:
    """A name from outside made safe to print: no control characters, no line breaks, bounded length."""
    out = text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
    return out if len(out) <= most else out[: most - 1] + "…"


def first(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many more.

    >>> first(["ada@corp.example"], 48), first(["a", "b", "c"], 48)
    ('ada@corp.example', 'a and 2 more')
    """
    return plain(names[0], most) + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def few(names: Sequence[str], most: int = 3, all_of: int = 0) -> str:
    """A few names, and how many more there are of `all_of`.

    >>> few(["a"]), few(["a", "b", "c"]), few(["a", "b", "c", "d"], all_of=9)
    ('a', 'a, b and c', 'a, b, c and 6 more')
    """
    some, more = [plain(name, 48) for name in names[:most]], max(len(names), all_of) - min(len(names), most)
    return listed([*some, f"{more:,} more"] if more > 0 else some)


def listed(parts: Sequence[str]) -> str:
    """As a sentence lists them.

    >>> listed([]), listed(["a"]), listed(["a", "b", "c"])
    ('', 'a', 'a, b and c')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def expected_values(values: Sequence[str]) -> str:
    """What it does most often, from an agent's most used values: usual it need not be, where no two are the same."""
    return MOST_OFTEN + ", ".join(plain(name, 48) for name in values) if values else "nothing is usual yet"


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is not among those that are known.

    >>> nearest("suport-11", ["support-11", "support-12", "billing-1"]), nearest("x", ["support-11"])
    ('; is one of these meant: support-11, support-12?', '')
    """
    found = get_close_matches(name, list(known), 3, 0.75)
    return (
        f"; is {'this' if len(found) == 1 else 'one of these'} meant: {', '.join(map(plain, found))}?" if found else ""
    )
