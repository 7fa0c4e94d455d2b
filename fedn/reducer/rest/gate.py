"""The gate: before any handler runs, the caller is known and `fedn.network.access` lets him in. Deny by default.

Callers show a token in the Authorization header. Browsers hold it in a cookie instead, and then every change must come
from one of our own pages: it carries the CSRF token that belongs to the login.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from fedn.network.access import ADMIN_SECRET, ENROLMENT_SECRET, PUBLIC, authorize_route, check_certificate, route_access
from fedn.network.tokens import Claims
from fedn.protocol.errors import Forbidden, Unauthenticated
from fedn.reducer.services import services

CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
FORM_OVERHEAD_BYTES = 1 << 20
"""What a form may have besides its file."""
_CSRF_KEY = secrets.token_bytes(32)
"""Of this process: a form that was open when the reducer restarted has to be loaded again."""
_SAFE_METHODS = frozenset({"GET", "HEAD"})


def install_gate(app: Flask) -> None:
    app.before_request(_check_caller)


def claims() -> Claims:
    """Of the caller; only in handlers that a role opens."""
    found = known_claims()
    if found is None:
        raise Unauthenticated("token_missing", "this call needs a token", fix="Send `Authorization: Bearer TOKEN`.")
    return found


def known_claims() -> Claims | None:
    """Of the caller; None on a public route."""
    found: Claims | None = g.get("claims")
    return found


def bearer() -> str:
    """What the Authorization header carries: a token, or a secret. Empty where there is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def address() -> str:
    """Of the caller, for limits on wrong tries."""
    return request.remote_addr or ""


def cookie_name() -> str:
    # The prefix makes browsers insist on TLS and on this very host.
    return "__Host-fedn" if services().settings.tls else "fedn"


def csrf_token(of: Claims) -> str:
    """What each form of a page must send back; it belongs to one login."""
    return hmac.new(_CSRF_KEY, of.token_id.encode(), hashlib.sha256).hexdigest()


def check_same_site() -> None:
    """Refuses what another site's page made the browser send. Forbidden (`cross_site`)."""
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if foreign or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden(
            "cross_site",
            "a page of another site made the browser send this",
            fix="Use the reducer's own pages.",
            where={"origin": origin or ""},
        )


def _check_caller() -> Response | None:
    rule = request.url_rule
    if rule is None:
        return None  # Flask answers that there is no such route; no handler runs
    access = route_access(request.method, rule.rule)
    if access is PUBLIC or access is ADMIN_SECRET:
        return None
    parts = services()
    if access is ENROLMENT_SECRET:
        parts.enrolment_guard.check(bearer(), address())
        return None
    token = bearer()
    cookie = "" if "Authorization" in request.headers else request.cookies.get(cookie_name(), "")
    caller = parts.enrolment.verify(token or cookie) if token or cookie else None
    authorize_route(request.method, rule.rule, caller)
    if caller is not None:
        if parts.settings.mutual_tls:
            certificate = request.environ.get("SSL_CLIENT_CERT", "")
            check_certificate(caller, certificate.encode("ascii") or None)
        if cookie and request.method not in _SAFE_METHODS:
            _check_csrf(caller)
    g.claims = caller
    return None


def _check_csrf(caller: Claims) -> None:
    check_same_site()
    # The token is in the form, which may bring a whole model: it is spooled to disk here, within the largest limit.
    settings = services().settings
    request.max_content_length = max(settings.max_model_bytes, settings.max_package_bytes) + FORM_OVERHEAD_BYTES
    given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode(), csrf_token(caller).encode()):
        raise Forbidden(
            "csrf_token_wrong",
            "the form did not carry the token that belongs to this login",
            fix="Load the page again, then send the form again. Programs send an Authorization header instead.",
        )
