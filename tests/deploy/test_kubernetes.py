"""deploy/kubernetes: both overlays as kustomize builds them, strictly by the published schemas."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from compose_harness.document import REPO
from jsonschema import Draft7Validator, Draft202012Validator

from schemas.topics import EVENTS, ROLLUPS, SAMPLES
from tailrace.settings.model import Settings
from tailrace.settings.names import check_environment
from tailrace.supervisor.stages import STAGES

FOLDER = REPO / "deploy" / "kubernetes"
SCHEMAS = json.loads((Path(__file__).parent / "schemas" / "kubernetes.json").read_text())
"""Of Kubernetes' OpenAPI document (github.com/kubernetes-client/python at 024658493) and KEDA's definition of
ScaledObject (github.com/kedacore/keda at 8b4f083ca), both Apache-2.0; without descriptions, unknown keys refused."""
NAMES = {stage.name for stage in STAGES}
SINGLE = {"notify", "schedule"}
SCALED = {"land": EVENTS, "meter": EVENTS, "detect": ROLLUPS, "drift": SAMPLES}


@pytest.fixture(scope="module", params=["small", "full"])
def built(request):
    """(overlay, its objects)."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: nothing here builds a Kustomization")
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, list(yaml.safe_load_all(done.stdout))


def of_kind(objects, kind):
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def errors(each):
    schema = SCHEMAS["kinds"][f"{each['apiVersion']} {each['kind']}"]
    validator = Draft202012Validator if "keda" in each["apiVersion"] else Draft7Validator
    found = validator(
        {**schema, "definitions": SCHEMAS["definitions"]}
        if "keda" in each["apiVersion"]
        else {"allOf": [schema], "definitions": SCHEMAS["definitions"]}
    )
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in found.iter_errors(each)]


def test_every_object_is_valid_by_its_schema_without_unknown_keys(built):
    _, objects = built
    for each in objects:
        assert errors(each) == [], each["metadata"]["name"]
    wrong = of_kind(objects, "Deployment")["land"]
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert any("imagePolicy" in error for error in errors(wrong))
    del wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"]


def test_there_is_a_deployment_a_budget_and_probes_for_each_stage(built):
    _, objects = built
    deployments = of_kind(objects, "Deployment")
    assert set(deployments) == set(of_kind(objects, "PodDisruptionBudget")) == NAMES
    for name, each in deployments.items():
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["up", "--echo", "--only", name]
        assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert "startupProbe" in container
        assert container["resources"].keys() == {"requests", "limits"}
        budget = of_kind(objects, "PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"]
        assert budget.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        assert (each["spec"]["strategy"]["type"] == "Recreate") == (name in SINGLE)


def test_pods_run_without_rights_on_a_read_only_root_file_system(built):
    _, objects = built
    for name, each in of_kind(objects, "Deployment").items():
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp", "/etc/tailrace/secrets"}
        assert {volume["name"] for volume in pod["volumes"]} == {"data", "tmp", "secrets"}
        image, _, tag = container["image"].partition(":")
        assert (image, tag) == ("tailrace", "full" if name in ("drift", "schedule") else "slim")


def test_the_settings_are_ours_and_secrets_are_files_that_the_script_makes(built):
    _, objects = built
    (settings,) = of_kind(objects, "ConfigMap").values()
    check_environment(Settings, settings["data"])
    made = (REPO / "deploy" / "secrets.sh").read_text()
    files = {v for k, v in settings["data"].items() if k.endswith("_FILE")}
    for each in files:
        assert f"| make {Path(each).name}" in made
    for each in of_kind(objects, "Deployment").values():
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_only_metrics_are_reached_and_the_policy_selects_every_pod(built):
    _, objects = built
    (policy,) = of_kind(objects, "NetworkPolicy").values()
    labels = policy["spec"]["podSelector"]["matchLabels"].items()
    for each in of_kind(objects, "Deployment").values():
        assert labels <= each["spec"]["template"]["metadata"]["labels"].items()
    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": 9464, "protocol": "TCP"}]]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_full_scales_what_can_be_shared_on_the_lag_of_its_group_and_small_nothing(built):
    overlay, objects = built
    scaled = of_kind(objects, "ScaledObject")
    assert set(scaled) == (set(SCALED) if overlay == "full" else set())
    partitions = of_kind(objects, "ConfigMap")
    (settings,) = (each["data"] for each in partitions.values())
    for name, each in scaled.items():
        (trigger,) = each["spec"]["triggers"]
        assert (trigger["type"], trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) == (
            "kafka",
            name,
            SCALED[name],
        )
        assert each["spec"]["maxReplicaCount"] <= int(settings["TAILRACE_KAFKA__PARTITIONS"])
        assert trigger["metadata"]["bootstrapServers"] == settings["TAILRACE_KAFKA__BOOTSTRAP_SERVERS"]
        assert each["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in of_kind(objects, "Deployment")[name]["spec"]
