"""With mutual TLS, a federation trains, and whoever shows no certificate gets nowhere."""

import pytest

from fedn import APIClient
from fedn.network.identity import Identity
from fedn.network.tokens import Role, make_assertion
from fedn.protocol.errors import FednError
from tests.support.federation import Federation, wait_for


def use_token(api: APIClient, assertion: str):
    """The assignment that a token gets which is bought with this proof of the key."""
    api.token = api.renew_token(assertion).token
    return api.assign()


def test_a_federation_with_mutual_tls_trains_and_refuses_whoever_shows_no_certificate(tmp_path):
    with Federation(tmp_path, combiners=0, clients=0, reducer_flags=["--mutual-tls"]) as federation:
        federation.add_combiner("c1", "--mutual-tls")
        wait_for(lambda: all(c.linked for c in federation.api.combiners()), "the combiner is linked")
        for number in (1, 2):
            federation.add_client(f"client-{number}")
        federation.wait_attached(2)
        federation.seed()
        assert federation.run(rounds=2, clients_required=2).state == "finished"

        federation.processes["client-1"].stop()
        with Identity(tmp_path / "client-1", "client-1", Role.CLIENT) as identity:
            assertion = make_assertion(identity.key_pem, "client-1", identity.federation)
            with APIClient(federation.url, ca=identity.ca_path) as bare, pytest.raises(FednError, match="certificate"):
                use_token(bare, assertion)
            with APIClient(
                federation.url, ca=identity.ca_path, certificate=identity.certificate_path, key=identity.key_path
            ) as own:
                assertion = make_assertion(identity.key_pem, "client-1", identity.federation)
                assert use_token(own, assertion).combiner == "c1"
