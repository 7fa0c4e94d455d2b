import pytest

from fedn.network.tls import make_csr, new_private_key, public_key_id
from fedn.network.tokens import Role, TokenVerifier, make_assertion
from fedn.protocol.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from fedn.protocol.rest import EnrolReply, EnrolRequest
from fedn.reducer.enrolment import Enrolment
from tests.unit.reducer.parts import Parts, make_parts


@pytest.fixture
def enrolment(parts: Parts) -> Enrolment:
    return parts.services.enrolment


def enrol(enrolment: Enrolment, name: str, key: bytes, role: str = "client", **more: object) -> EnrolReply:
    return enrolment.enrol(EnrolRequest(name=name, role=role, csr=make_csr(key, name).decode(), **more))  # type: ignore[arg-type]


def test_a_site_gets_a_certificate_and_a_token_bound_to_its_key(enrolment: Enrolment) -> None:
    key = new_private_key()
    reply = enrol(enrolment, "eins", key)
    assert public_key_id(reply.certificate.encode()) == public_key_id(key)
    claims = TokenVerifier(reply.token_key.encode(), reply.federation).verify(reply.token)
    assert (claims.subject, claims.role, claims.key_id) == ("eins", Role.CLIENT, public_key_id(key))


def test_a_name_belongs_to_one_key(enrolment: Enrolment) -> None:
    key = new_private_key()
    enrol(enrolment, "eins", key)
    enrol(enrolment, "eins", key)
    with pytest.raises(Conflict, match="name_taken"):
        enrol(enrolment, "eins", new_private_key())
    enrol(enrolment, "eins", new_private_key(), role="combiner")  # names of combiners are others
    assert [site.name for site in enrolment.sites(Role.CLIENT)] == ["eins"]


def test_the_binding_outlives_the_process(parts: Parts, enrolment: Enrolment) -> None:
    key = new_private_key()
    token = enrol(enrolment, "eins", key).token
    folder = parts.services.settings.data_dir
    parts.close()
    again = make_parts(folder)
    try:
        assert again.services.enrolment.verify(token).subject == "eins"
        with pytest.raises(Conflict, match="name_taken"):
            enrol(again.services.enrolment, "eins", new_private_key())
    finally:
        again.close()


@pytest.mark.parametrize(
    ("name", "more", "code"), [("a/b", {}, "bad_name"), ("eins", {"hosts": ("localhost",)}, "hosts_not_allowed")]
)
def test_what_cannot_be_enrolled_binds_nothing(
    enrolment: Enrolment, name: str, more: dict[str, object], code: str
) -> None:
    with pytest.raises(InvalidInput, match=code):
        enrol(enrolment, name, new_private_key(), **more)
    assert enrolment.sites(Role.CLIENT) == []


def test_a_site_renews_its_token_by_its_key_alone(enrolment: Enrolment) -> None:
    key, other = new_private_key(), new_private_key()
    enrol(enrolment, "eins", key)
    enrol(enrolment, "eins", other, role="combiner")
    assert enrolment.renew(make_assertion(key, "eins", enrolment.federation)).role == "client"
    assert enrolment.renew(make_assertion(other, "eins", enrolment.federation)).role == "combiner"
    with pytest.raises(Unauthenticated, match="token_bad"):
        enrolment.renew(make_assertion(new_private_key(), "eins", enrolment.federation))
    with pytest.raises(Unauthenticated, match="site_forgotten"):
        enrolment.renew(make_assertion(key, "zwei", enrolment.federation))


def test_a_forgotten_site_is_nobody_and_its_name_is_free(enrolment: Enrolment) -> None:
    token = enrol(enrolment, "eins", new_private_key()).token
    enrolment.forget(Role.CLIENT, "eins")
    with pytest.raises(Unauthenticated, match="site_forgotten"):
        enrolment.verify(token)
    with pytest.raises(NotFound, match="no_such_client"):
        enrolment.forget(Role.CLIENT, "eins")
    enrol(enrolment, "eins", new_private_key())
    with pytest.raises(Unauthenticated, match="site_forgotten"):
        enrolment.verify(token)  # the name is back, but with another key
