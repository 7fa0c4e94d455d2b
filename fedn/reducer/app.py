"""The Flask app: blueprints, the gate before them, and what every answer has in common."""

import time

from flask import Flask, Response, g, request

from fedn.protocol.rest import API_PREFIX
from fedn.reducer.pages import (
    accounting,
    clients,
    events,
    login,
    metrics,
    network,
    old_names,
    overview,
    probes,
    reference,
    session,
    times,
    vendor,
)
from fedn.reducer.pages import models as model_pages
from fedn.reducer.pages import packages as package_pages
from fedn.reducer.pages import workers as worker_pages
from fedn.reducer.pages.render import install_templates
from fedn.reducer.pages.serve import live_renderer
from fedn.reducer.rest import joining, models, openapi, packages, sessions, status, workers
from fedn.reducer.rest.describe import install_argument_check
from fedn.reducer.rest.errors import install_errors
from fedn.reducer.rest.gate import install_gate
from fedn.reducer.services import Services, register_services, services

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_MAX_FORM_BYTES = 1 << 20
_MAY_BE_KEPT = frozenset({"static", "vendor.plotly"})


def create_app(parts: Services) -> Flask:
    """The WSGI app of one reducer."""
    app = Flask("fedn.reducer", static_folder=None, template_folder="pages/templates")
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.static_folder = "pages/static"
    app.add_url_rule("/static/<path:filename>", endpoint="static", view_func=app.send_static_file)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_FORM_BYTES
    app.url_map.strict_slashes = True
    register_services(app.extensions, parts)
    app.before_request(_note_start)
    install_gate(app)
    install_argument_check(app)
    install_errors(app)
    for subject in (joining, workers, sessions, models, packages, status, openapi):
        app.register_blueprint(subject.blueprint, url_prefix=API_PREFIX)
    install_templates(app)
    for pages in (
        probes,
        login,
        overview,
        session,
        clients,
        network,
        worker_pages,
        model_pages,
        metrics,
        accounting,
        events,
        package_pages,
        old_names,
        vendor,
        reference,
        times,
    ):
        app.register_blueprint(pages.blueprint)
    parts.live.use(live_renderer(app))
    app.after_request(_finish)
    return app


def _note_start() -> None:
    g.started = time.perf_counter()


def _finish(answer: Response) -> Response:
    headers = answer.headers
    headers["Content-Security-Policy"] = _POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["X-Frame-Options"] = "DENY"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # No Strict-Transport-Security: this port speaks nothing but HTTPS, and the header would bind every other port of
    # the host too, `localhost` among them.
    if request.endpoint not in _MAY_BE_KEPT:
        headers.setdefault("Cache-Control", "no-store")
    rule = request.url_rule.rule if request.url_rule is not None else "(none)"
    method = request.method if request.method in {"GET", "HEAD", "POST", "PUT", "DELETE"} else "(other)"
    services().metrics.note_request(
        method,
        rule,
        answer.status_code,
        time.perf_counter() - g.get("started", time.perf_counter()),
        request.content_length or 0,
        answer.content_length or 0,
    )
    return answer
