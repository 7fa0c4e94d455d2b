"""What a site believes of the reducer's answers."""

from pathlib import Path

import pytest

from fedn.client.site import Site
from fedn.network.identity import Identity
from fedn.network.join import JoinString
from fedn.network.tls import CertificateAuthority
from fedn.network.tokens import Role
from fedn.protocol.rest import Assignment


@pytest.mark.parametrize("told", ["", "another authority"])
def test_an_assignment_cannot_take_the_authority_of_the_join_string_away(tmp_path: Path, told: str) -> None:
    ca = CertificateAuthority.create_or_load(tmp_path / "ca", "f")
    with Identity(tmp_path / "site", "a", Role.CLIENT) as identity:
        certificate = ca.sign(identity.csr(), name="a", role=Role.CLIENT, hosts=[], valid_days=1)
        identity.save_enrolment(federation="f", certificate=certificate, ca=ca.certificate_pem, token_key=b"k")
        site = Site(identity, JoinString("https://reducer.example.org:8090", ca.fingerprint, ""))
        endpoint = site.endpoint(Assignment(status="assigned", combiner="c", host="h", port=1, token="t", ca=told))
        assert (endpoint.ca, endpoint.certificate) == (ca.certificate_pem, certificate)
