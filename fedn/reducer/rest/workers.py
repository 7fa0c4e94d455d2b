"""Worker groups, and the places of workers in them."""

from flask import Blueprint, Response, request

from fedn.protocol.rest import (
    DetourRequest,
    RelayTokenReply,
    RelayTokenRequest,
    WorkerAssignment,
    WorkerGroupPage,
    WorkerGroupRequest,
    WorkerGroupView,
    WorkerJoin,
)
from fedn.reducer.assignment import Refusal
from fedn.reducer.pages.topics import WORKERS
from fedn.reducer.rest.answers import body, created, nothing, reply
from fedn.reducer.rest.describe import describe
from fedn.reducer.rest.gate import claims
from fedn.reducer.rest.lists import Listing, listed, read_query
from fedn.reducer.services import services

blueprint = Blueprint("workers", __name__)

_GROUPS = Listing(("name", "size", "created_at"), "name", {"home": str})


@blueprint.post("/worker-groups")
@describe("Make a worker group", request=WorkerGroupRequest, reply=WorkerGroupView, status=201, errors=(409,))
def create() -> Response:
    parts = services()
    view = parts.worker_groups.create(body(WorkerGroupRequest))
    parts.live.change(WORKERS)
    return created(view, f"{request.path}/{view.name}")


@blueprint.get("/worker-groups")
@describe("List worker groups", reply=WorkerGroupPage, listing=_GROUPS)
def groups() -> Response:
    query = read_query(_GROUPS)
    found, total = query.page_of(services().worker_groups.list())
    return listed(found, total, query)


@blueprint.get("/worker-groups/<name>")
@describe("Show a worker group", reply=WorkerGroupView)
def group(name: str) -> Response:
    return reply(services().worker_groups.get(name))


@blueprint.delete("/worker-groups/<name>")
@describe("Delete a worker group", status=204)
def delete(name: str) -> Response:
    parts = services()
    parts.worker_groups.delete(name)
    parts.live.change(WORKERS)
    return nothing()


@blueprint.post("/worker-groups/<name>/members")
@describe("Join a worker group", request=WorkerJoin, reply=WorkerAssignment, errors=(409,))
def join(name: str) -> Response:
    wanted, parts, caller = body(WorkerJoin), services(), claims()
    found = parts.worker_groups.join(caller.subject, name, wanted.rank, combiner=wanted.combiner, avoid=wanted.avoid)
    parts.live.change(WORKERS)
    if isinstance(found, Refusal):
        return reply(
            WorkerAssignment(
                status="retry", code=found.code, reason=found.reason, retry_after_s=found.retry_after_s, group=name
            )
        )
    fresh = parts.enrolment.client_token(caller)
    return reply(
        WorkerAssignment(
            status="assigned",
            group=name,
            rank=found.rank,
            size=found.group.size,
            home=found.group.home,
            combiner=found.combiner.name,
            host=found.combiner.host,
            port=found.combiner.port,
            ca=parts.enrolment.ca_pem if parts.settings.tls else "",
            ticket=found.ticket,
            token=fresh.token,
            expires_at=fresh.expires_at,
        )
    )


@blueprint.post("/worker-groups/<name>/relay-tokens")
@describe("Get a token for handing a worker's stream on", request=RelayTokenRequest, reply=RelayTokenReply)
def relay_token(name: str) -> Response:
    """For the combiner that the worker is attached to. Each combiner keeps it for further workers of the same home."""
    return reply(services().relay_desk.token(claims(), name, body(RelayTokenRequest).ticket))


@blueprint.post("/worker-groups/<name>/detours")
@describe("Let the reducer hand a worker's stream on", request=DetourRequest, status=204)
def detour(name: str) -> Response:
    """For a combiner that does not reach the group's home: the reducer fetches the stream there (RPC Detour)."""
    services().relay_desk.detour(claims(), name, body(DetourRequest))
    return nothing()
