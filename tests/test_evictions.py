"""What a worker's log says of rows that gave way."""

from __future__ import annotations

from structlog.testing import capture_logs

from stream.evictions import EVERY, Evictions


def test_the_first_rows_that_give_way_are_said_at_once_and_the_rest_once_an_hour_with_the_setting():
    now = 1000.0
    told = Evictions(3, 32, lambda: now)
    with capture_logs() as said:
        told.add({})
        assert said == []
        told.add({"agents": 2, "facts": 40})
        assert [(line["partition"], line["rows"]) for line in said] == [(3, {"facts": 40, "agents": 2})]
        told.add({"facts": 1})
        now += EVERY - 1
        told.add({"facts": 2})
        assert len(said) == 1
        now += 1
        told.add({})
        now += EVERY
        told.add({})
    assert [line["rows"] for line in said[1:]] == [{"facts": 3}]
    assert all("raise STRAYLINE_STATE_MIB (now 32 " in line["do"] for line in said)
    assert {line["log_level"] for line in said} == {"warning"}
