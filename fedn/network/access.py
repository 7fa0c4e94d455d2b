"""Who may call what: the one table. What does not stand here is denied.

The servers ask `authorize_rpc` and `authorize_route` before anything else; a test walks every registered RPC and route
against the table. Not here: which session or client a caller may touch, which the handlers know.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from fedn.network.tls import public_key_id
from fedn.network.tokens import Claims, Role, Scope
from fedn.protocol.errors import Forbidden, InvalidInput, Unauthenticated


class Gate(Enum):
    """Calls that no role opens."""

    PUBLIC = "public"
    """Anybody."""
    ENROLMENT_SECRET = "enrolment secret"  # noqa: S105 - names a gate
    """Whoever sends the enrolment secret as bearer."""
    ADMIN_SECRET = "admin secret"  # noqa: S105 - names a gate
    """Whoever proves in the body what buys a token: the admin secret, or a site's assertion. The handler checks it."""
    REDUCER = "reducer's own token"
    """The reducer alone, by a token that it makes for its links and that opens nothing else (`Scope.LINK`)."""
    RELAYING = "reducer's token for relaying to this combiner"
    """A combiner that hands a worker's stream on, or the reducer for it (`Scope.RELAY`)."""


PUBLIC: Final = Gate.PUBLIC
ENROLMENT_SECRET: Final = Gate.ENROLMENT_SECRET
ADMIN_SECRET: Final = Gate.ADMIN_SECRET
REDUCER: Final = Gate.REDUCER
RELAYING: Final = Gate.RELAYING
_OPENED_BY_SCOPE: Final = {Scope.LINK: REDUCER, Scope.RELAY: RELAYING}

Access = frozenset[Role] | Gate

ADMIN: Final = frozenset({Role.ADMIN})
READERS: Final = frozenset({Role.ADMIN, Role.VIEWER})
COMBINER: Final = frozenset({Role.COMBINER})
CLIENT: Final = frozenset({Role.CLIENT})
EVERY_ROLE: Final = frozenset(Role)

RPC_ACCESS: Mapping[str, Access] = {
    "/fedn.v1.ClientService/Attach": CLIENT,
    "/fedn.v1.CombinerService/Link": REDUCER,
    "/fedn.v1.WorkerService/Attach": CLIENT,
    "/fedn.v1.WorkerService/Relay": RELAYING,
    "/fedn.v1.WorkerService/Detour": REDUCER,
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ADMIN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ADMIN,
}

