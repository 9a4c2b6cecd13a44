"""What runs in the place of each image: the same program where this machine has it, else one like it, which is said."""

import glob
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from tailrace.broker.config import to_properties_text
from tailrace.broker.jars import default_cache, ensure_jars
from tailrace.broker.java import child_environment, find_java

if TYPE_CHECKING:
    from compose_harness.stack import Stack

MONITORING = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
"""Image -> Debian's program."""
Launch = tuple[list[str], dict[str, str], dict[str, Any]]


def postgres_program(name: str) -> str:
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name) or name


def launch(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    """Return command, environment and further arguments of ``Popen``."""
    image = service["image"].split(":")[0].split("/")[-1]
    servers = {"kafka": _kafka, "postgres": _postgres, "versitygw": _s3}
    make = _monitoring if image in MONITORING else servers.get(image, _tailrace)
    return make(stack, name, service)


def _tailrace(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    words = [stack.translate(word, name) for word in service["command"]]
    return [sys.executable, "-m", "tailrace", *words], stack.environment(name), {}


def _kafka(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    """The image's start script: KAFKA_A_B becomes a.b in server.properties; then format, then run."""
    folder = stack.folder / f"{name}-image"
    folder.mkdir()
    given = {k: stack.translate(v, name) for k, v in service["environment"].items()}
    heap = given.pop("KAFKA_HEAP_OPTS").split()
    cluster = given.pop("CLUSTER_ID")
    values = {k.removeprefix("KAFKA_").lower().replace("_", "."): v for k, v in given.items()}
    file = folder / "server.properties"
    file.write_text(to_properties_text(values))
    class_path = os.pathsep.join(map(str, ensure_jars(default_cache())))
    environment = {**child_environment(), "CLASSPATH": class_path}
    java = [str(find_java()), *heap, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={folder}"]
    formatting = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file)]
    subprocess.run(formatting, env=environment, check=True, capture_output=True)
    return [*java, "kafka.Kafka", str(file)], environment, {}


def _postgres(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    """The image's entrypoint: initdb with the user, the password's file and the database of the environment."""
    given = {k: stack.translate(v, name) for k, v in service["environment"].items()}
    folder = stack.data(name) / "data"
    how: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        who = pwd.getpwnam("postgres")
        how = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        for path in (stack.data(name), *stack.folder.parents[:3]):
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(stack.data(name), who.pw_uid, who.pw_gid)
        stack.folder.chmod(0o755)
    password, user = given["POSTGRES_PASSWORD_FILE"], given["POSTGRES_USER"]
    initdb = [postgres_program("initdb"), "-D", str(folder), "-U", user, f"--pwfile={password}", "-A", "scram-sha-256"]
    subprocess.run([*initdb, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, cwd="/", **how)
    single = [postgres_program("postgres"), "--single", "-D", str(folder), "postgres"]
    create = f"CREATE DATABASE {given['POSTGRES_DB']} OWNER {user}\n"
    subprocess.run(single, input=create.encode(), check=True, capture_output=True, cwd="/", **how)
    words = [postgres_program("postgres"), *service["command"][1:], "-D", str(folder)]
    listen = ["-c", f"listen_addresses={stack.addresses[name]}", "-c", "port=5432", "-c", "unix_socket_directories="]
    version = subprocess.run([words[0], "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    stack.substituted[name] = f"{service['image']}: Debian's PostgreSQL {version}"
    return [*words, *listen], dict(os.environ), how


def _s3(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    """The gateway itself where it is on the path or named by TAILRACE_TEST_VERSITYGW; else moto's S3 server."""
    script = stack.translate(service["command"][0], name)
    program = os.environ.get("TAILRACE_TEST_VERSITYGW") or shutil.which("versitygw")
    if program:
        path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"
        return ["/bin/sh", "-euc", script], {**os.environ, "PATH": path}, {}
    stack.substituted[name] = f"{service['image']}: moto's S3 server, with a health check of its own"
    address, port = stack.addresses[name], 7070
    stack.document["services"][name]["healthcheck"]["test"] = [
        *("CMD", "python", "-c"),
        f"import boto3; boto3.client('s3', endpoint_url='http://{address}:{port}', region_name='us-east-1', "
        "aws_access_key_id='x', aws_secret_access_key='x').create_bucket(Bucket='lake')",
    ]
    return [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)], dict(os.environ), {}


def _monitoring(stack: "Stack", name: str, service: Mapping[str, Any]) -> Launch:
    program = shutil.which(MONITORING[name])
    assert program
    stack.substituted[name] = f"{service['image']}: Debian's {MONITORING[name]}"
    return [program, *(stack.translate(word, name) for word in service["command"])], dict(os.environ), {}


def bucket(stack: "Stack") -> Any:
    """A client of the stack's bucket, with the keys of its secrets."""
    key, secret = ((stack.secrets / name).read_text() for name in ("s3_access_key", "s3_secret_key"))
    return boto3.client(
        "s3",
        endpoint_url=f"http://{stack.addresses['s3']}:7070",
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
