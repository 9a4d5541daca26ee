"""Every setting is documented, checked, and does something."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream.codec import encode
from stream.engine import Engine
from stream.errors import SettingsError
from stream.settings import SETTINGS, load
from stream.simulate import simulate

ROOT = Path(__file__).parent.parent
DEFAULT = load({})


@pytest.fixture(scope="module")
def records() -> list[bytes]:
    return [encode(e) for e in simulate(3, 12, 10).events]


def scored(settings, records):
    engine = Engine(settings)
    return engine, engine.score(engine.decode(records, range(1, len(records) + 1)))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_every_setting_is_in_the_readme_with_its_meaning(setting):
    assert f"| `{setting.name}` |" in (ROOT / "README.md").read_text()
    assert setting.help in (ROOT / "README.md").read_text()


def test_a_misspelled_name_is_told_which_it_may_be():
    """A list of two dozen is no answer."""
    with pytest.raises(
        SettingsError, match=r"CLASIFICATIONS; did you mean STRAYLINE_CLASSIFICATIONS\? The settings are"
    ):
        load({"STRAYLINE_CLASIFICATIONS": "a,b"})


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(SettingsError, match=r"STRAYLINE_ALERT_PER_DAY.*STRAYLINE_ALERTS_PER_DAY"):
        load({"STRAYLINE_ALERT_PER_DAY": "5"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRAYLINE_ALERTS_PER_DAY", "none"),
        ("STRAYLINE_ALERTS_PER_DAY", "0"),
        ("STRAYLINE_HTTP_PORT", "70000"),
        ("STRAYLINE_CLASSIFICATIONS", ","),
        ("STRAYLINE_STATE_MIB", "1"),
        ("STRAYLINE_BROKER", " "),
    ],
)
def test_a_value_out_of_its_domain_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        load({name: value})


@pytest.mark.parametrize("value", ["x", "", "-1", "nan", "1e7", "5 a day"])
def test_a_value_that_is_no_fit_number_is_answered_with_what_is(value):
    """In words for whoever set it, not in Python's."""
    with pytest.raises(
        SettingsError, match=rf"^STRAYLINE_ALERTS_PER_DAY='{value}': needs a number above 0 and at most 1,000,000 \("
    ):
        load({"STRAYLINE_ALERTS_PER_DAY": value})
    with pytest.raises(
        SettingsError, match=rf"^STRAYLINE_HTTP_PORT='{value}': needs a whole number from 1 to 65535 \("
    ):
        load({"STRAYLINE_HTTP_PORT": value})


def test_the_budget_moves_the_threshold(records):
    """More alerts a day, a lower threshold, at least as many alerts."""
    few_engine, few = scored(replace(DEFAULT, alerts_per_day=0.2), records)
    many_engine, many = scored(replace(DEFAULT, alerts_per_day=20), records)
    assert few_engine.state.fleet["bin"] > many_engine.state.fleet["bin"]
    assert len({a.alert_id for a in few.alerts}) < len({a.alert_id for a in many.alerts})


def test_the_ladder_decides_what_lacks_clearance(records):
    """With another ladder no class is above another, so nothing is below clearance."""
    _, usual = scored(DEFAULT, records)
    _, other = scored(replace(DEFAULT, classifications=("open", "secret")), records)
    assert any(e.name == "clearance" for a in usual.alerts for e in a.evidence)
    assert not any(e.name == "clearance" for a in other.alerts for e in a.evidence)


def test_the_own_domains_decide_what_is_outside(records):
    """If every domain of the fleet were ours, nothing would leave the organisation."""
    given = (r for e in simulate(3, 12, 10).events for r in e.get("recipients", ()))
    domains = {r.get("domain") or r["id"].rpartition("@")[2] for r in given}
    _, ours = scored(replace(DEFAULT, domains=tuple(sorted(domains))), records)
    _, usual = scored(replace(DEFAULT, domains=("northwind.example",)), records)

    def outside(scored):
        return sum("outside" in str(e.observed) for a in scored.alerts for e in a.evidence if e.name == "flow")

    assert outside(ours) == 0 < outside(usual)


def test_a_record_over_the_limit_is_rejected_and_kept():
    event = b'{"event_id":"1","time":1,"agent_id":"a","action":"read","resource":"%s"}' % (b"x" * 2000)
    _, result = scored(replace(DEFAULT, max_event_bytes=1024), [event])
    assert [(r.reason, r.raw) for r in result.rejects] == [("too_large", event)]
    _, result = scored(DEFAULT, [event])
    assert len(result.events) == 1


