"""A misspelt name is refused with the one that was meant."""

import re
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from tailrace.settings.model import Settings
from tailrace.settings.names import EMITTER_VARIABLES, INTERNAL_VARIABLES, check_environment, check_file, names

REPO = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("TAILRACE_KAFKA_BOOTSTRAP_SERVERS", "TAILRACE_KAFKA__BOOTSTRAP_SERVERS"),
        ("TAILRACE_KAFKA__BOOTSTRAP_SERVER", "TAILRACE_KAFKA__BOOTSTRAP_SERVERS"),
        ("TAILRACE_BOOTSTRAP_SERVER", "TAILRACE_BOOTSTRAP_SERVERS"),
        ("TAILRACE_WEB_PORT", "TAILRACE_WEB__PORT"),
        ("TAILRACE_PARTITIONS", "TAILRACE_KAFKA__PARTITIONS"),
        ("TAILRACE_HOEM", "TAILRACE_HOME"),
        ("tailrace_kafka_prefix", "TAILRACE_KAFKA__PREFIX"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(given, meant):
    with pytest.raises(SettingsError, match=rf"unknown variable {given} \(did you mean {meant}\?\)"):
        check_environment(Settings, {given: "a value that may be secret"})


def test_its_value_is_not_repeated():
    with pytest.raises(SettingsError) as caught:
        check_environment(Settings, {"TAILRACE_WEBHOOK_SECRETS": "whsec_canary"})
    assert "canary" not in str(caught.value)


def test_a_name_that_is_near_nothing_is_refused_without_a_guess():
    with pytest.raises(SettingsError, match=r"variable TAILRACE_QQQQQQ: `tailrace settings reference`"):
        check_environment(Settings, {"TAILRACE_QQQQQQ": "1"})


def test_every_setting_is_known_and_so_are_tables_their_keys_and_the_emitter_s_variables():
    known = {name.variable: "" for name in names(Settings)}
    assert len(known) > 50
    more = ("TAILRACE_KAFKA", "TAILRACE_KAFKA__CLIENT__ssl.ca.location", "TAILRACE_MAINTAIN__RETENTION_DAYS__RAW_CALLS")
    others = (*EMITTER_VARIABLES, *INTERNAL_VARIABLES, "TAILRACE_CACHE", "TAILRACE_LOG_LEVEL", "PATH", "TAILRACER")
    check_environment(Settings, {**known, **dict.fromkeys((*more, *others), "")})


def test_what_kubernetes_sets_beside_a_service_of_that_name_is_no_setting():
    check_environment(
        Settings,
        {
            "TAILRACE_SERVICE_HOST": "10.0.0.11",
            "TAILRACE_SERVICE_PORT": "9464",
            "TAILRACE_SERVICE_PORT_METRICS": "9464",
            "TAILRACE_PORT": "tcp://10.0.0.11:9464",
            "TAILRACE_WEB_PORT": "tcp://10.0.0.11:9464",
            "TAILRACE_PORT_9464_TCP": "tcp://10.0.0.11:9464",
            "TAILRACE_PORT_9464_TCP_ADDR": "10.0.0.11",
        },
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kafka": {"bootstrap_server": ""}}, r"kafka\.bootstrap_server: .*did you mean kafka\.bootstrap_servers\?"),
        ({"partitions": 3}, r"partitions: .*did you mean kafka\.partitions\?"),
        ({"kafak": {"partitions": 3}}, r"kafak: .*did you mean kafka\?"),
        ({"Kafka": {"partitions": 3}}, r"Kafka: .*did you mean kafka\?"),
        ({"web": {"tokens": "canary"}}, r"web\.tokens: .*did you mean web\.token\?"),
        ({"rules": {"detector": {"spike": {}}}}, r"rules\.detector: .*did you mean rules\.detectors\?"),
    ],
)
def test_an_unknown_table_or_key_of_the_file_is_refused_with_the_nearest(content, message):
    with pytest.raises(SettingsError, match=message) as caught:
        check_file(Settings, Path("/etc/tailrace.toml"), content)
    assert "/etc/tailrace.toml" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_keys_that_are_the_user_s_are_not_checked():
    check_file(
        Settings, Path("x"), {"kafka": {"client": {"sasl.username": "u"}}, "rules": {"detectors": {"spike": {"a": 1}}}}
    )


def _read_in(folder):
    found = set()
    for file in (REPO / folder).rglob("*.py"):
        found |= set(re.findall(r'"(TAILRACE_[A-Z_]+[A-Z])"', file.read_text()))
    return found


def test_the_emitter_declares_every_variable_that_it_reads():
    assert _read_in("emitter/tailrace_emitter") == set(EMITTER_VARIABLES)


def test_no_variable_that_the_sources_read_is_refused():
    folders = ("tailrace", "jobs", "pipelines", "warehouse", "schemas", "bench")
    found = set().union(*map(_read_in, folders))
    assert "TAILRACE_FAULT" in found
    check_environment(Settings, dict.fromkeys(found, ""))
