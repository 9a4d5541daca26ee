"""What a worker's log says of records that could not be used."""

from __future__ import annotations

from structlog.testing import capture_logs

from stream.codec import Reject, decode_event, encode
from stream.unfit import EVERY, Unfit


def unfit(n: int, **fields: object) -> list[Reject]:
    found = [decode_event(encode(fields), position, 1 << 20) for position in range(n)]
    return [reject for reject in found if isinstance(reject, Reject)]


def test_the_first_is_said_at_once_and_the_rest_once_a_minute_with_the_commonest_reason():
    """Also where none has come since."""
    now = 1000.0
    told = Unfit(3, lambda: now)
    with capture_logs() as said:
        told.add([])
        told.add(unfit(1, eventId="1"))
        assert [(line["partition"], line["records"]) for line in said] == [(3, 1)]
        told.add(unfit(2, eventId="1"))
        now += EVERY - 1
        told.add(unfit(5, event_id="1", time=1, agent_id="a", action=7))
        assert len(said) == 1
        now += 1
        told.add([])
        assert (said[-1]["records"], said[-1]["of_those"]) == (7, 5)
        assert said[-1]["most_often"] == "bad_value: Expected `str`, got `int` - at `$.action`"
        now += EVERY
        told.add([])
    assert len(said) == 2
    assert {line["log_level"] for line in said} == {"warning"}


def test_of_a_log_in_other_words_it_is_said_which_of_its_fields_are_likely_meant():
    with capture_logs() as said:
        Unfit(0).add(unfit(1, timestamp=1773304800123, toolName="crm.read", action="read"))
    (line,) = said
    assert line["most_often"] == "missing_field: Object missing required field `event_id`"
    assert line["likely_meant"] == {"timestamp": "time, in milliseconds: divided, since seconds are read", "toolName": "tool"}  # fmt: skip


def test_what_a_sender_writes_cannot_fill_a_line():
    """Nor can many reasons fill the memory."""
    now = 0.0
    told = Unfit(0, lambda: now)
    with capture_logs() as said:
        told.add([Reject("bad_value", "first", 0, b"{}")])
        told.add([Reject("bad_value", f"{n}\n" + "x" * 9000, n, b"{}") for n in range(5000)])
        now += EVERY
        told.add([])
    assert said[-1]["records"] == 5000
    assert len(said[-1]["most_often"]) < 400
    assert "\n" not in said[-1]["most_often"]
