"""No request leaves for where it must not: the forms an address can hide in, and names that lie."""

from __future__ import annotations

import ipaddress

import pytest

from pipelines.notify.guard import Guard, RefusedTargetError, UnreachableError, refusal, resolve

REFUSED_AS_TEXT = [
    "http://example.org/hook",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "https://example.org:22/",
    "https://example.org:80/",
    "https://example.org:0/",
    "https://xn--a/",
    "https://user@example.org/",
    "https://user:pw@example.org/",
    "https://example.org@127.0.0.1/",
    "https://example.org\\@127.0.0.1/",
    "https://:@example.org/",
    "https:///hook",
    "https://",
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://134744072/",
    "https://1.2.3/",
    "https://127.0.0.1./",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.254/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.170.2/",
    "https://100.100.100.200/latest/meta-data/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fd20:ce::254]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://example.org /",
    "https://exa\tmple.org/",
    "https://example.org\r\nHost: evil/",
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://example.org%00.evil/",
    "https://" + "a" * 3000 + "/",
]


@pytest.mark.parametrize("url", REFUSED_AS_TEXT)
def test_a_url_that_hides_an_inner_address_is_refused_without_any_look_up(url: str) -> None:
    def forbidden(host: str, port: int, timeout_s: float) -> tuple[str, ...]:
        raise AssertionError("looked up")

    with pytest.raises(RefusedTargetError):
        Guard(resolver=forbidden).target(url)


@pytest.mark.parametrize(
    "url", ["https://example.org/x", "https://EXAMPLE.org:8443/", "https://8.8.8.8/", "https://[2606:4700::1111]/"]
)
def test_a_public_https_url_passes(url: str) -> None:
    assert not Guard().target(url).allowed


@pytest.mark.parametrize(
    "answer",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "100.127.0.1",
        "0.0.0.0",
    ],
)
def test_one_bad_address_among_good_ones_spoils_the_name(answer: str) -> None:
    guard = Guard(resolver=lambda *_: ("8.8.8.8", answer))
    with pytest.raises(RefusedTargetError):
        guard.addresses(guard.target("https://rebind.example/"), 1.0)


def test_an_allowed_host_may_be_private_and_plain_but_never_link_local() -> None:
    answers = {"inner.corp": "10.0.0.7", "meta.corp": "169.254.169.254"}
    guard = Guard(frozenset({"inner.corp", "meta.corp"}), lambda host, *_: (answers[host],))
    inner = guard.target("http://Inner.corp.:8080/hook")
    assert guard.addresses(inner, 1.0) == (ipaddress.ip_address("10.0.0.7"),)
    with pytest.raises(RefusedTargetError):
        guard.addresses(guard.target("http://meta.corp/"), 1.0)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"],
)
def test_no_allow_list_opens_the_metadata_of_a_cloud(address: str) -> None:
    guard = Guard.allowing([address])
    bracketed = f"[{address}]" if ":" in address else address
    with pytest.raises(RefusedTargetError, match="metadata"):
        guard.target(f"http://{bracketed}/")
    with pytest.raises(RefusedTargetError, match="metadata"):
        guard.place(address, 80)


def test_port_0_is_refused_even_of_an_allowed_host() -> None:
    with pytest.raises(RefusedTargetError, match="port 0"):
        Guard.allowing(["example.org"]).target("https://example.org:0/")


@pytest.mark.parametrize(
    "host", ["", "a/b", "a?b", "u@example.org", "a b", "xn--a", "example.org:25", "2130706433", "::1"]
)
def test_a_place_is_a_bare_host_that_hides_no_inner_address(host: str) -> None:
    with pytest.raises(RefusedTargetError):
        Guard().place(host, 587)


def test_a_place_may_have_any_port() -> None:
    assert Guard().place("Mail.Example.org", 587).host == "mail.example.org"
    assert Guard.allowing(["[::1]:25"]).place("[::1]", 25).allowed


def test_an_entry_with_a_port_opens_that_port_only() -> None:
    guard = Guard.allowing(["127.0.0.1:9000", " LOCALHOST ", "[::1]:9000", "::1"])
    assert guard.target("http://127.0.0.1:9000/").allowed
    assert guard.target("http://localhost:1234/").allowed
    assert guard.target("http://[::1]:77/").allowed
    with pytest.raises(RefusedTargetError):
        guard.target("http://127.0.0.1:9001/")


def test_the_refusal_never_shows_the_url() -> None:
    with pytest.raises(RefusedTargetError) as caught:
        Guard().target("http://hooks.example/services/T0/B0/canary-secret")
    assert "canary" not in str(caught.value)
    assert "hooks.example" not in repr(Guard.allowing([])) + str(caught.value)


def test_the_addresses_of_the_public_resolvers_are_not_refused() -> None:
    assert [refusal(ipaddress.ip_address(a)) for a in ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111")] == ["", "", ""]


def test_a_name_that_does_not_resolve_is_told_without_its_name() -> None:
    with pytest.raises(UnreachableError) as caught:
        resolve("no-such-host.invalid", 443, 5.0)
    assert "no-such-host" not in str(caught.value)
