"""Two sandboxes never get one port, not even before their reducers listen."""

import socket
from contextlib import closing

import pytest

from fedn.protocol.errors import Conflict
from fedn.sandbox.ports import PortClaim
from tests.support.servers import free_port

HOST = "127.0.0.1"


def test_sandboxes_that_start_at_once_get_ports_of_their_own() -> None:
    with closing(PortClaim(HOST, None)) as first, closing(PortClaim(HOST, None)) as second:
        assert first.port != second.port


def test_a_wanted_port_is_free_again_when_the_claim_is_closed() -> None:
    with closing(PortClaim(HOST, free_port())) as first:
        with pytest.raises(Conflict, match=str(first.port)):
            PortClaim(HOST, first.port)
        wanted = first.port
    with closing(PortClaim(HOST, wanted)) as again:
        assert again.port == wanted


def test_a_claimed_port_is_given_to_nobody_but_who_listens_on_it() -> None:
    with closing(PortClaim(HOST, None)) as claim:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, claim.port))
        with socket.create_server((HOST, claim.port)), socket.create_connection((HOST, claim.port)):
            pass


def test_a_port_that_a_program_listens_on_is_refused() -> None:
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is taken") as caught:
            PortClaim(HOST, port)
    assert caught.value.code == "port_in_use"
