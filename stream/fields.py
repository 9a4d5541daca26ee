"""Fields that the contract does not have. They are no error, but one that is misspelled is one that nothing sees.

To look at each name costs more than to score its event, so a sample is looked at: the first 200 events, then every thousandth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import cast

from stream.codec import FIELDS, unknown_fields
from stream.words import counted, plain

FIRST = 200
EVERY = 1000
_MOST_NAMES = 100  # to tell of; whoever makes names up must not fill the memory
_MOST_TEXT = 80
# What others call it, the likeliest first: OCSF, ECS, CloudTrail, OpenTelemetry, gateways and everyday words. Without case and signs: `toolName`
# is `toolname`, `@timestamp` is `timestamp`.
_ELSEWHERE = {
    "event_id": "eventuuid uuid uid guid metadatauid logid recordid insertid messageid toolcallid callid spanid requestid id uniquequalifier",
    "time": "timestamp timestampms timems timestampmillis epochms eventtime datetime ts timegenerated occurredat createdat startedat starttime requesttime "
            "loggedat timeunixnano unixtime epoch date at when starttimeunixnano creationtime creationdate idtime",
    "agent_id": "agent agentname assistantid assistant assistantname botid bot botname actorid actor actorname serviceaccount clientid caller appid "
                "useridentityarn useridentityinvokedby protopayloadauthenticationinfoprincipalemail attributesservicename",
    "agent_type": "agentkind agentclass agentrole assistanttype bottype",
    "agent_version": "agentrelease assistantversion botversion appversion release",
    "action": "verb operation operationname op eventaction actiontype eventname activity activityname eventtype command method methodname activitydisplayname operations",
    "tool": "toolname toolid function functionname apiname api endpoint eventsource workload paramsname protopayloadservicename",
    "principal": "onbehalfof actingfor userid useremail username enduser user principalid principalname requester initiator subject upn enduserid userids actoremail "
                 "useridentityusername useridentityprincipalid",
    "session_id": "session conversationid conversation threadid chatid runid traceid",
    "resource": "objectpath resourceid resourcename resourcepath resourceuri target targetresource uri url path objectkey object filepath filename file document documentid "
                "dataset table urlfull datasourceid bucketname tablename secretid objectid paramsuri",
    "classification": "dataclass dataclassification datasensitivity sensitivity sensitivitylabel classificationlabel datalabel label confidentiality",
    "scopes": "scope scopesused oauthscopes permissionsused permissions permission grants",
    "bytes": "bytesout bytessent bytestransferred bytescount sizebytes sizeinbytes responsebytes responsesize payloadsize datasize contentlength nbytes size bytesin "
             "bytestransferredout",
    "records": "recordcount recordsreturned numrecords recordscount rows rowcount rowsreturned numrows itemcount items resultcount count",
    "recipients": "recipient recipientids recipientlist sharedwith sentto to destinations audience",
    "approved": "isapproved humanapproved userapproved approvedbyhuman",
    "outcome": "status result resultstatus statuscode decision errorcode errortype exceptiontype error errormessage",
}  # fmt: skip
_RANKS = {
    name: (field, rank)
    for field, names in _ELSEWHERE.items()
    for rank, name in enumerate((field.replace("_", ""), *names.split()))
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# What stands before names that are agreed upon (OpenTelemetry's).
_SAYS_NOTHING = re.compile(r"^(attributes\.|tags\.)?(gen_ai\.)?")
# Alone `id` and `agent` say what they are; as the end of a longer name (`tenantId`, `userAgent`) they do not.
_LEAST_WORDS = 2


class Fields:
    """What was found among the events so far. The same events give the same, wherever batches are cut."""

    def __init__(self) -> None:
        self.looked = 0  # events
        self.unknown: Counter[str] = Counter()  # field → events that have it, of those looked at
        self._events = 0

    def look(self, records: Sequence[bytes | None], kept: Sequence[int]) -> tuple[int, list[str]]:
        """Look at a sample of a batch's events, `kept` of its records: how many fields were unknown, and those never met before."""
        begin, self._events = self._events, self._events + len(kept)
        sample = [*range(begin, min(FIRST, self._events)), *range(_next(max(begin, FIRST)), self._events, EVERY)]
        found = 0
        new: list[str] = []
        for number in sample:
            names = unknown_fields(cast("bytes", records[kept[number - begin]]))
            found += len(names)
            for name in sorted(plain(name, _MOST_TEXT) for name in names):
                if name not in self.unknown and len(self.unknown) >= _MOST_NAMES:
                    continue
                if name not in self.unknown:
                    new.append(name)
                self.unknown[name] += 1
        self.looked += len(sample)
        return found, new


def told(looked: int, unknown: Iterable[tuple[str, int]]) -> Iterator[str]:
    """A line for each unknown field: in how many of the events that were looked at it is, and what to do."""
    for name, n in unknown:
        yield f"unknown field `{name}` in {n:,} of {counted(looked, 'event')} looked at; {meant(name)}"


def _next(number: int) -> int:
    return -(-number // EVERY) * EVERY


def likely(path: Sequence[str], field: str) -> tuple[int, int] | None:
    """How likely a field of a log is this one of the contract, less being likelier; None where it hardly is.

    >>> likely(["eventId"], "event_id"), likely(["gen_ai.agent.id"], "agent_id"), likely(["tenantId"], "event_id")
    ((0, 0), (0, 0), None)
    """
    if tuple(path) == (field,):
        return -1, 0
    whole = ".".join(path)
    words = _WORDS.findall(whole)
    if _joined(words) not in _RANKS:
        words = _WORDS.findall(_SAYS_NOTHING.sub("", whole))
    for dropped in range(len(words)):  # from the left: what is said there is whose it is
        if dropped and len(words) - dropped < _LEAST_WORDS:
            break
        found = _RANKS.get(_joined(words[dropped:]))
        if found is not None:
            return (dropped, found[1]) if found[0] == field else None
    if len(path) == 1 and get_close_matches(path[0].lower(), FIELDS, 1, 0.85) == [field]:
        return len(words), 0
    return None


def _joined(words: Sequence[str]) -> str:
    return "".join(words).lower()


def meant(name: str) -> str:
    """What to do about one field.

    >>> meant("recipient")
    'did you mean `recipients`? Only that is read.'
    >>> meant("dataClass")
    'did you mean `classification`? Only that is read.'
    >>> meant("region")
    'it is not judged, and belongs in `attributes`.'
    """
    ranked = [(rank, field) for field in FIELDS if (rank := likely([name], field)) is not None]
    if not ranked:
        return "it is not judged, and belongs in `attributes`."
    return f"did you mean `{min(ranked)[1]}`? Only that is read."
