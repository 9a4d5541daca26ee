"""What is deployed on Kubernetes, held to its schemas, to the image, to the settings and to what a worker serves. No cluster runs here."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml

from models.compiled import config as compiled_config
from stream import settings
from stream.__main__ import main_group
from stream.desk import STOP_SECONDS
from stream.errors import SettingsError
from stream.topics import Known
from stream.web import Web
from stream.worker import make_app

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RELEASES = ("1.32", "1.37")
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
FILES = {
    path.relative_to(FOLDER).as_posix(): yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.rglob("*.yaml"))
    if path.name != "kustomization.yaml"
}
OURS = {name: manifest for name, manifest in FILES.items() if manifest["apiVersion"] != "monitoring.coreos.com/v1"}
SET = FILES["statefulset.yaml"]
POD = SET["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
(COMPILED,) = POD["initContainers"]
JOB_POD = FILES["topics/job.yaml"]["spec"]["template"]["spec"]
(TOPICS,) = JOB_POD["containers"]
PODS = {"worker": POD, "topics": JOB_POD}
LABELS = SET["spec"]["template"]["metadata"]["labels"]
SETTINGS_FILE = (FOLDER / "settings" / "settings.env").read_text()
IN_FORCE = dict(re.findall(r"^(\w+)=(.*)$", SETTINGS_FILE, re.MULTILINE))
PROPOSED = dict(re.findall(r"^#   (\w+)=(.*)$", SETTINGS_FILE, re.MULTILINE))


def environment(container: dict[str, Any], shared: dict[str, str], *, secret: bool = True) -> dict[str, str]:
    """What the container's process is given, with stand-ins for what Kubernetes fills in."""
    assert container["envFrom"] == [{"configMapRef": {"name": "strayline-settings"}}]
    named = [e["name"] for e in container["env"] if secret or "secretKeyRef" not in e["valueFrom"]]
    return shared | dict.fromkeys(named, "filled-in")


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG]i)", quantity).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def selects(selector: dict[str, Any]) -> bool:
    """Whether the workers' pods, and no other of ours, have these labels."""
    return selector.items() <= LABELS.items() and "app.kubernetes.io/component" in selector


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", OURS)
def test_every_manifest_obeys_the_schema_of_kubernetes(name: str, release: str) -> None:
    """Strictly: a field that Kubernetes does not know is one that it would pass over."""
    kubernetes_validate.validate(OURS[name], release, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_seen() -> None:
    """However deep: the test above is worth something."""
    wrong = copy.deepcopy(SET)
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["pth"] = "/readyz"
    with pytest.raises(kubernetes_validate.ValidationError, match="pth"):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_the_prometheus_operator_is_given_the_rules_of_this_repository() -> None:
    """By the command that their head shows."""
    head = (FOLDER / "prometheus" / "rules.head").read_text()
    (command,) = re.findall(r"^#   (.*) \| kubectl apply -f -$", head, re.MULTILINE)
    made = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(made)["spec"] == yaml.safe_load(RULES.read_text())


def test_every_manifest_is_in_a_kustomization_with_the_image_of_this_version() -> None:
    read = {path: yaml.safe_load(path.read_text()) for path in KUSTOMIZATIONS}
    listed = [path.parent / name for path, made in read.items() for name in made["resources"]]
    assert all(path.exists() for path in listed)
    assert {path.resolve() for path in listed if path.is_file()} == {FOLDER / name for name in OURS}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = [(image["name"], image["newTag"]) for made in read.values() for image in made.get("images", [])]
    assert tags == [("strayline", version)] * 2


@pytest.mark.parametrize("folder", [".", "topics"])
def test_kubectl_makes_of_them_what_the_schema_allows(folder: str) -> None:
    """With its own kustomize, which needs no cluster: every name that is referred to is one that is made, or a Secret."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine: the kustomizations are NOT read by the real program")
    done = subprocess.run([kubectl, "kustomize", FOLDER / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {m["kind"]: m for m in yaml.safe_load_all(done.stdout)}
    for manifest in made.values():
        kubernetes_validate.validate(manifest, RELEASES[-1], strict=True)
        assert manifest["metadata"].get("namespace", "strayline") == "strayline"
    (container,) = (made.get("StatefulSet") or made["Job"])["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"][0]["configMapRef"]["name"] == made["ConfigMap"]["metadata"]["name"]
    assert made["ConfigMap"]["data"] == IN_FORCE


@pytest.mark.parametrize("container", [WORKER, TOPICS], ids=["worker", "topics"])
def test_every_setting_is_one_that_strayline_takes(container: dict[str, Any]) -> None:
    """With a password, and with the certificates that the file proposes in its place."""
    settings.load(environment(container, IN_FORCE))
    security = {n for n in IN_FORCE if n.split("_")[1] in {"SECURITY", "TLS", "SASL"}}
    other = {n: v for n, v in IN_FORCE.items() if n not in security} | PROPOSED
    assert settings.load(environment(container, other, secret=False)).security_protocol == "SSL"


def test_kubernetes_puts_no_name_of_its_own_beside_the_settings() -> None:
    """It would, for each Service of the namespace, and a worker would not start."""
    with pytest.raises(SettingsError, match="STRAYLINE_WORKER_SERVICE_HOST"):
        settings.load(IN_FORCE | {"STRAYLINE_WORKER_SERVICE_HOST": "10.0.0.1"})
    assert all(pod["enableServiceLinks"] is False for pod in PODS.values())


@pytest.mark.parametrize("pod", PODS)
def test_every_file_that_a_setting_names_is_in_the_secret(pod: str) -> None:
    (container,) = PODS[pod]["containers"]
    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "kafka"]
    (secret,) = [v["secret"] for v in PODS[pod]["volumes"] if v["name"] == "kafka"]
    (user,) = [e["valueFrom"]["secretKeyRef"] for e in container["env"] if e["name"] == "STRAYLINE_SASL_USERNAME"]
    assert user["name"] == secret["secretName"]
    paths = [v for v in (IN_FORCE | PROPOSED).values() if v.startswith("/")]
    assert {str(Path(path).parent) for path in paths} == {mount}
    guide = (FOLDER / "README.md").read_text()
    assert all(f"--from-file={Path(path).name}" in guide for path in paths)


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_may_do_nothing_that_it_need_not(pod: str) -> None:
    """It is the image's user, and writes where the image has it write and nowhere else."""
    spec = PODS[pod]
    (uid,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    (gid,) = re.findall(r"groupadd --system --gid (\d+)", DOCKERFILE)
    rights = spec["securityContext"]
    assert (rights["runAsNonRoot"], rights["runAsUser"], rights["runAsGroup"], rights["fsGroup"]) == (
        True,
        int(uid),
        int(gid),
        int(gid),
    )
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == "strayline"


def test_a_worker_finds_its_models_compiled_in_the_one_folder_that_it_can_write_to() -> None:
    (cache,) = re.findall(r"XDG_CACHE_HOME=(\S+)", DOCKERFILE)
    writable = [m for m in WORKER["volumeMounts"] if not m.get("readOnly")]
    assert [m["mountPath"] for m in writable] == [f"{cache}/strayline"]
    (filled,) = COMPILED["volumeMounts"]
    assert filled["name"] == writable[0]["name"]
    assert COMPILED["command"] == ["cp", "--recursive", f"{cache}/strayline/.", filled["mountPath"]]


@pytest.mark.usefixtures("compiled")
def test_compiled_models_that_were_copied_are_loaded_and_not_compiled_again(tmp_path: Path) -> None:
    """By the command that fills the folder of a pod."""

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    home = tmp_path / "strayline" / Path(compiled_config.CACHE_DIR).name
    home.mkdir(parents=True)
    subprocess.run([*COMPILED["command"][:2], f"{compiled_config.CACHE_DIR}/.", home], check=True)
    before = files()
    program = "from stream.engine import warm_up; from stream.settings import load; warm_up(load({}))"
    told = {n: v for n, v in os.environ.items() if n != "NUMBA_CACHE_DIR"} | {"XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=told, check=True)
    assert before
    assert files() == before


def test_probes_ask_what_a_worker_answers() -> None:
    """One that waits for its partitions is alive and not ready."""

    async def ask() -> dict[str, int]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            web = Web(make_app(settings.load({}), listening, Known(4))[1], listening)
            await web.on_start()
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                answers = {}
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    async with client.get(WORKER[probe]["httpGet"]["path"]) as answer:
                        answers[probe] = answer.status
            await web.on_stop()
        return answers

    assert asyncio.run(ask()) == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}


def test_every_port_is_the_one_that_a_worker_serves_on() -> None:
    used = settings.load(environment(WORKER, IN_FORCE))
    (port,) = WORKER["ports"]
    assert port["containerPort"] == used.http_port
    assert used.http_host in {"0.0.0.0", "::"}  # noqa: S104  # the kubelet and Prometheus come from outside
    (served,) = FILES["service.yaml"]["spec"]["ports"]
    (rule,) = FILES["network.yaml"]["spec"]["ingress"]
    (scraped,) = FILES["prometheus/podmonitor.yaml"]["spec"]["podMetricsEndpoints"]
    probed = [WORKER[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    named = {served["targetPort"], rule["ports"][0]["port"], scraped["port"], *probed}
    assert named == {port["name"]}
    assert served["port"] == used.http_port


def test_every_selector_selects_the_workers_and_nothing_else() -> None:
    assert selects(FILES["service.yaml"]["spec"]["selector"])
    assert selects(FILES["network.yaml"]["spec"]["podSelector"]["matchLabels"])
    for spec in (SET["spec"], FILES["disruption.yaml"]["spec"], FILES["prometheus/podmonitor.yaml"]["spec"]):
        assert selects(spec["selector"]["matchLabels"])
    assert all(selects(spread["labelSelector"]["matchLabels"]) for spread in POD["topologySpreadConstraints"])
    job = FILES["topics/job.yaml"]["spec"]["template"]["metadata"]["labels"]
    assert not SET["spec"]["selector"]["matchLabels"].items() <= job.items()
    assert SET["spec"]["serviceName"] == FILES["service.yaml"]["metadata"]["name"]
    assert FILES["service.yaml"]["spec"]["clusterIP"] == "None"


def test_prometheus_knows_the_workers_by_the_name_that_the_rules_have() -> None:
    label = FILES["prometheus/podmonitor.yaml"]["spec"]["jobLabel"]
    assert set(re.findall(r'up\{job="(\w+)"\}', RULES.read_text())) == {LABELS[label]}


def test_a_worker_has_the_time_that_it_takes() -> None:
    """To drain; to be restarted without its partitions going elsewhere; to say itself why it is stuck."""
    used = settings.load(environment(WORKER, IN_FORCE))
    alive, start = WORKER["livenessProbe"], WORKER["startupProbe"]
    assert POD["terminationGracePeriodSeconds"] > STOP_SECONDS
    assert used.session_seconds > settings.load({}).session_seconds
    assert alive["periodSeconds"] * (alive["failureThreshold"] - 1) > used.stall_seconds
    assert start["periodSeconds"] * start["failureThreshold"] >= 600  # the models may have to be compiled


def test_the_memory_is_enough_for_every_partition_and_the_request_for_half() -> None:
    used = settings.load(environment(WORKER, IN_FORCE))
    partitions = _topics().params["partitions"]
    base = 512  # MiB; a worker with its models loaded has 260
    memory = {kind: mebibytes(WORKER["resources"][kind]["memory"]) for kind in ("requests", "limits")}
    assert memory["limits"] >= base + partitions * used.state_mib
    assert memory["requests"] >= base + partitions / 2 * used.state_mib
    assert SET["spec"]["replicas"] <= partitions


def test_the_commands_are_those_of_strayline() -> None:
    assert WORKER["args"] == ["worker"]
    assert _topics().params["replication"] == 3


def _topics() -> Any:
    command, *arguments = TOPICS["args"]
    return main_group.commands[command].make_context(command, list(arguments))
