"""Rules and dashboard against a real Prometheus that scrapes every metric the code declares.

A query nobody can answer, an alert nobody tested and a metric nobody looks at all fail here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import prometheus_client
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from stream import metrics

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES_TESTS = sorted(PROMETHEUS.glob("rules*.test.yml"))
DASHBOARD_FILE = ROOT / "deploy" / "grafana" / "dashboards" / "strayline.json"

DASHBOARD: dict[str, Any] = json.loads(DASHBOARD_FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
PANEL_QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
RULE_QUERIES = {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES}

DEADLINE = 60.0  # seconds that a slow machine may take; a fast one needs four


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} of Debian's package `prometheus` is missing: rules and dashboard are NOT checked")
    return path


def _promtool(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([_program("promtool"), *arguments], input=text, capture_output=True, text=True, check=False)


def _declared(module: ModuleType) -> list[MetricWrapperBase]:
    return [value for value in vars(module).values() if isinstance(value, MetricWrapperBase)]


def _sample_names(metric: MetricWrapperBase) -> set[str]:
    """Give the names under which Prometheus knows a metric."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric._type]
    return {metric._name + suffix for suffix in suffixes}


def _selected(query: str) -> set[str]:
    """Metric names that a query selects: what remains without texts, matchers, ranges, groupings and functions."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}|\[[^]]*\]", " ", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\b(and|or|unless|bool|offset\s+\w+)\b", " ", bare)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare))


def _touch(module: ModuleType) -> None:
    """Move every metric once, with a child for each of those with labels."""
    for metric in _declared(module):
        names = metric._labelnames
        child = metric.labels(*["0" if name == "partition" else "any" for name in names]) if names else metric
        (child.observe if metric._type == "histogram" else child.inc)(2)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Server:
    """A Prometheus, and the exposition that it scrapes."""

    url: str
    exposition: str

    def get(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP interface; an error carries Prometheus' own words."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}") as answer:  # noqa: S310
                body = json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                words = refusal.read().decode()
            if refusal.code == 503:  # it listens before its storage is open
                raise ConnectionError(words) from None
            raise AssertionError(words) from None
        assert body["status"] == "success", body
        return body["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        """Give the result of an instant query."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=query)["result"]
        return result


def _wait(what: str, holds: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            if holds():
                return
        except (urllib.error.URLError, ConnectionError):  # it does not listen yet
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE} s\n{log.read_text()}"
        time.sleep(0.1)


