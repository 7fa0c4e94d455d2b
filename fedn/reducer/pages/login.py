"""Logging in and out in a browser: a token, or the admin secret, becomes a cookie that scripts cannot read."""

import time

from flask import Blueprint, Response, request

from fedn.network.tokens import Role
from fedn.protocol.errors import FednError, InvalidInput, Unauthenticated
from fedn.reducer.pages.render import go_to, html
from fedn.reducer.rest.answers import MAX_STRANGERS_BYTES
from fedn.reducer.rest.gate import address, check_same_site, cookie_name
from fedn.reducer.services import services

blueprint = Blueprint("login", __name__)

LOGIN_S = 8 * 3600.0
"""How long the admin secret logs in for; a token logs in until it expires."""


@blueprint.get("/login")
def form() -> Response:
    return html("login.html", next=_local(request.args.get("next", "/")), error=None)


@blueprint.post("/login")
def log_in() -> Response:
    check_same_site()
    request.max_content_length = MAX_STRANGERS_BYTES
    going_to = _local(request.form.get("next", "/"))
    try:
        token, expires_at = _token_of(request.form.get("secret", "").strip(), request.form.get("role", "admin"))
    except FednError as error:
        return html("login.html", error.http_status, next=going_to, error=error)
    answer = go_to(going_to)
    answer.set_cookie(
        cookie_name(),
        token,
        max_age=max(0, int(expires_at - time.time())),
        secure=services().settings.tls,
        httponly=True,
        samesite="Strict",
    )
    return answer


@blueprint.post("/logout")
def log_out() -> Response:
    check_same_site()
    answer = go_to("/login")
    answer.delete_cookie(cookie_name(), secure=services().settings.tls, httponly=True, samesite="Strict")
    return answer


def _token_of(secret: str, role: str) -> tuple[str, float]:
    """(token, its end) for what was typed: a token itself, or the admin secret."""
    parts = services()
    if secret.count(".") == 2:
        parts.admin_guard.allow(address())
        try:
            return secret, parts.enrolment.verify(secret).expires_at
        except Unauthenticated:
            parts.admin_guard.note_wrong(address())
            raise
    if role not in {Role.ADMIN, Role.VIEWER}:
        raise InvalidInput("bad_field", f"{role[:40]!r} is no role to log in as", fix="Use admin or viewer.")
    parts.admin_guard.check(secret, address())
    reply = parts.enrolment.person_token(Role(role), ttl_s=LOGIN_S)
    return reply.token, reply.expires_at


def _local(path: str) -> str:
    """The path, if it is one of ours: nobody is sent elsewhere after logging in."""
    good = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if good else "/"
