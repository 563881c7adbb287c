"""The manifest for KubeRay: what is refused, and that the one that is shipped says what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from typer.testing import CliRunner

from actors import names
from cluster import __version__
from cluster.cli import app, run
from cluster.errors import ManifestError
from cluster.kube import CALL_SLOT, CALLS_ROLE, CONTROL, ROLE_LABEL, check_manifest
from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.settings import EXAMPLES, describe_settings, load_settings
from tests.test_settings import REQUIRED

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "ray-cluster.yaml"
DOCUMENTS = list(yaml.safe_load_all(SHIPPED.read_text(encoding="utf-8")))
PROFILES = load_profiles(EXAMPLES, load_models())
LONGEST_S = 600
"""Of the shipped profiles: a drain has to have 120 s more, and the grace another 30."""

MANIFEST = """\
kind: ConfigMap
---
kind: RayCluster
spec:
  workerGroupSpecs:
  - groupName: errands
    resources: {{CPU: "1"}}
  - groupName: calls
    {resources}
    template:
      spec:
        {grace}
        containers:
        - env: [{{name: OTHER, value: "1"}}{drain}]
"""
BY_FIELD = 'resources: {call_slot: "8"}'
BY_START = 'rayStartParams: {resources: \'"{\\"call_slot\\": 8}"\'}'


def manifest(*, resources: str = BY_FIELD, drain: object = None, grace: object = None) -> str:
    """One with these values, without those that are None."""
    return MANIFEST.format(
        resources=resources,
        drain="" if drain is None else f", {{name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {drain}}}",
        grace="" if grace is None else f"terminationGracePeriodSeconds: {grace}",
    )


def refusal(text: str) -> str:
    """What is said of it."""
    with pytest.raises(ManifestError) as caught:
        check_manifest(text, "a.yaml", PROFILES)
    return str(caught.value)


@pytest.mark.parametrize("resources", [BY_FIELD, BY_START])
def test_a_drain_that_fits_the_longest_call_is_accepted(resources: str) -> None:
    """To the second, and only the groups that calls run on count."""
    (group,) = check_manifest(manifest(resources=resources, drain='"720"', grace=750), "a.yaml", PROFILES)
    assert (group.name, group.where, group.drain_s, group.grace_s) == ("calls", "a.yaml:8", 720, 750)


def test_a_drain_that_is_too_short_is_refused() -> None:
    """The message has the group's line, whose call it is about, and what to set."""
    assert refusal(manifest(drain='"719"', grace=4000)) == (
        "a.yaml:8: calls: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S is 719 s, and a call of the profile receptionist may "
        "last 600 s; set it to 720 or more"
    )


def test_a_grace_that_ends_before_the_drain_is_refused() -> None:
    """Kubernetes would kill the pod while Ray still waits."""
    assert refusal(manifest(drain='"3600"', grace=3600)) == (
        "a.yaml:8: calls: terminationGracePeriodSeconds is 3600, and the drain before it may take 3600 s; "
        "set it to 3630 or more"
    )


def test_what_says_nothing_has_the_short_defaults() -> None:
    """Ray's 30 s, and Kubernetes' 30 s."""
    first, second = refusal(manifest()).splitlines()
    assert "is 30 s" in first
    assert "terminationGracePeriodSeconds is 30," in second


def test_a_longer_profile_needs_more() -> None:
    """It is the longest that counts."""
    receptionist = PROFILES["receptionist"]
    limits = receptionist.limits.model_copy(update={"max_duration_s": 7200})
    profiles: dict[str, Profile] = {"hotline": receptionist.model_copy(update={"name": "hotline", "limits": limits})}
    with pytest.raises(ManifestError, match="profile hotline may last 7200 s; set it to 7320 or more"):
        check_manifest(SHIPPED.read_text(encoding="utf-8"), "a.yaml", PROFILES | profiles)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (manifest(drain="{}", grace=750), "a.yaml:8: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S and termination"),
        (manifest(drain='"an hour"', grace=750), "a.yaml:8: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S and termination"),
        (manifest(resources="resources: {}"), "a.yaml:1: no RayCluster here has a worker group with the resource"),
        ("kind: RayCluster\nspec: {workerGroupSpecs: 3}", "a.yaml:1: no RayCluster here"),
        ("kind: RayCluster\nspec: [workers]", "a.yaml:1: no RayCluster here"),
        ("- kind: RayCluster", "a.yaml:1: no RayCluster here"),
        ("", "a.yaml:1: no RayCluster here"),
        ("kind: RayCluster\nspec: {workerGroupSpecs: [", "a.yaml:2: not YAML: "),
        ("kind: \0", "a.yaml:1: not YAML: "),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, said: str) -> None:
    """One line, with the place."""
    found = refusal(text)
    assert found.startswith(said)
    assert "\n" not in found