def test_a_river_detector_changes_scores_and_an_unknown_one_is_refused(records):
    _, plain = scored(DEFAULT, records[:1500])
    _, river = scored(replace(DEFAULT, river_detector="HalfSpaceTrees"), records[:1500])
    assert (river.score >= plain.score).all()
    assert not np.array_equal(river.score, plain.score)
    with pytest.raises(SettingsError, match="HalfSpaceTrees"):
        Engine(replace(DEFAULT, river_detector="HalfSpaceTree"))


def test_the_memory_bound_is_kept(records):
    small, _ = scored(replace(DEFAULT, state_mib=16), records)
    assert small.state.nbytes <= 16 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("STRAYLINE_BROKER", x)
            for x in ("kafka", "kafka:", ":9092", "http://kafka:9092", "kafka:99999", "a:1,b", "::1:9092", ",")
        ),
        *(("STRAYLINE_HTTP_HOST", x) for x in ("http://here", "localhost:9464", "two words", "", "a,b")),
        ("STRAYLINE_SECURITY_PROTOCOL", "TLS"),
        ("STRAYLINE_SASL_MECHANISM", "SCRAM"),
    ],
)
def test_what_is_no_address_or_no_choice_is_refused_before_anything_starts(name, value):
    with pytest.raises(SettingsError, match=f"^{name}="):
        load({name: value})


@pytest.mark.parametrize("value", ["::", "[::1]", "0.0.0.0", "worker-1.corp.example", "fe80::1%eth0"])  # noqa: S104
def test_an_address_to_serve_on_may_be_of_either_kind(value):
    assert load({"STRAYLINE_HTTP_HOST": value}).http_host == value
    assert load({"STRAYLINE_BROKER": " [::1]:9092, kafka:9093 "}).broker == "[::1]:9092,kafka:9093"


TLS = {"STRAYLINE_SECURITY_PROTOCOL": "SSL"}
SASL = {"STRAYLINE_SECURITY_PROTOCOL": "SASL_SSL", "STRAYLINE_SASL_USERNAME": "u"}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"STRAYLINE_TLS_CA": "ca.pem"}, "encrypts nothing"),
        ({"STRAYLINE_SASL_PASSWORD": "x"}, "uses no password"),
        (TLS | {"STRAYLINE_SASL_USERNAME": "u"}, "uses no password"),
        (TLS | {"STRAYLINE_TLS_KEY": "key.pem"}, "belong together"),
        (SASL, "needs STRAYLINE_SASL_USERNAME"),
        (SASL | {"STRAYLINE_SASL_PASSWORD": "x", "STRAYLINE_SASL_PASSWORD_FILE": "y"}, "not both"),
    ],
)
def test_security_that_is_set_and_would_not_be_used_is_refused(environment, named):
    """Otherwise whoever set it would think that it is."""
    with pytest.raises(SettingsError, match=named) as told:
        load(environment)
    assert "'x'" not in str(told.value)


def test_the_kafka_settings_reach_the_worker():
    """Broker, group, instance and session are the application's."""
    from stream.topics import Known
    from stream.worker import make_app

    settings = replace(DEFAULT, broker="one:1,two:2", group="watch", instance="w-1", session_seconds=45)
    with socket.socket() as listening:
        app, _ = make_app(settings, listening, Known(4))
    assert [str(url) for url in app.conf.broker] == ["batches://one:1", "batches://two:2"]
    assert app.conf.id == "watch"
    assert app.conf.consumer_group_instance_id == "w-1"
    assert app.conf.broker_session_timeout == 45
    assert app.conf.broker_request_timeout >= 45  # or Faust refuses to start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("STRAYLINE_DOMAINS", x)
            for x in ("@corp.example", "*.corp.example", "https://corp.example", "a.example;b.example", "no domain")
        ),
        *(("STRAYLINE_CLASSIFICATIONS", x) for x in ("a,,b", "a,A", "public;internal", "")),
    ],
)
def test_a_list_that_is_not_one_is_refused(name, value):
    """Taken as it stands it would put the organisation outside of itself, or every class off the ladder."""
    with pytest.raises(SettingsError, match=name):
        load({name: value})
