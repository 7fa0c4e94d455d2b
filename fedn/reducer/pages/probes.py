"""For machines that watch the reducer: whether it serves, and Prometheus' numbers."""

from flask import Blueprint, Response

from fedn.reducer.rest.answers import arguments
from fedn.reducer.services import services

blueprint = Blueprint("probes", __name__)


@blueprint.get("/health")
def health() -> Response:
    """Whether the process serves at all; says nothing about the federation."""
    return Response('{"status":"ok"}\n', mimetype="application/json")


@blueprint.get("/metrics")
def metrics() -> Response:
    arguments()
    parts = services()
    return Response(parts.metrics.render(), content_type=parts.metrics.content_type)
