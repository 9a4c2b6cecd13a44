"""A container's health check asks the supervisor of its own container."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tailrace.monitor.endpoint import Endpoint, serving
from tailrace.probe import url
from tailrace.settings.model import WebSettings


def probe(address, *arguments):
    host, port = urlsplit(address).hostname, urlsplit(address).port
    # a proxy is for the outside: the probe must not take it
    environment = {
        **os.environ,
        "TAILRACE_WEB__HOST": host,
        "TAILRACE_WEB__PORT": str(port),
        "http_proxy": "127.0.0.1:9",
    }
    command = [sys.executable, "-I", "-m", "tailrace.probe", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("well", "live", "codes"), [(True, True, (0, 0)), (False, True, (1, 0)), (False, False, (1, 1))]
)
def test_its_exit_code_is_the_health_and_the_liveness(well, live, codes):
    endpoint = Endpoint(WebSettings(token="secret"), health=lambda: (well, {}), metrics=lambda: b"", live=lambda: live)
    with serving(endpoint, WebSettings(port=0)) as address:
        health, liveness = probe(address), probe(address, "/livez")
    assert (health.returncode, liveness.returncode) == codes
    assert health.stdout == f'{{"healthy": {str(well).lower()}}}'


def test_no_answer_is_a_failure_in_one_line():
    done = probe("http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("no answer: ")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.7", "127.0.0.7")],
)
def test_it_asks_where_the_supervisor_listens(host, expected):
    given = {"TAILRACE_WEB__HOST": host} if host else {}
    assert url(given, "/livez") == f"http://{expected}:9464/livez"
