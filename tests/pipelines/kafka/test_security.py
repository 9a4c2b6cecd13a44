"""SASL and TLS on a real listener: one setting for both clients, rights by user, no falling back to plain text."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from pipelines.faust_transport import AppStoppedError, build_app, serve
from pipelines.kafka import (
    Action,
    Admin,
    KafkaConfig,
    Producer,
    SettingsCheck,
    Source,
    TopicSettingsError,
    TransactionalProducer,
)
from schemas.errors import KafkaRefusedError, KafkaUnavailableError, SettingsError
from schemas.topics import EVENTS, ROLLUPS, TOPICS
from tailrace.broker import Broker
from tailrace.broker.config import pick_free_port
from tailrace_emitter.emitter import Emitter

PEM = serialization.Encoding.PEM
PASSWORDS = {
    "stages": "stages-canary-7f3a",
    "emitter": "emitter-canary-91bc",
    "reader": "reader-canary-27de",
}
PREFIX = "sec."


def authority(name: str) -> tuple[x509.Name, ec.EllipticCurvePrivateKey, x509.Certificate]:
    key, called = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = certificate(called, called, key).add_extension(x509.BasicConstraints(True, None), critical=True)
    return called, key, made.sign(key, hashes.SHA256())


def certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(hours=1))


@dataclass(frozen=True)
class Secured:
    """A broker with a SASL_SSL listener, two users and their rights."""

    broker: Broker
    address: str
    ca: Path
    other_ca: Path

    def config(self, user: str = "stages", **changes: str) -> KafkaConfig:
        client = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": PASSWORDS[user],
            "ssl.ca.location": str(self.ca),
            **{name.replace("_", "."): value for name, value in changes.items()},
        }
        return KafkaConfig(self.address, PREFIX, client)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    issuer, ca_key, ca = authority("a CA for one test")
    _, _, other = authority("a CA that signed nothing")
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")]), issuer, key)
    signed = leaf.add_extension(names, critical=False).sign(ca_key, hashes.SHA256())
    ca_file, other_file = folder / "ca.pem", folder / "other.pem"
    ca_file.write_bytes(ca.public_bytes(PEM))
    other_file.write_bytes(other.public_bytes(PEM))
    address = f"127.0.0.1:{pick_free_port()}"
    users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
    extra = {
        "listeners": f"SASL_SSL://{address}",
        "advertised.listeners": f"SASL_SSL://{address}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
        "listener.name.sasl_ssl.ssl.keystore.certificate.chain": signed.public_bytes(PEM).decode(),
        "listener.name.sasl_ssl.ssl.keystore.key": key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # whoever reaches the loopback listener without a name makes the topics and the rights
        "super.users": "User:ANONYMOUS",
    }
    with Broker(folder, extra=extra) as broker:
        Admin(KafkaConfig(broker.bootstrap, PREFIX)).create_topics(TOPICS, partitions=1)
        grant(broker.bootstrap)
        yield Secured(broker, address, ca_file, other_file)


def grant(bootstrap: str) -> None:
    """The rights that docs/operate/security.md lists."""

    def allow(
        user: str, kind: ResourceType, name: str, *operations: AclOperation, exact: bool = False
    ) -> list[AclBinding]:
        pattern = ResourcePatternType.LITERAL if exact else ResourcePatternType.PREFIXED
        return [
            AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for operation in operations
        ]

    rights = [
        *allow("emitter", ResourceType.TOPIC, PREFIX + EVENTS, AclOperation.WRITE, AclOperation.DESCRIBE, exact=True),
        *allow("stages", ResourceType.TOPIC, PREFIX, AclOperation.ALL),
        *allow("reader", ResourceType.TOPIC, PREFIX, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS),
        *allow("stages", ResourceType.GROUP, PREFIX, AclOperation.READ, AclOperation.DESCRIBE),
        *allow("stages", ResourceType.TRANSACTIONAL_ID, PREFIX, AclOperation.WRITE, AclOperation.DESCRIBE),
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_acls(rights).values():
        made.result(15)


def read(config: KafkaConfig, topic: str) -> list[bytes | None]:
    source = Source(config, [topic], batch_wait_s=0.2)
    try:
        source.assign({(topic, 0): None})
        found: list[bytes | None] = []
        for _ in range(100):
            for records in source.poll():
                found += records.values
            if found:
                return found
        return found
    finally:
        source.close()


def faust_reads(config: KafkaConfig, topic: str, folder: Path, *, within_s: float = 60) -> list[bytes]:
    seen: list[bytes] = []
    stop = threading.Event()

    def build():
        app = build_app("reader", config, slot="0", partitions=1, data_dir=folder)

        @app.agent(app.topic(config.prefix + topic, key_type=bytes, value_type=bytes, value_serializer="raw"))
        async def agent(stream):
            async for event in stream.events():
                seen.append(event.value)
                asyncio.get_running_loop().call_later(0.2, stop.set)

        return app

    timer = threading.Timer(within_s, stop.set)
    timer.start()
    try:
        serve(build, stop=stop)
    finally:
        timer.cancel()
    return seen


def test_one_setting_serves_librdkafka_and_faust(secured: Secured, tmp_path: Path) -> None:
    config = secured.config()
    assert EVENTS in Admin(config).topics()
    producer = Producer(config)
    producer.send(ROLLUPS, b"through TLS")
    producer.flush(20)
    producer.close()
    assert read(config, ROLLUPS) == [b"through TLS"]
    assert faust_reads(config, ROLLUPS, tmp_path) == [b"through TLS"]
    source = Source(config, [ROLLUPS], group="reader")
    transaction = TransactionalProducer(config, f"{PREFIX}meter-0")
    try:
        source.assign({(ROLLUPS, 0): None})
        transaction.begin()
        transaction.send(ROLLUPS, b"in a transaction")
        transaction.commit({(ROLLUPS, 0): 1}, source)
    finally:
        transaction.close()
        source.close()


def test_an_emitter_may_write_events_and_nothing_else(secured: Secured) -> None:
    config = secured.config("emitter")
    emitter = Emitter("shop", bootstrap_servers=secured.address, topic=PREFIX + EVENTS, kafka=config.client)
    emitter.call(model="gpt-4o", input_tokens=5, output_tokens=2)
    assert emitter.flush(20) == 0
    emitter.close()
    (value,) = read(secured.config(), EVENTS)
    assert b'"app":"shop"' in (value or b"")
    with pytest.raises(KafkaRefusedError, match="uthoriz"):
        read(config, EVENTS)
    producer = Producer(config)
    producer.send(ROLLUPS, b"forged")
    with pytest.raises((KafkaRefusedError, KafkaUnavailableError)):
        producer.flush(8)
    with pytest.raises(KafkaRefusedError):
        Admin(config).delete_topics([EVENTS])


def test_settings_that_may_not_be_changed_are_reported_and_compaction_is_refused(secured: Secured) -> None:
    owner = Admin(KafkaConfig(secured.broker.bootstrap, PREFIX))
    promised = owner.settings(EVENTS)
    check = SettingsCheck(Admin(secured.config("reader")), TOPICS)
    assert check.require() == []
    owner.alter_settings(EVENTS, {"message.timestamp.type": "CreateTime"})
    try:
        (finding,) = check.require()  # a stage goes on: each record carries the type of its time
        assert finding.action is Action.REPORT
        assert "not changed: " in str(finding)
        assert "uthoriz" in finding.cause
        assert "--add-config message.timestamp.type=LogAppendTime" in finding.remedy
        owner.alter_settings(ROLLUPS, {"cleanup.policy": "compact"})
        with pytest.raises(TopicSettingsError, match=r"llm.rollups: cleanup.policy is compact"):
            check.require()
    finally:
        owner.alter_settings(ROLLUPS, {"cleanup.policy": "delete"})
        owner.alter_settings(EVENTS, {"message.timestamp.type": promised["message.timestamp.type"]})


def test_settings_that_may_not_be_read_are_logged_as_unknown_once(secured: Secured) -> None:
    check = SettingsCheck(Admin(secured.config("emitter")), [t for t in TOPICS if t.name == EVENTS])
    with capture_logs() as logs:
        (finding,) = check.require()
        assert check.run() == [finding]
    assert str(finding).startswith("llm.events: every setting is unknown, wanted as promised (not changed: ")
    assert str(finding).endswith("grant DescribeConfigs on the topic")
    assert [line["event"] for line in logs] == ["topic_settings_unknown"]


WRONG = {
    "a CA that did not sign it": {"ssl_ca_location": "OTHER"},
    "a wrong password": {"sasl_password": "guess"},
    "no TLS": {"security_protocol": "SASL_PLAINTEXT"},
    "no SASL": {"security_protocol": "SSL"},
    "neither": {"security_protocol": "PLAINTEXT"},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_by_both_clients(secured: Secured, what: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.kafka.admin.TIMEOUT_S", 4.0)
    changes = {k: str(secured.other_ca) if v == "OTHER" else v for k, v in WRONG[what].items()}
    config = secured.config(**changes)
    with pytest.raises((KafkaRefusedError, KafkaUnavailableError)) as refused:
        Admin(config).topics()
    assert PASSWORDS["stages"] not in str(refused.value)
    with pytest.raises(AppStoppedError) as stopped:
        faust_reads(config, ROLLUPS, tmp_path, within_s=30)
    assert PASSWORDS["stages"] not in str(stopped.value)


def test_the_name_in_the_certificate_is_checked(secured: Secured, monkeypatch) -> None:
    named = secured.config()
    elsewhere = KafkaConfig(secured.address.replace("127.0.0.1", "localhost"), PREFIX, named.client)
    monkeypatch.setattr("pipelines.kafka.admin.TIMEOUT_S", 4.0)
    with pytest.raises((KafkaRefusedError, KafkaUnavailableError)):
        Admin(elsewhere).topics()
    trusting = {**named.client, "ssl.endpoint.identification.algorithm": "none"}
    assert EVENTS in Admin(KafkaConfig(elsewhere.bootstrap_servers, PREFIX, trusting)).topics()


@pytest.mark.parametrize(
    "client",
    [
        {"ssl.cipher.suites": "NULL"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"},
        {"security.protocol": "TLS"},
        {"ssl.ca.pem": "-----BEGIN"},
        {"security_protocol": "SASL_SSL"},
    ],
)
def test_what_faust_cannot_honour_is_refused_not_dropped(client: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        build_app("reader", KafkaConfig("127.0.0.1:1", "", client), slot="0", partitions=1, data_dir=tmp_path)