_API: dict[tuple[str, str], Access] = {
    ("GET", "/ca"): PUBLIC,
    ("GET", "/trail/key"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("POST", "/enrol"): ENROLMENT_SECRET,
    ("POST", "/token"): ADMIN_SECRET,
    ("POST", "/join-strings"): ADMIN,
    ("GET", "/status"): EVERY_ROLE,
    ("GET", "/events"): READERS,
    ("POST", "/combiners"): COMBINER,
    ("POST", "/combiners/<name>/heartbeat"): COMBINER,
    ("GET", "/combiners"): READERS,
    ("GET", "/combiners/<name>"): READERS,
    ("DELETE", "/combiners/<name>"): ADMIN,
    ("POST", "/assignments"): CLIENT,
    ("GET", "/clients"): READERS,
    ("GET", "/clients/<name>"): READERS,
    ("DELETE", "/clients/<name>"): ADMIN,
    ("POST", "/worker-groups"): ADMIN,
    ("GET", "/worker-groups"): READERS,
    ("GET", "/worker-groups/<name>"): READERS,
    ("DELETE", "/worker-groups/<name>"): ADMIN,
    ("POST", "/worker-groups/<name>/members"): CLIENT,
    ("POST", "/worker-groups/<name>/relay-tokens"): COMBINER,
    ("POST", "/worker-groups/<name>/detours"): COMBINER,
    ("POST", "/sessions"): ADMIN,
    ("GET", "/sessions"): READERS,
    ("GET", "/sessions/<session>"): READERS,
    ("POST", "/sessions/<session>/stop"): ADMIN,
    ("POST", "/sessions/<session>/resume"): ADMIN,
    ("GET", "/sessions/<session>/rounds"): READERS,
    ("GET", "/sessions/<session>/rounds/<int:index>"): READERS,
    ("GET", "/sessions/<session>/accounting"): READERS,
    ("GET", "/sessions/<session>/statistics"): READERS,
    ("GET", "/sessions/<session>/rounds/<int:index>/statistics"): READERS,
    ("GET", "/sessions/<session>/validations"): READERS,
    ("GET", "/sessions/<session>/predictions"): READERS,
    ("GET", "/sessions/<session>/predictions/<client>/download"): READERS,
    ("GET", "/models"): READERS,
    ("POST", "/models"): ADMIN,
    ("GET", "/models/<model_id>"): READERS,
    ("GET", "/models/<model_id>/download"): READERS,
    ("GET", "/trail"): READERS,
    ("GET", "/trail/verify"): READERS,
    ("GET", "/packages"): READERS,
    ("POST", "/packages"): ADMIN,
    ("GET", "/packages/<package_id>/download"): EVERY_ROLE,
    ("PUT", "/packages/active"): ADMIN,
    ("GET", "/validations"): READERS,
    ("POST", "/store/gc"): ADMIN,
}

_PAGES_AND_OLD_NAMES: dict[tuple[str, str], Access] = {
    ("GET", "/health"): PUBLIC,
    ("GET", "/api"): PUBLIC,
    ("GET", "/errors"): PUBLIC,
    ("GET", "/errors/<code>"): PUBLIC,
    ("GET", "/static/<path:filename>"): PUBLIC,
    ("GET", "/vendor/plotly.js"): PUBLIC,
    ("GET", "/login"): PUBLIC,
    ("POST", "/login"): PUBLIC,
    ("POST", "/logout"): PUBLIC,
    ("GET", "/"): READERS,
    ("GET", "/metrics"): READERS,
    ("GET", "/status"): EVERY_ROLE,
    ("GET", "/seed"): READERS,
    ("POST", "/seed"): ADMIN,
    ("GET", "/start"): READERS,
    ("POST", "/start"): ADMIN,
    ("GET", "/accounting"): READERS,
    ("GET", "/times"): READERS,
    ("GET", "/plot"): READERS,
    ("GET", "/plot_type"): READERS,
    ("POST", "/plot_type"): READERS,
    ("GET", "/dashboard"): READERS,
    ("POST", "/dashboard/<session>/stop"): ADMIN,
    ("POST", "/dashboard/<session>/resume"): ADMIN,
    ("GET", "/clients"): READERS,
    ("GET", "/clients/<name>"): READERS,
    ("POST", "/clients/<name>/forget"): ADMIN,
    ("GET", "/network"): READERS,
    ("GET", "/workers"): READERS,
    ("GET", "/workers/<name>"): READERS,
    ("GET", "/models"): READERS,
    ("GET", "/models/<model_id>"): READERS,
    ("GET", "/trail/verify"): READERS,
    ("GET", "/events"): READERS,
    ("POST", "/add"): COMBINER,
    ("GET", "/assign"): CLIENT,
    ("POST", "/assign"): CLIENT,
    ("GET", "/context"): EVERY_ROLE,
    ("POST", "/context"): ADMIN,
    ("POST", "/context/active"): ADMIN,
}

ROUTE_ACCESS: Mapping[tuple[str, str], Access] = {
    **{(method, f"/api/v1{rule}"): access for (method, rule), access in _API.items()},
    **_PAGES_AND_OLD_NAMES,
}
"""(HTTP method, Flask rule) to who may call it. HEAD counts as GET; OPTIONS is not served."""


def rpc_access(method: str) -> Access:
    """Who may call an RPC, by its full name. Forbidden (`not_in_access_table`) where nobody may."""
    return _lookup(RPC_ACCESS.get(method), method)


def route_access(method: str, rule: str) -> Access:
    """Who may call a route, by HTTP method and Flask rule. Forbidden (`not_in_access_table`) where nobody may."""
    return _lookup(ROUTE_ACCESS.get(("GET" if method == "HEAD" else method, rule)), f"{method} {rule}")


def authorize_rpc(method: str, claims: Claims | None) -> None:
    """Returns where the bearer of `claims` (None: nobody) may call the RPC.

    Raises:
        Unauthenticated: (`token_missing`) a token is needed, and there is none.
        Forbidden: `role_not_allowed`; `not_in_access_table`.
    """
    _authorize(rpc_access(method), claims, method)


def authorize_route(method: str, rule: str, claims: Claims | None) -> None:
    """Returns where the bearer of `claims` (None: nobody) may call the route, as far as roles and `PUBLIC` go.

    The two secrets are compared by the caller, which has them: ask `route_access` first. Raises as `authorize_rpc`.
    """
    _authorize(route_access(method, rule), claims, f"{method} {rule}")


def check_certificate(claims: Claims, certificate_pem: bytes | None) -> None:
    """With mutual TLS, a site's token counts only on a connection that shows the certificate of the same key.

    People (admin, viewer) have no certificate, and need none.

    Raises:
        Unauthenticated: (`certificate_missing`).
        Forbidden: (`certificate_of_another`).
    """
    if claims.role in READERS:
        return
    if certificate_pem is None:
        raise Unauthenticated(
            "certificate_missing",
            "this federation wants a certificate on every connection of a site",
            fix="Enrol again, so that the site has one.",
            where={claims.role.value: claims.subject},
        )
    try:
        fits = public_key_id(certificate_pem) == claims.key_id
    except InvalidInput:
        fits = False
    if not fits:
        raise Forbidden(
            "certificate_of_another",
            "the certificate of this connection is not that of the token's bearer",
            fix="Use key, certificate and token of one and the same data directory.",
            where={claims.role.value: claims.subject},
        )


def _lookup(access: Access | None, what: str) -> Access:
    if access is None:
        raise Forbidden("not_in_access_table", "nobody may call this", where={"call": what})
    return access


def _authorize(access: Access, claims: Claims | None, what: str) -> None:
    if access is PUBLIC or (claims is not None and _OPENED_BY_SCOPE.get(claims.scope) is access):
        return
    if isinstance(access, Gate):
        raise Forbidden("secret_needed", f"this call is opened by the {access.value} alone", where={"call": what})
    if claims is None:
        raise Unauthenticated(
            "token_missing",
            "this call needs a token",
            fix="Send the header `Authorization: Bearer TOKEN`; `fedn token create` makes one for a person.",
            where={"call": what},
        )
    if claims.scope is Scope.LINK:
        raise Forbidden("link_token", "the reducer's token for its links opens nothing else", where={"call": what})
    if claims.scope is Scope.RELAY:
        raise Forbidden("relay_token", "a token for relaying opens nothing else", where={"call": what})
    if claims.role not in access:
        raise Forbidden(
            "role_not_allowed",
            f"the role {claims.role.value} may not do this",
            fix=f"Use a token of role {' or '.join(sorted(role.value for role in access))}.",
            where={"call": what, claims.role.value: claims.subject},
        )
