"""docker-compose.yml by its published schema, and by what every service of it must have."""

import json
import re
from pathlib import Path

import pytest
import yaml
from compose_harness.document import (
    REPO,
    UnresolvedError,
    compose,
    dotenv,
    image_environment,
    interpolate,
    resolved,
    services,
)
from jsonschema import Draft7Validator

from tailrace.settings.model import Settings
from tailrace.settings.names import check_environment
from tailrace.settings.secret_files import value_files
from tailrace.supervisor.stages import STAGES

SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
"""Of github.com/compose-spec/compose-spec at 170098b, Apache-2.0."""
OURS = {"tailrace", "demo", *(stage.name for stage in STAGES)}


@pytest.fixture(scope="module")
def document():
    return compose()


def test_it_is_valid_by_the_schema_of_the_compose_specification():
    schema = json.loads(SCHEMA.read_text())
    raw = yaml.safe_load((REPO / "docker-compose.yml").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(raw)] == []
    assert [error.message for error in Draft7Validator(schema).iter_errors(compose())] == []
    raw["services"]["land"]["restart"] = {"no": "such form"}
    assert list(Draft7Validator(schema).iter_errors(raw))


def test_every_variable_resolves_with_and_without_the_env_file():
    raw = yaml.safe_load((REPO / "docker-compose.yml").read_text())
    assert "${" not in json.dumps(resolved(raw, {}))
    assert "${" not in json.dumps(compose())
    used = set(re.findall(r"\$\{(\w+)", (REPO / "docker-compose.yml").read_text()))
    assert set(dotenv()) - {"COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"} <= used
    with pytest.raises(UnresolvedError):
        interpolate("${NO_DEFAULT}", {})
    assert interpolate("$${A} ${A:-b} ${A-b} $$(cat)", {"A": ""}) == "${A} b  $(cat)"


def test_small_is_one_container_and_full_has_each_part_of_its_own(document):
    assert set(services(document, "small")) == {"tailrace"}
    full = set(services(document, "full"))
    assert {stage.name for stage in STAGES} <= full
    assert {"kafka", "postgres", "s3", "prometheus", "alertmanager", "grafana"} <= full
    assert "demo" not in full
    for stage in STAGES:
        assert document["services"][stage.name]["command"] == ["up", "--echo", "--only", stage.name]


def test_every_service_has_a_pinned_image_a_health_check_limits_and_few_rights(document):
    for name, service in document["services"].items():
        image, _, tag = service["image"].partition(":")
        assert tag, name
        assert tag != "latest", name
        assert image == "tailrace" or re.search(r"\d+\.\d+", tag), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] or name == "kafka", name
        if name in ("demo", "bucket-owner"):
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["healthcheck"]["interval"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_services_wait_for_healthy_ones_only(document):
    for name, service in document["services"].items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == "bucket-owner" else "service_healthy"
            assert how["condition"] == expected, (name, other)
            assert other in document["services"]
            if how.get("required", True):
                assert set(service["profiles"]) <= set(document["services"][other]["profiles"])
    for stage in STAGES:
        assert set(document["services"][stage.name]["depends_on"]) == {"kafka", "postgres", "s3"}


def test_no_secret_is_in_an_environment_and_every_file_is_one_of_the_services_secrets(document):
    named = set()
    for name, service in document["services"].items():
        given = service.get("environment", {})
        for variable, value in given.items():
            if re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|USER_KEY|CATALOG|CHANNELS", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.startswith("/run/secrets/"), (name, variable)
        used = set(re.findall(r"/run/secrets/(\w+)", json.dumps([given, service.get("command", [])])))
        assert used <= set(service.get("secrets", [])), name
        named |= set(service.get("secrets", []))
    assert named == set(document["secrets"])
    script = (REPO / "deploy" / "secrets.sh").read_text()
    for secret in document["secrets"].values():
        assert re.search(rf"\| make {Path(secret['file']).name}\b", script)
    assert "deploy/secrets/" in (REPO / ".gitignore").read_text()


def test_every_variable_of_ours_is_a_setting(document):
    for name in OURS:
        check_environment(Settings, {**image_environment(), **document["services"][name].get("environment", {})})
    assert "TAILRACE_LAKE__CATALOG_FILE" in value_files(Settings)


def test_every_volume_and_mounted_folder_exists(document):
    mounted = {v.split(":")[0] for s in document["services"].values() for v in s.get("volumes", [])}
    assert {name for name in mounted if not name.startswith("./")} == set(document["volumes"])


def test_what_the_stages_write_outside_of_a_volume_is_a_tmpfs(document):
    for name in OURS:
        assert any(each.startswith("/tmp:") for each in document["services"][name]["tmpfs"]), name
    assert image_environment()["HOME"] == "/tmp"
    assert image_environment()["TAILRACE_HOME"] == "/data"