def test_the_command_takes_the_shipped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the shipped profiles, and says how long each group waits."""
    monkeypatch.delenv("RINGMASTER_PROFILES_DIR", raising=False)
    result = CliRunner().invoke(app, ["manifest", "check", str(SHIPPED)])
    assert result.exit_code == 0, result.output
    assert "calls waits 3600 s for its calls to end; the longest are those of receptionist, 600 s" in result.output


@pytest.mark.parametrize("content", [manifest(drain='"60"', grace=3660).encode(), None, b"\xff\xfe\xfa"])
def test_the_command_exits_with_2_and_one_line(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A drain that is too short, a file that is not there, and one that is not text."""
    file = tmp_path / "cluster.yaml"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["ringmaster", "manifest", "check", str(file), "--profiles", str(EXAMPLES)])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}:")


def document(kind: str) -> Any:
    """The one document of that kind in the shipped manifest."""
    (found,) = (document for document in DOCUMENTS if document["kind"] == kind)
    return found


CLUSTER = document("RayCluster")
HEAD = CLUSTER["spec"]["headGroupSpec"]
(CALLS,) = CLUSTER["spec"]["workerGroupSpecs"]
SETTINGS = document("ConfigMap")["data"]
JOB = document("Job")["spec"]["template"]
PODS = [HEAD["template"]["spec"], CALLS["template"]["spec"], JOB["spec"]]
CONTAINERS = [pod["containers"][0] for pod in PODS]
HEAD_CONTAINER, CALLS_CONTAINER, JOB_CONTAINER = CONTAINERS


def environment(container: Any) -> dict[str, str]:
    """What a container is told in plain text."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def secrets(container: Any) -> Iterator[tuple[str, str, str]]:
    """Variable, Secret and key of everything that is read from a Secret."""
    for entry in container["env"]:
        if (source := entry.get("valueFrom")) is not None:
            yield entry["name"], source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]


def test_resources_and_labels_are_those_that_the_actors_ask_for() -> None:
    """The head alone has `control`, and nothing but calls may land on a call node."""
    assert HEAD["resources"] == {CONTROL: "1", "CPU": "0"}
    assert CALLS["resources"].keys() == {CALL_SLOT, "CPU"}
    # KubeRay refuses what stands in both places.
    for group in (HEAD, CALLS):
        assert not {"num-cpus", "resources"} & group["rayStartParams"].keys()
    assert CALLS["labels"][ROLE_LABEL] == CALLS_ROLE
    assert {ROLE_LABEL: f"!{CALLS_ROLE}"} == names.OFF_CALL_NODES


def test_as_many_calls_are_admitted_as_there_can_be_slots() -> None:
    """Fewer would leave workers unused; more would be admitted and find no place."""
    slots = int(CALLS["resources"][CALL_SLOT]) * CALLS["maxReplicas"]
    assert load_settings(REQUIRED | SETTINGS).pool.max_calls == slots


def test_the_settings_are_settings() -> None:
    """Every variable and every Secret's key is one that is read, also those in comments."""
    known = {variable.name for variable in describe_settings()}
    assert set(SETTINGS) <= known
    found = list(secrets(HEAD_CONTAINER))
    assert {variable for variable, _, _ in found} <= known
    assert {*REQUIRED, "DATABASE_URL"} <= {variable for variable, _, _ in found}
    assert all(variable == key for variable, _, key in found)
    text = SHIPPED.read_text(encoding="utf-8")
    for variable, secret, _ in found:
        assert f"secret generic {secret} " in text, f"the head of the file does not say how {secret} is made"
        assert f"--from-literal={variable}=" in text


