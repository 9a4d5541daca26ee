"""The simulated company: its types of agents, their tools, and the people, channels and partners they write to.

One table per type is all that sets the types apart. Names are invented; outside domains end in `.example`, which nobody can own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple, TypeVar

HOME = "northwind.example"
LADDER = ("public", "internal", "confidential", "restricted")
HOUR = 3600.0
DAY = 86400.0

Event = dict[str, Any]
Party = dict[str, Any]
T = TypeVar("T")


class Tool(NamedTuple):
    """What one tool does in an agent's hands: `records` and `size` are medians (rows, and bytes a row)."""

    name: str
    action: str
    scope: str
    tree: str
    rungs: str
    weight: float
    records: float
    size: float
    stage: int
    audience: str = ""
    approved: float = 0.0


class AgentType(NamedTuple):
    """A cohort: `hours` in UTC, `sessions` a weekday, `length` calls a session, `weekend` the share of work then."""

    name: str
    share: float
    version: str
    hours: tuple[float, float]
    sessions: float
    length: float
    weekend: float
    areas: tuple[str, ...]
    tools: tuple[Tool, ...]


SUPPORT = AgentType("support-assistant", 0.27, "5.2.0", (6.5, 19.0), 8.0, 8.0, 0.35, ("north", "south", "islands", "trade"), (
    Tool("tickets.find", "search", "tickets:read", "helpdesk/queues/{area}", "internal", 2.0, 12, 500, 0),
    Tool("tickets.open", "read", "tickets:read", "helpdesk/tickets/{area}/{n}", "internal confidential", 4.0, 1, 6000, 0),
    Tool("articles.find", "search", "articles:read", "helpdesk/articles/{area}/{n}", "public internal", 1.5, 5, 4000, 0),
    Tool("profiles.view", "read", "profiles:read", "customers/profiles/{area}/{n}", "confidential", 3.0, 1, 2500, 1),
    Tool("orders.view", "read", "orders:read", "orders/{area}/{n}", "internal", 2.0, 3, 900, 1),
    Tool("identity.view", "read", "identity:read", "customers/identity/{area}/{n}", "restricted", 0.25, 1, 1800, 1),
    Tool("refunds.request", "write", "refunds:write", "orders/refunds/{area}/{n}", "confidential", 0.4, 1, 700, 2),
    Tool("tickets.note", "write", "tickets:write", "helpdesk/tickets/{area}/{n}", "internal confidential", 1.2, 1, 1200, 2),
    Tool("replies.send", "send", "replies:send", "helpdesk/tickets/{area}/{n}", "internal", 2.0, 1, 3000, 3, "customer"),
    Tool("channels.post", "share", "channels:post", "helpdesk/tickets/{area}/{n}", "internal", 0.5, 1, 900, 3, "channel", 0.3),
    Tool("desk.escalate", "share", "desk:share", "customers/identity/{area}/{n}", "restricted", 0.15, 1, 1500, 3, "desk", 0.9),
    Tool("agents.handoff", "send", "agents:send", "helpdesk/tickets/{area}/{n}", "internal confidential", 0.15, 1, 2500, 3, "agent"),
    Tool("recordings.fetch", "read", "recordings:read", "helpdesk/recordings/{area}/{n}", "confidential", 0.01, 1, 900000, 1),
))  # fmt: skip
SALES = AgentType("sales-copilot", 0.2, "3.0.4", (7.0, 18.0), 6.5, 8.0, 0.06, ("retail", "wholesale", "export", "public-sector"), (
    Tool("accounts.find", "search", "accounts:read", "accounts/{area}", "internal", 2.0, 20, 400, 0),
    Tool("accounts.view", "read", "accounts:read", "accounts/{area}/{n}", "confidential", 4.0, 1, 5000, 0),
    Tool("meetings.list", "list", "calendar:read", "calendar/{area}", "internal", 1.5, 8, 300, 0),
    Tool("decks.view", "read", "decks:read", "library/decks/{area}/{n}", "internal public", 2.0, 1, 400000, 1),
    Tool("contracts.view", "read", "contracts:read", "contracts/{area}/{n}", "confidential", 0.7, 1, 60000, 1),
    Tool("quotes.draft", "write", "quotes:write", "quotes/{area}/{n}", "confidential", 1.5, 4, 1500, 2),
    Tool("partners.mail", "send", "partners:send", "quotes/{area}/{n}", "confidential internal", 0.9, 2, 30000, 3, "partner", 0.4),
    Tool("prospects.mail", "send", "prospects:send", "library/decks/{area}/{n}", "internal public", 0.6, 1, 90000, 3, "customer"),
    Tool("colleagues.mail", "send", "mail:send", "accounts/{area}/{n}", "internal confidential", 0.9, 1, 8000, 3, "person"),
    Tool("decks.share", "share", "decks:share", "library/decks/{area}/{n}", "internal", 0.35, 1, 300000, 3, "group", 0.3),
    Tool("forecast.view", "read", "forecast:read", "finance/forecast/{area}/{n}", "confidential", 0.01, 30, 400, 1),
))  # fmt: skip
FINANCE = AgentType("finance-reconciler", 0.13, "1.9.2", (0.5, 4.5), 5.0, 12.0, 0.5, ("emea", "americas", "apac", "treasury"), (
    Tool("ledger.query", "read", "ledger:read", "finance/ledger/{area}/{n}", "confidential", 4.0, 400, 220, 0),
    Tool("statements.fetch", "read", "statements:read", "finance/statements/{area}/{n}", "restricted", 2.0, 150, 300, 0),
    Tool("invoices.view", "read", "invoices:read", "finance/invoices/{area}/{n}", "confidential internal", 3.0, 6, 3000, 1),
    Tool("payments.list", "list", "payments:read", "finance/payments/{area}", "restricted", 1.0, 60, 250, 1),
    Tool("invoices.match", "write", "invoices:write", "finance/invoices/{area}/{n}", "confidential", 2.5, 6, 600, 2),
    Tool("bank.submit", "send", "bank:send", "finance/payments/{area}/{n}", "restricted", 0.4, 40, 300, 3, "service", 1.0),
    Tool("reports.publish", "share", "reports:share", "finance/reports/{area}/{n}", "confidential", 0.5, 80, 400, 3, "group", 0.5),
    Tool("mismatch.notify", "send", "mail:send", "finance/invoices/{area}/{n}", "confidential internal", 0.6, 2, 2000, 3, "person"),
    Tool("assets.list", "list", "assets:read", "finance/assets/{area}", "confidential", 0.01, 200, 200, 1),
))  # fmt: skip
HR = AgentType("hr-onboarding", 0.12, "2.1.0", (7.0, 17.0), 5.5, 8.0, 0.05, ("offices", "warehouses", "remote", "contractors"), (
    Tool("people.find", "search", "people:read", "people/{area}", "internal", 1.5, 8, 300, 0),
    Tool("people.view", "read", "people:read", "people/{area}/{n}", "restricted confidential", 4.0, 1, 4000, 0),
    Tool("forms.collect", "read", "forms:read", "people/forms/{area}/{n}", "confidential", 2.0, 2, 40000, 1),
    Tool("agreements.fill", "write", "agreements:write", "people/agreements/{area}/{n}", "confidential", 1.2, 1, 30000, 2),
    Tool("accounts.request", "grant", "access:grant", "access/requests/{area}/{n}", "internal", 0.8, 1, 500, 2),
    Tool("payroll.enrol", "write", "payroll:write", "people/payroll/{area}/{n}", "restricted", 0.5, 1, 900, 2, "", 0.8),
    Tool("welcome.send", "send", "mail:send", "people/guides/{area}/{n}", "internal public", 1.2, 1, 60000, 3, "person"),
    Tool("benefits.send", "send", "benefits:send", "people/benefits/{area}/{n}", "confidential", 0.4, 1, 9000, 3, "partner", 0.6),
    Tool("starters.post", "share", "channels:post", "people/guides/{area}/{n}", "internal", 0.3, 1, 1500, 3, "channel", 0.3),
    Tool("reviews.view", "read", "appraisals:read", "people/appraisals/{area}/{n}", "restricted", 0.01, 1, 12000, 1),
))  # fmt: skip
REVIEW = AgentType("code-reviewer", 0.16, "7.4.0", (7.0, 20.0), 6.5, 9.0, 0.15, ("storefront", "fulfilment", "billing", "platform"), (
    Tool("changes.list", "list", "repos:read", "repos/{area}/changes", "internal", 1.5, 10, 600, 0),
    Tool("diffs.view", "read", "repos:read", "repos/{area}/changes/{n}", "internal", 4.0, 6, 2500, 0),
    Tool("files.view", "read", "repos:read", "repos/{area}/files/{n}", "internal confidential", 4.0, 1, 9000, 1),
    Tool("advisories.find", "search", "advisories:read", "advisories/{area}/{n}", "public", 0.7, 6, 2000, 1),
    Tool("builds.run", "execute", "builds:run", "builds/{area}/{n}", "internal", 1.0, 1, 20000, 2),
    Tool("comments.write", "write", "repos:comment", "repos/{area}/changes/{n}", "internal", 2.0, 2, 700, 2),
    Tool("findings.post", "share", "channels:post", "repos/{area}/changes/{n}", "internal", 0.5, 1, 1200, 3, "channel", 0.2),
    Tool("authors.mail", "send", "mail:send", "repos/{area}/changes/{n}", "internal", 0.5, 1, 2000, 3, "person"),
    Tool("settings.view", "read", "repos:admin", "repos/{area}/settings", "confidential", 0.012, 1, 3000, 1),
    Tool("secrets.list", "list", "secrets:read", "vault/{area}", "restricted", 0.006, 9, 120, 1),
    Tool("deploys.start", "execute", "deploys:run", "deploys/{area}/{n}", "confidential", 0.012, 1, 900, 2),
))  # fmt: skip
ANALYST = AgentType("data-analyst", 0.12, "4.6.1", (6.5, 18.5), 6.0, 9.0, 0.1, ("sales", "supply", "shoppers", "web"), (
    Tool("catalog.find", "search", "catalog:read", "warehouse/catalog/{area}", "internal", 1.5, 15, 400, 0),
    Tool("tables.describe", "read", "catalog:read", "warehouse/{area}/{n}/schema", "internal", 1.5, 20, 80, 0),
    Tool("tables.query", "read", "warehouse:read", "warehouse/{area}/{n}", "confidential internal", 5.0, 900, 110, 1),
    Tool("shoppers.query", "read", "warehouse:personal", "warehouse/personal/{area}/{n}", "restricted", 0.5, 120, 160, 1),
    Tool("notebooks.run", "execute", "notebooks:run", "notebooks/{area}/{n}", "internal", 1.5, 1, 40000, 2),
    Tool("datasets.save", "write", "warehouse:write", "warehouse/{area}/{n}", "confidential internal", 0.8, 500, 110, 2),
    Tool("charts.share", "share", "charts:share", "charts/{area}/{n}", "internal confidential", 0.7, 60, 90, 3, "group", 0.3),
    Tool("summary.mail", "send", "mail:send", "charts/{area}/{n}", "internal", 0.5, 30, 90, 3, "person"),
    Tool("extracts.send", "send", "extracts:send", "warehouse/extracts/{area}/{n}", "confidential", 0.25, 300, 120, 3, "partner", 0.9),
    Tool("archive.restore", "read", "archive:read", "archive/{area}/{n}", "confidential", 0.0, 400, 110, 1),
))  # fmt: skip
TYPES = (SUPPORT, SALES, FINANCE, HR, REVIEW, ANALYST)
ROLLED_OUT = Tool("licences.check", "execute", "licences:read", "licences/{area}/{n}", "internal", 1.2, 12, 700, 2)
TYPE = {each.name: each for each in TYPES}
OWNER = {tool.name: each for each in TYPES for tool in each.tools}
TOOL = {tool.name: tool for each in TYPES for tool in each.tools}