def _free_port() -> int:
    """Prometheus does not say which port it got when it is told to take any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _exposed() -> Iterator[tuple[ModuleType, int]]:
    """Serve a second copy of stream.metrics over HTTP: the same declarations, and the process's own stay untouched."""
    spec = importlib.util.spec_from_file_location("metrics_of_the_test", metrics.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    _touch(copy)
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry=copy.REGISTRY)
    try:
        yield copy, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    """Run Prometheus with the deployed configuration and rules; only the target and the intervals are the test's."""
    program = _program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    log = folder / "log"
    with _exposed() as (copy, target_port), log.open("wb") as output:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target_port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = _free_port()
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        server = _Server(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{target_port}/metrics")
        try:
            _wait("first scrape", lambda: server.query("strayline_events_total"), process, log)
            # A counter's rate needs two values, and so do the recordings that stand on it.
            _touch(copy)
            _wait(
                "second scrape",
                lambda: server.query("increase(strayline_events_total[5m]) > 0"),
                process,
                log,
            )
            _wait("recordings", lambda: all(server.query(name) for name in RECORDED), process, log)
            yield server
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def known(prometheus: _Server) -> set[str]:
    """Every name that this Prometheus has scraped or recorded."""
    return set(prometheus.get("/api/v1/label/__name__/values"))


# ---- Prometheus' own checks


@pytest.mark.debian
def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    """`check config` follows the configuration to the rules."""
    done = _promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.debian
@pytest.mark.parametrize("stories", RULES_TESTS, ids=lambda path: path.name)
def test_every_story_of_the_rules_ends_as_told(stories: Path) -> None:
    done = _promtool("test", "rules", stories)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.debian
def test_promtool_finds_no_fault_with_the_metrics(prometheus: _Server) -> None:
    """One complaint is let through: promtool takes our bits of surprise for an eighth of a byte."""
    with urllib.request.urlopen(prometheus.exposition) as answer:  # noqa: S310
        exposition = answer.read().decode()
    complaints = _promtool("check", "metrics", text=exposition).stderr.splitlines()
    assert [line for line in complaints if not line.endswith('use base unit "bytes" instead of "bits"')] == []


# ---- Queries


@pytest.mark.debian
@pytest.mark.parametrize("query", PANEL_QUERIES.values(), ids=PANEL_QUERIES.keys())
def test_every_panel_shows_something_once_every_metric_has_moved(
    prometheus: _Server, known: set[str], query: str
) -> None:
    query = re.sub(r"\$__(rate_interval|range)\b", "5m", query)
    assert "$" not in query
    assert _selected(query) <= known
    assert prometheus.query(query)


@pytest.mark.debian
@pytest.mark.parametrize("query", RULE_QUERIES.values(), ids=RULE_QUERIES.keys())
def test_every_rule_asks_for_metrics_that_exist(prometheus: _Server, known: set[str], query: str) -> None:
    """Whether it holds is the stories' business; an empty answer is an answer."""
    assert _selected(query) <= known
    prometheus.query(query)


@pytest.mark.debian
def test_prometheus_evaluates_every_rule(prometheus: _Server) -> None:
    groups = prometheus.get("/api/v1/rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]}
    assert health == dict.fromkeys(RULE_QUERIES, ("ok", None))


@pytest.mark.parametrize("metric", _declared(metrics), ids=lambda metric: metric._name)
def test_every_metric_is_used_by_a_panel_or_a_rule(metric: MetricWrapperBase) -> None:
    used = set().union(*map(_selected, [*PANEL_QUERIES.values(), *RULE_QUERIES.values()]))
    assert _sample_names(metric) & used


def test_selected_names_are_those_of_metrics_alone() -> None:
    """The checks above are worth as much as this function."""
    query = 'a:b > 4 * sum by (job) (rate(c_total{x="d"}[5m] offset 1d)) and on (p) label_replace(vector(5), "e", "f", "", "")'
    assert _selected(query) == {"a:b", "c_total"}
    assert _selected("time() - max by (p) (g) unless h or 0 * i > 1e9") == {"g", "h", "i"}


# ---- Alerts


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS.keys())
def test_every_alert_tells_the_operator_what_it_means_and_what_to_run(alert: dict[str, Any]) -> None:
    assert alert["for"]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "command"}
    assert all(alert["annotations"].values())


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS.keys())
def test_every_command_of_an_alert_names_services_that_exist(alert: dict[str, Any]) -> None:
    """Taken apart as a shell would: `docker compose VERB … SERVICE`, joined by && or |."""
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    command = alert["annotations"]["command"]
    for part in re.split(r"&&|\|", command):
        words = shlex.split(part)
        if words[:2] == ["docker", "compose"]:
            assert words[2] in {"up", "ps", "logs", "restart", "exec", "run"}, part
            assert services & {word.partition("=")[0] for word in words[3:]}, part
        else:
            assert words[0] == "grep", part


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    stories = [story for path in RULES_TESTS for story in yaml.safe_load(path.read_text())["tests"]]
    fires = {
        sample["labels"]
        for story in stories
        for test in story.get("promql_expr_test", [])
        if 'alertstate="firing"' in test["expr"]
        for sample in test["exp_samples"]
    }
    silent = {
        test["alertname"] for story in stories for test in story.get("alert_rule_test", []) if not test["exp_alerts"]
    }
    assert f'{{alertname="{name}"}}' in fires
    assert name in silent


# ---- The dashboard as a document


def test_the_dashboard_can_be_provisioned_again_and_again() -> None:
    """A stable uid and no database id keep one dashboard one; the data source is the reader's choice."""
    assert DASHBOARD["id"] is None
    assert re.fullmatch(r"[a-z-]{8,40}", DASHBOARD["uid"])
    assert DASHBOARD["schemaVersion"] >= 42
    assert [(v["name"], v["type"], v["query"]) for v in DASHBOARD["templating"]["list"]] == [
        ("datasource", "datasource", "prometheus")
    ]


def test_the_dashboard_is_written_so_that_a_change_shows_as_one() -> None:
    assert DASHBOARD_FILE.read_text() == json.dumps(DASHBOARD, indent=2, ensure_ascii=False) + "\n"


def test_the_dashboard_has_its_three_rows() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["What the SOC asks", "Pipeline health", "Model health"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
    assert unit
    assert panel["description"].endswith(".")
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [source] * (
        1 + len(panel["targets"])
    )


def test_no_panel_covers_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