def test_kubernetes_adds_no_variables() -> None:
    """Those of a Service named ringmaster would look like settings, and a setting that does not exist is refused."""
    assert [pod["enableServiceLinks"] for pod in PODS[:2]] == [False, False]


def test_files_are_where_the_settings_say() -> None:
    """Profiles and the key file, on the head and where the calls are."""
    for container in (HEAD_CONTAINER, CALLS_CONTAINER):
        places = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert all(mount["readOnly"] for mount in places.values())
        assert SETTINGS["RINGMASTER_PROFILES_DIR"] in places
        assert "# GOOGLE_APPLICATION_CREDENTIALS: /run/secrets/google/" in SHIPPED.read_text(encoding="utf-8")
        assert "/run/secrets/google" in places


def test_every_container_is_of_this_version() -> None:
    """One image for all, and the Ray that is in it."""
    assert {container["image"] for container in CONTAINERS} == {f"ringmaster:{__version__}"}
    assert CALLS["labels"]["ringmaster-version"] == __version__
    assert CLUSTER["spec"]["rayVersion"] == ray.__version__


def test_the_port_of_the_api_is_the_same_everywhere() -> None:
    """The setting, the container, the Service and the NetworkPolicy."""
    port = int(SETTINGS["RINGMASTER_HTTP_PORT"])
    assert {"name": "serve", "containerPort": port} in HEAD_CONTAINER["ports"]
    assert document("Service")["spec"]["ports"][0]["targetPort"] == "serve"
    assert {"ports": [{"port": port}]} in document("NetworkPolicy")["spec"]["ingress"]


def test_who_is_selected_is_there() -> None:
    """Labels that KubeRay sets, and those of our own."""
    name = CLUSTER["metadata"]["name"]
    cluster = {"ray.io/cluster": name}
    assert document("Service")["spec"]["selector"] == cluster | {"ray.io/node-type": "head"}
    assert document("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == cluster | {ROLE_LABEL: CALLS_ROLE}
    assert document("PodDisruptionBudget")["spec"]["minAvailable"] < CALLS["minReplicas"]
    policy = document("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == cluster
    allowed = [rule["from"][0]["podSelector"]["matchLabels"] for rule in policy["ingress"] if "from" in rule]
    assert allowed == [cluster, JOB["metadata"]["labels"]]


def test_ray_asks_for_a_token_everywhere() -> None:
    """The cluster has one, and the job that deploys the application shows it."""
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert environment(JOB_CONTAINER)["RAY_AUTH_MODE"] == "token"
    assert list(secrets(JOB_CONTAINER)) == [("RAY_AUTH_TOKEN", CLUSTER["metadata"]["name"], "auth_token")]


def test_nothing_runs_as_root_or_at_low_priority() -> None:
    """Nor may any process become root."""
    for pod, container in zip(PODS, CONTAINERS, strict=True):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    for container in (HEAD_CONTAINER, CALLS_CONTAINER):
        assert environment(container)["RAY_worker_niceness"] == "0"
        assert "cpu" not in container["resources"]["limits"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_the_autoscaler_asks_before_it_takes_a_node() -> None:
    """Version 2 does, and what it works with survives the head."""
    assert CLUSTER["spec"]["autoscalerOptions"]["version"] == "v2"
    assert CLUSTER["spec"]["enableInTreeAutoscaling"] is True
    assert "redisAddress" in CLUSTER["spec"]["gcsFaultToleranceOptions"]


def test_the_image_is_made_from_the_lock_and_runs_as_nobody() -> None:
    """The same user as in the manifest, and no system package."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any("--require-hashes" in line and "requirements.lock" in line for line in lines)
    assert f"USER {HEAD['template']['spec']['securityContext']['runAsUser']}" in lines
    assert not any("apt-get" in line for line in lines)