GIVEN = ["anouk", "bela", "chidi", "dana", "emre", "farah", "goran", "hana", "ivo", "jonas", "kaja", "leif", "mira", "nuno", "oona", "pavel", "rosa", "sena", "tomas", "ute", "vera", "yusuf"]  # fmt: skip
FAMILY = ["abara", "brandt", "castell", "dorr", "eklund", "ferro", "gallo", "hoven", "ibsen", "jansky", "kovac", "lund", "moreau", "novak", "okoye", "petrov", "quist", "rask"]  # fmt: skip
FIRMS = ["alder", "birch", "cedar", "dune", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kestrel", "lumen", "marlow", "nimbus", "orchard", "pebble"]  # fmt: skip
TRADES = ["freight", "foods", "tools", "textiles", "legal", "print", "audit", "cargo"]  # fmt: skip
CLEARED = ("internal", *["confidential"] * 7, *["restricted"] * 2)
MAILBOXES = ("postbox.example", "inboxly.example", "mailhaven.example", "letterbird.example")
FORUM: Party = {"id": "#engineering-forum", "type": "channel", "clearance": "internal", "size": 2000}
EVERYONE: Party = {
    "id": f"all-staff@{HOME}",
    "type": "group",
    "domain": HOME,
    "clearance": "internal",
    "size": 2600,
}
DESK: Party = {
    "id": f"identity-desk@{HOME}",
    "type": "group",
    "domain": HOME,
    "clearance": "restricted",
    "size": 14,
}
BANK: Party = {
    "id": "payments.harbor-bank.example",
    "type": "service",
    "domain": "harbor-bank.example",
    "clearance": "restricted",
}


@dataclass(frozen=True)
class Agent:
    """One agent, as it is from day `first` until day `last`; a change of job or tools is another `Agent` of the same id."""

    agent_id: str
    agent_type: str
    version: str
    first: float
    last: float
    tools: tuple[Tool, ...]
    weights: tuple[float, ...]
    volume: dict[str, float]
    areas: tuple[str, ...]
    principals: tuple[str, ...]
    contacts: dict[str, list[Party]]
    pace: float


class Session(NamedTuple):
    """One run on behalf of one person, about one or a few cases in one area."""

    session_id: str
    principal: str
    area: str
    cases: tuple[int, ...]


def person(rng: Random, cleared: str = "internal") -> Party:
    """Return a colleague who is cleared for that much at least; most are cleared for confidential data."""
    while True:
        given, family = rng.randrange(len(GIVEN)), rng.randrange(len(FAMILY))
        # A name has one clearance, wherever it comes up.
        clearance = CLEARED[(7 * given + 3 * family) % len(CLEARED)]
        if LADDER.index(clearance) >= LADDER.index(cleared):
            address = f"{GIVEN[given]}.{FAMILY[family]}@{HOME}"
            return {"id": address, "type": "user", "domain": HOME, "clearance": clearance}


def outsider(rng: Random, domain: str = "") -> Party:
    """Return someone at another organisation, or with a mailbox of their own."""
    where = domain or (rng.choice(MAILBOXES) if rng.random() < 0.6 else firm(rng))
    return {"id": f"{rng.choice(GIVEN)}.{rng.choice(FAMILY)}@{where}", "type": "email", "domain": where}


def firm(rng: Random) -> str:
    """Return the domain of one of some hundred firms."""
    return f"{rng.choice(FIRMS)}-{rng.choice(TRADES)}.example"


def hire(rng: Random, kind: AgentType, number: int, staff: list[Party], first: float, last: float) -> Agent:
    """Return a new agent of a type, with habits of its own.

    Its peers' tools are its tools, in a mixture of its own; so are its two or three areas, its principals, and whom it writes to.
    """
    areas = tuple(rng.sample(kind.areas, rng.choice((2, 2, 3))))
    partners = [firm(rng) for _ in range(rng.choice((2, 2, 3)))]
    rooms: list[Party] = [
        {"id": f"#{kind.name.split('-')[0]}-{area}", "type": "channel", "clearance": "confidential", "size": 18 + 7 * len(area)} for area in areas
    ]  # fmt: skip
    groups: list[Party] = [
        {"id": f"{kind.name.split('-')[0]}-{area}@{HOME}", "type": "group", "domain": HOME, "clearance": "confidential", "size": 5 + len(area)}
        for area in areas
    ]  # fmt: skip
    if kind is REVIEW:
        rooms.append(FORUM)
    weights = [tool.weight * rng.lognormvariate(0, 0.4) for tool in kind.tools]
    return Agent(
        agent_id=f"{kind.name}-{number:02}",
        agent_type=kind.name,
        version=kind.version,
        first=first,
        last=last,
        tools=kind.tools,
        weights=tuple(accumulate(weights)),
        volume={tool.name: rng.lognormvariate(0, 0.25) for tool in kind.tools},
        areas=areas,
        principals=tuple(rng.choice(staff)["id"] for _ in range(rng.choice((2, 3, 4)))),
        contacts={
            "customer": [outsider(rng) for _ in range(25)],
            "partner": [outsider(rng, domain) for domain in partners for _ in range(rng.choice((1, 2)))],
            "person": [rng.choice(staff) for _ in range(rng.choice((6, 9, 12)))],
            "channel": rooms,
            "group": groups,
            "desk": [DESK],
            "service": [BANK],
            "agent": [],
        },
        pace=rng.lognormvariate(0, 0.25),
    )


def often_first(rng: Random, items: Sequence[T]) -> T:
    """Return one of the items, the earlier ones much more often: everybody has favourites."""
    return items[int(len(items) * rng.random() ** 2)]


def begin(rng: Random, agent: Agent, cases: int = 0) -> Session:
    """Open a session of an agent, by default on one to three cases; low numbers are recent and come up again and again."""
    numbers = tuple(1000 + int(4000 * rng.random() ** 2) for _ in range(cases or rng.choice((1, 2, 3))))
    return Session(
        f"s-{rng.getrandbits(40):010x}",
        often_first(rng, agent.principals),
        often_first(rng, agent.areas),
        numbers,
    )


def access(
    rng: Random, agent: Agent, tool: Tool, at: float, session: Session, scale: float = 1.0, **given: object
) -> Event:
    """Return one successful call as this agent usually makes it, at `at` seconds since the epoch.

    `scale` multiplies the records (and so the bytes); `given` are fields of the event to set, or to leave out where None.
    """
    case = rng.choice(session.cases)
    usual, _, other = tool.rungs.partition(" ")
    event: Event = {
        "event_id": "",
        "time": at,
        "agent_id": agent.agent_id,
        "agent_type": agent.agent_type,
        "agent_version": agent.version,
        "principal": session.principal,
        "session_id": session.session_id,
        "action": tool.action,
        "tool": tool.name,
        "resource": tool.tree.format(area=session.area, n=case),
        "classification": other if other and case % 6 == 0 else usual,
        "scopes": [tool.scope],
    }
    spread = 0.7 if tool.records >= 4 else 0.35
    records = max(1, round(tool.records * agent.volume.get(tool.name, 1.0) * scale * math.exp(rng.gauss(0, spread))))
    event["records"] = records
    event["bytes"] = max(16, round(records * tool.size * math.exp(rng.gauss(0, 0.35))))
    if tool.audience:
        contacts = agent.contacts[tool.audience]
        event["recipients"] = [often_first(rng, contacts) if contacts else person(rng)]
        if rng.random() < tool.approved:
            event["approved"] = rng.random() < 0.97
    event.update(given)
    for field in [name for name, value in given.items() if value is None]:
        del event[field]
    return event
