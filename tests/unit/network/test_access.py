"""The access table: every entry for every role, and nothing beside it."""

from pathlib import Path

import pytest

from fedn.network import tls
from fedn.network.access import (
    ADMIN,
    PUBLIC,
    READERS,
    ROUTE_ACCESS,
    RPC_ACCESS,
    Access,
    Gate,
    authorize_route,
    authorize_rpc,
    check_certificate,
    route_access,
)
from fedn.network.tls import CertificateAuthority
from fedn.network.tokens import Claims, Role, Scope
from fedn.protocol.errors import FednError, Forbidden, Unauthenticated


def bearer(role: Role, key_id: str = "", scope: Scope = Scope.ROLE) -> Claims:
    return Claims("somebody", role, key_id, 0.0, "1", scope)


def verdict(access: Access, claims: Claims | None) -> str:
    if access is PUBLIC:
        return "allowed"
    if claims is not None and (access, claims.scope) in {(Gate.REDUCER, Scope.LINK), (Gate.RELAYING, Scope.RELAY)}:
        return "allowed"
    if isinstance(access, Gate):
        return "secret_needed"
    if claims is None:
        return "token_missing"
    if claims.scope is not Scope.ROLE:
        return "link_token" if claims.scope is Scope.LINK else "relay_token"
    return "allowed" if claims.role in access else "role_not_allowed"


LINK, RELAY = bearer(Role.ADMIN, scope=Scope.LINK), bearer(Role.COMBINER, scope=Scope.RELAY)
CALLERS = [None, *(bearer(role) for role in Role), LINK, RELAY]


@pytest.mark.parametrize("claims", CALLERS, ids=lambda claims: claims.role if claims else "nobody")
def test_table_decides_for_every_rpc_and_route(claims: Claims | None) -> None:
    def decided(call: object, *arguments: object) -> str:
        try:
            call(*arguments, claims)  # type: ignore[operator]
        except FednError as error:
            return error.code
        return "allowed"

    for method, access in RPC_ACCESS.items():
        assert decided(authorize_rpc, method) == verdict(access, claims), method
    for (method, rule), access in ROUTE_ACCESS.items():
        assert decided(authorize_route, method, rule) == verdict(access, claims), (method, rule)


@pytest.mark.parametrize("claims", CALLERS, ids=lambda claims: claims.role if claims else "nobody")
def test_what_is_not_in_the_table_is_denied_even_to_an_admin(claims: Claims | None) -> None:
    for method, rule in (("GET", "/nothing"), ("PATCH", "/api/v1/models"), ("OPTIONS", "/api/v1/models"), ("get", "/")):
        with pytest.raises(Forbidden, match="not_in_access_table"):
            authorize_route(method, rule, claims)
    with pytest.raises(Forbidden, match="not_in_access_table"):
        authorize_rpc("/fedn.v1.CombinerService/Nothing", claims)


def test_what_the_reducer_shows_a_combiner_opens_links_and_nothing_else() -> None:
    shown = LINK
    authorize_rpc("/fedn.v1.CombinerService/Link", shown)
    for method, rule in (("POST", "/api/v1/sessions"), ("GET", "/api/v1/models"), ("DELETE", "/api/v1/clients/<name>")):
        with pytest.raises(Forbidden, match="link_token"):
            authorize_route(method, rule, shown)
    with pytest.raises(Forbidden, match="secret_needed"):
        authorize_rpc("/fedn.v1.CombinerService/Link", bearer(Role.ADMIN))


def test_what_a_combiner_shows_another_one_opens_its_relay_and_nothing_else() -> None:
    authorize_rpc("/fedn.v1.WorkerService/Relay", RELAY)
    for method in ("/fedn.v1.WorkerService/Attach", "/fedn.v1.WorkerService/Detour", "/fedn.v1.CombinerService/Link"):
        with pytest.raises(Forbidden):
            authorize_rpc(method, RELAY)
    for method, rule in (("POST", "/api/v1/combiners"), ("POST", "/api/v1/worker-groups/<name>/detours")):
        with pytest.raises(Forbidden, match="relay_token"):
            authorize_route(method, rule, RELAY)
    with pytest.raises(Forbidden, match="secret_needed"):
        authorize_rpc("/fedn.v1.WorkerService/Relay", bearer(Role.COMBINER))


def test_head_counts_as_get() -> None:
    assert route_access("HEAD", "/api/v1/models") == route_access("GET", "/api/v1/models")


def test_viewers_change_nothing() -> None:
    asking = {("POST", "/plot_type")}  # FEDn asks for a figure so
    changing = {
        key: access
        for key, access in ROUTE_ACCESS.items()
        if key[0] != "GET" and key not in asking and not isinstance(access, Gate)
    }
    assert changing and not any(Role.VIEWER in access for access in changing.values() if isinstance(access, frozenset))


def test_admin_and_viewer_read_the_same() -> None:
    reading = [access for (method, _), access in ROUTE_ACCESS.items() if method == "GET"]
    assert all((Role.ADMIN in access) == (Role.VIEWER in access) for access in reading if isinstance(access, frozenset))


def test_public_is_only_what_must_be() -> None:
    assert {key for key, access in ROUTE_ACCESS.items() if access is PUBLIC} == {
        ("GET", "/api/v1/ca"),
        ("GET", "/api/v1/trail/key"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/health"),
        ("GET", "/api"),
        ("GET", "/errors"),
        ("GET", "/errors/<code>"),
        ("GET", "/static/<path:filename>"),
        ("GET", "/vendor/plotly.js"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
    }


def test_refusal_names_the_roles_that_may() -> None:
    with pytest.raises(Forbidden) as caught:
        authorize_route("POST", "/api/v1/sessions", bearer(Role.VIEWER))
    assert caught.value.fix == "Use a token of role admin."
    assert ROUTE_ACCESS["GET", "/api/v1/sessions"] == READERS and ROUTE_ACCESS["POST", "/api/v1/sessions"] == ADMIN


def test_with_mutual_tls_a_token_counts_with_the_certificate_of_its_own_key_only(tmp_path: Path) -> None:
    ca = CertificateAuthority.create_or_load(tmp_path, "f")
    key, other = tls.new_private_key(), tls.new_private_key()
    own, foreign = (
        ca.sign(tls.make_csr(k, "c"), name="c", role=Role.CLIENT, hosts=[], valid_days=1) for k in (key, other)
    )
    claims = bearer(Role.CLIENT, tls.public_key_id(key))
    check_certificate(claims, own)
    for certificate in (foreign, b"rubbish"):
        with pytest.raises(Forbidden, match="certificate_of_another"):
            check_certificate(claims, certificate)
    with pytest.raises(Unauthenticated, match="certificate_missing"):
        check_certificate(claims, None)
    check_certificate(bearer(Role.ADMIN), None)
