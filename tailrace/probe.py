"""A container's health check: ``python -m tailrace.probe [/healthz | /livez]`` ends with 0 where the answer is 200.

Only the standard library: it is started every few seconds.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

PORT = "9464"
TIMEOUT_S = 5.0


def url(environment: dict[str, str], path: str) -> str:
    """Return where this container's supervisor answers. Health needs no token."""
    host = environment.get("TAILRACE_WEB__HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{environment.get('TAILRACE_WEB__PORT') or PORT}{path}"


def main() -> int:
    """Ask once; print the answer, which ``docker inspect`` shows."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url(dict(os.environ), path), timeout=TIMEOUT_S) as answer:
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode())
        return 1
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
