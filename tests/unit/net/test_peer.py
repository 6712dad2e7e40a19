"""Whose connection it is: an address, and the names of a certificate."""

from __future__ import annotations

import pytest

from ollama_proxy.net.peer import Peer, find_peer, read_names
from tests.support.wire import Wire

CN = (("organizationName", "ACME"),), (("commonName", "bob"),)


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({"subject": CN}, ("bob",)),
        (
            {"subject": CN, "subjectAltName": (("DNS", "a.example"), ("URI", "spiffe://x/y"))},
            ("a.example", "spiffe://x/y"),
        ),
        ({"subject": CN, "subjectAltName": (("IP Address", "10.0.0.1"),)}, ("bob",)),
        ({"subjectAltName": (("email", "bob@example.org"),)}, ("bob@example.org",)),
        ({}, ()),
    ],
)
def test_names_are_those_for_clients_and_the_common_one_else(
    certificate: dict[str, object], names: tuple[str, ...]
) -> None:
    assert read_names(certificate) == names


class Told(Wire):
    def __init__(self, **told: object) -> None:
        super().__init__()
        self._told = told

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._told.get(name, default)


def test_an_address_is_a_plain_word_without_a_certificate() -> None:
    assert find_peer(Told(peername=("10.0.0.1", 5))) == "10.0.0.1:5"
    assert type(find_peer(Told(peername=("10.0.0.1", 5)))) is str
    assert find_peer(Told(peername="/a/socket")) == "local"


def test_a_certificate_comes_with_the_address() -> None:
    peer = find_peer(Told(peername=("::1", 5, 0, 0), peercert={"subject": CN}))
    assert isinstance(peer, Peer)
    assert (peer, peer.names) == ("::1:5", ("bob",))
