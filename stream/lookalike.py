"""A recipient that looks like one that is known: the same mailbox at another domain, or a domain that is spelt nearly as another.

Whoever sends work home, mistypes an address, or was talked into a made-up one reaches such. It stands beside what is strange and pays nothing.

What it misses: all but the person it acts for and the few recipients and domains that the agent sends to most; names that differ in more than a letter or two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from stream.words import plain

MOST_LOOKED_AT = 8  # recipients of an event
SHORTEST, LONG = 5, 10  # letters of a domain's name: of shorter ones many are alike; in one so long two may differ
_LONGEST = 253  # letters that a domain has at the most
# Letters of other alphabets, and figures, that look like Latin ones (of Unicode's confusables.txt those that a domain is made up with).
_SEEN_AS = str.maketrans("авеіјкмнорԛѕтуԝхԁһӏαοερτυικνχ01", "abeijkmhopqstywxdhlaoeptuiknxol")  # noqa: RUF001
_NUMBER = re.compile(r"\d+")
_POINTS = re.compile(r"[._-]+")


def looks_like(
    recipients: Iterable[tuple[str, str]], principal: str | None, known: Sequence[str], domains: Sequence[str]
) -> tuple[str, str, str] | None:
    """Of recipients, each with its domain, the first that looks like the principal, a known recipient or a known domain (most used first): it, what it is like, and the two in words.

    >>> looks_like([("ada.lee@mail.example", "mail.example")], "ada.lee@corp.example", [], [])[2]
    'ada.lee@mail.example has the name of ada.lee@corp.example, for whom it acts, at another domain'
    >>> looks_like([("kim@c0rp.example", "c0rp.example")], "ada.lee@corp.example", [], [])[2]
    'the domain of kim@c0rp.example looks like corp.example, that of ada.lee@corp.example'
    """
    people = [(principal, "for whom it acts")] if principal else []
    people += [(name, "to whom it has sent") for name in known]
    places = [(_domain(principal), f"that of {plain(principal, 48)}")] if principal else []
    places += [(domain, "to which it has sent") for domain in (*domains, *map(_domain, known))]
    places = [(place, whose) for place, whose in places if place]
    for recipient, domain in recipients:
        if not domain or (principal and _is_within(domain, _domain(principal).lower())):
            continue
        said = plain(recipient, 64)
        for name, who in people:
            if recipient == name:
                break
            if _is_namesake(recipient, domain, name):
                return recipient, name, f"{said} has the name of {plain(name, 64)}, {who}, at another domain"
        for place, whose in places:
            if _is_within(domain, place.lower()):  # what it has sent to less often may be what looks like this one
                break
            if alike(domain, place.lower()):
                return recipient, place, f"the domain of {said} looks like {plain(place, 64)}, {whose}"
    return None


def _domain(name: str) -> str:
    return name.rpartition("@")[2] if "@" in name else ""


def _is_namesake(recipient: str, domain: str, name: str) -> bool:
    """Whether a mailbox is called as another, as people's are: many firms have one called sales. Points count for nothing, nor does a number behind a name that has none: ada.lee is adalee83 elsewhere."""
    mailbox, of = recipient.rpartition("@")[0].lower(), name.rpartition("@")[0].lower()
    is_person = any(c in ".-_" or c.isdigit() for c in of) and len(of) >= SHORTEST
    if not is_person or _is_within(domain, _domain(name).lower()):
        return False
    mailbox, of = _POINTS.sub("", mailbox), _POINTS.sub("", of)
    return of in {mailbox, mailbox.rstrip("0123456789")}


def _is_within(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


@lru_cache(4096)  # an agent's usual domains are few
def alike(domain: str, known: str) -> bool:
    """Whether a domain, in lower case, is another than a known one and not within it, but spelt nearly so.

    >>> alike("corp.example.net", "corp.example"), alike("corp-example.net", "corp.example"), alike("mail.corp.example", "corp.example")
    (True, True, False)
    """
    if _is_within(domain, known) or "." not in known or len(domain) > _LONGEST:
        return False
    if domain.startswith(f"{known}.") or f".{known.replace('.', '-')}" in f".{domain}":
        return True
    one, other = _seen(domain), _seen(known)
    if one == other:
        return True
    if _NUMBER.search(known) and _NUMBER.sub("0", domain) == _NUMBER.sub("0", known):  # a series of them
        return False
    one, other = one.rpartition(".")[0], other.rpartition(".")[0]
    n = max(len(one), len(other))
    if min(len(one), len(other)) < SHORTEST:
        return False
    # A letter that is put for another, left out or added takes one of n from the ratio at the most.
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= 1.0 - (2.0 if n >= LONG else 1.0) / n


def _seen(domain: str) -> str:
    """As it looks to a reader: without accents, and in Latin letters."""
    if "xn--" in domain:
        try:
            domain = domain.encode("ascii").decode("idna")
        except UnicodeError:
            return domain
    bare = "".join(c for c in unicodedata.normalize("NFKD", domain) if not unicodedata.combining(c))
    return bare.translate(_SEEN_AS).replace("rn", "m").replace("vv", "w")
