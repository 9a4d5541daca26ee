"""What is deployed, held to the compose specification, to the settings and to itself. No engine runs here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream import settings

ROOT = Path(__file__).parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
COMMANDS = {"replay", "demo", "serve", "topics", "worker", "explain"}
PORT = next(s.default for s in settings.SETTINGS if s.name == "STRAYLINE_HTTP_PORT")


def _mounts() -> list[tuple[str, str, str]]:
    """Service, source and target of every volume."""
    return [(name, *mount.split(":")[:2]) for name, service in SERVICES.items() for mount in service.get("volumes", [])]


def test_the_compose_file_obeys_the_compose_specification() -> None:
    """Held to the specification's own JSON schema, which check-jsonschema ships."""
    checker = shutil.which("check-jsonschema", path=Path(sys.executable).parent) or shutil.which("check-jsonschema")
    if checker is None:
        pytest.skip("check-jsonschema is not installed: the compose file is NOT checked against its schema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_reads_the_file() -> None:
    """`docker compose config` resolves every profile; it needs the client and no engine."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no `docker compose` on this machine: the compose file is NOT read by the real program")
    done = subprocess.run(
        [docker, "compose", "--file", COMPOSE_FILE, "--profile", "*", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_mounted_file_exists_and_every_named_volume_is_declared() -> None:
    """Docker makes an empty folder where a mounted file is missing, and the service fails far from the cause."""
    for name, source, _target in _mounts():
        if source.startswith("."):
            assert (ROOT / source).exists(), f"{name} mounts {source}"
        else:
            assert source in COMPOSE["volumes"], f"{name} mounts {source}"
    assert {source for _, source, _ in _mounts()} >= set(COMPOSE["volumes"])


def test_files_of_this_checkout_are_mounted_read_only() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert all(mount.endswith(":ro") for mount in mounts if mount.startswith("."))


@pytest.mark.parametrize("name", OURS)
def test_every_setting_is_one_that_strayline_takes(name: str) -> None:
    settings.load(OURS[name].get("environment", {}))


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_strayline(name: str) -> None:
    assert OURS[name]["command"][0] in COMMANDS


def test_every_port_is_bound_to_this_machine() -> None:
    """Kafka and Prometheus ask nobody for a password here."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published), published


def test_every_image_is_pinned_by_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)*", image), image


def test_our_image_bears_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in OURS.values()} == {f"strayline:{version}"}


def test_the_image_takes_the_python_that_the_project_needs_and_its_pins() -> None:
    assert re.findall(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE) == ["3.11", "3.11"]
    assert "--constraint constraints.txt" in DOCKERFILE


def test_the_image_runs_as_a_user_without_rights() -> None:
    last_stage = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert re.findall(r"^USER (\S+)", last_stage, re.MULTILINE) == ["10001"]
    assert last_stage.rstrip().endswith('ENTRYPOINT ["strayline"]')
    assert all(service["cap_drop"] == ["ALL"] for service in OURS.values())


def test_the_build_gets_what_the_package_is_made_of_and_no_more() -> None:
    """`.dockerignore` is an allow-list, so a package or a file that pyproject.toml gains must be let in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {
        "pyproject.toml",
        "constraints.txt",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *(f"{package}/" for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]),
    }
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == needed
    assert all((ROOT / name).exists() for name in needed)


def test_a_service_waits_only_for_what_can_come_about() -> None:
    """Healthy needs a health check; completed needs a service that ends and is not started again."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully", f"{name} waits for {other}"
                assert "restart" not in SERVICES[other], f"{name} waits for {other}"


def test_the_worker_can_be_scaled() -> None:
    """Nothing in it is there only once: no fixed name, no published port."""
    worker = SERVICES["worker"]
    assert not {"container_name", "hostname", "ports"} & set(worker)
    assert "STRAYLINE_INSTANCE" not in worker["environment"]
    assert worker["restart"] == "unless-stopped"


def test_ours_reach_the_broker_at_an_address_it_advertises() -> None:
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert {service["environment"]["STRAYLINE_BROKER"] for service in OURS.values()} == {"kafka:19092"}
    assert "INTERNAL://kafka:19092" in advertised.split(",")


def test_prometheus_scrapes_the_workers_where_they_answer() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert discovery["names"] == ["worker"]
    assert str(discovery["port"]) == PORT
    assert f"EXPOSE {PORT}" in DOCKERFILE
    assert SERVICES["worker"]["environment"]["STRAYLINE_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 that is the point


def test_grafana_finds_what_is_mounted() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    targets = {target for name, _, target in _mounts() if name == "grafana"}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "strayline.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert {"/etc/grafana/provisioning", provider["options"]["path"]} <= targets
    assert home == provider["options"]["path"] + "/strayline.json"
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


class _Ready(BaseHTTPRequestHandler):
    """Answers /readyz with the status that the server was given."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/readyz" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep pytest's output clean."""


@pytest.fixture
def worker_port(request: pytest.FixtureRequest) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Ready) as server:
        server.status = request.param  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _healthcheck(port: int) -> int:
    kind, program, *arguments = SERVICES["worker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    script = [argument.replace(PORT, str(port)) for argument in arguments]
    return subprocess.run([sys.executable, *script], capture_output=True, check=False).returncode


@pytest.mark.parametrize(("worker_port", "healthy"), [(200, True), (503, False)], indirect=["worker_port"])
def test_the_worker_is_healthy_exactly_when_it_says_so(worker_port: int, healthy: bool) -> None:
    assert (_healthcheck(worker_port) == 0) == healthy


def test_a_worker_that_does_not_answer_is_not_healthy() -> None:
    with HTTPServer(("127.0.0.1", 0), _Ready) as server:
        port = server.server_port
    assert _healthcheck(port) != 0
