"""Joining: the authority's certificate, enrolment, tokens, combiners, clients and their assignment."""

from flask import Blueprint, Response, request

from fedn.network.join import JoinString
from fedn.network.tokens import Role
from fedn.protocol.errors import FednError, Forbidden
from fedn.protocol.rest import (
    Assignment,
    AssignmentRequest,
    ClientPage,
    ClientView,
    CombinerHeartbeat,
    CombinerPage,
    CombinerRegistration,
    CombinerView,
    EnrolReply,
    EnrolRequest,
    JoinReply,
    JoinRequest,
    RegistrationReply,
    TokenReply,
    TokenRequest,
)
from fedn.protocol.trail import GENESIS
from fedn.reducer.assignment import Refusal
from fedn.reducer.enrolment import Site
from fedn.reducer.pages.topics import CLIENTS, VITALS, WORKERS
from fedn.reducer.rest.answers import MAX_STRANGERS_BYTES, body, nothing, reply
from fedn.reducer.rest.describe import describe
from fedn.reducer.rest.gate import address, bearer, claims
from fedn.reducer.rest.lists import Listing, listed, read_query
from fedn.reducer.services import services

blueprint = Blueprint("joining", __name__)

_COMBINERS = Listing(
    ("name", "attached_clients", "last_heartbeat", "registered_at"), "name", {"alive": bool, "linked": bool}
)
_CLIENTS = Listing(("name", "enrolled_at", "last_seen"), "name", {"attached": bool, "combiner": str})


@blueprint.get("/ca")
@describe("The federation's authority", text="application/x-pem-file")
def ca() -> Response:
    return Response(services().enrolment.ca_pem, mimetype="application/x-pem-file")


@blueprint.post("/enrol")
@describe("Enrol a site", request=EnrolRequest, reply=EnrolReply, errors=(409,))
def enrol() -> Response:
    wanted, parts = body(EnrolRequest, max_bytes=MAX_STRANGERS_BYTES), services()
    visitors = parts.watching.visitors
    try:
        answer = parts.enrolment.enrol(wanted)
    except FednError as error:
        visitors.turn_away(wanted.name, error, role=wanted.role)
        parts.live.change(CLIENTS)
        raise
    visitors.let_in(wanted.name, role=wanted.role)
    parts.live.change(CLIENTS)
    return reply(answer)


@blueprint.post("/token")
@describe("Get a token", request=TokenRequest, reply=TokenReply)
def token() -> Response:
    """For an assertion of a site, or for the admin secret as bearer."""
    wanted, parts = body(TokenRequest, max_bytes=MAX_STRANGERS_BYTES), services()
    if wanted.grant == "assertion":
        return reply(parts.enrolment.renew(wanted.assertion))
    parts.admin_guard.check(bearer(), address())
    return reply(parts.enrolment.person_token(Role(wanted.role)))


@blueprint.post("/join-strings")
@describe("Make a join string", request=JoinRequest, reply=JoinReply)
def join_string() -> Response:
    parts = services()
    url = body(JoinRequest).url or parts.url()
    fingerprint = parts.enrolment.ca_fingerprint if parts.settings.tls else ""
    join = JoinString(url, fingerprint, parts.enrolment_secret)
    return reply(JoinReply(join=join.encode(), url=join.url, ca_fingerprint=fingerprint))


# Combiners


@blueprint.post("/combiners")
@describe("Add a combiner", request=CombinerRegistration, reply=RegistrationReply, errors=(409,))
def add_combiner() -> Response:
    registration, parts = body(CombinerRegistration), services()
    _check_own(registration.name)
    parts.registry.register(registration)
    return reply(_registered())


@blueprint.post("/combiners/<name>/heartbeat")
@describe("Say that a combiner lives", request=CombinerHeartbeat, reply=RegistrationReply, errors=(409,))
def heartbeat(name: str) -> Response:
    _check_own(name)
    said, parts = body(CombinerHeartbeat), services()
    parts.registry.heartbeat(name, said)
    vitals = parts.watching.vitals
    vitals.note(name, said.instance, said.cpu_s, said.rss_bytes)
    vitals.measure()
    parts.live.change(VITALS)
    if said.worker_groups:
        parts.worker_groups.note(name, said.worker_groups)
        parts.live.change(WORKERS)
    return reply(_registered())


@blueprint.get("/combiners")
@describe("List combiners", reply=CombinerPage, listing=_COMBINERS)
def combiners() -> Response:
    query = read_query(_COMBINERS)
    found, total = query.page_of(record.view() for record in services().registry.combiners())
    return listed(found, total, query)


@blueprint.get("/combiners/<name>")
@describe("Show a combiner", reply=CombinerView)
def combiner(name: str) -> Response:
    return reply(services().registry.get(name).view())


@blueprint.delete("/combiners/<name>")
@describe("Remove a combiner and free its name", status=204)
def remove_combiner(name: str) -> Response:
    parts = services()
    registered = any(record.name == name for record in parts.registry.combiners())
    enrolled = any(site.name == name for site in parts.enrolment.sites(Role.COMBINER))
    if registered or not enrolled:
        parts.registry.remove(name)
    if enrolled:
        parts.enrolment.forget(Role.COMBINER, name)
    return nothing()


def _registered() -> RegistrationReply:
    parts = services()
    return RegistrationReply(federation=parts.settings.federation, epoch=parts.epoch)


def _check_own(name: str) -> None:
    """A combiner speaks for itself only."""
    subject = claims().subject
    if subject != name:
        raise Forbidden(
            "not_your_name",
            f"the token is {subject!r}'s, and speaks for no other",
            fix="Use the name that the combiner was enrolled with.",
            where={"combiner": name},
        )


# Clients


@blueprint.post("/assignments")
@describe("Ask where to attach", request=AssignmentRequest, reply=Assignment)
def assign() -> Response:
    return reply(assignment(body(AssignmentRequest)))


def assignment(wanted: AssignmentRequest) -> Assignment:
    """Where the calling client shall attach. A GET keeps no place for it."""
    parts, caller = services(), claims()
    head = parts.trail.head()
    trail_head, trail_length = (GENESIS, 0) if head is None else (head.hash, head.index + 1)
    found = parts.assigner.assign(caller.subject, wanted.preferred, wanted.avoid, promise=request.method == "POST")
    if isinstance(found, Refusal):
        if request.method == "POST":
            parts.watching.visitors.refuse(caller.subject, found.code, found.reason)
            parts.live.change(CLIENTS)
        return Assignment(
            status="retry",
            code=found.code,
            reason=found.reason,
            retry_after_s=found.retry_after_s,
            trail_head=trail_head,
            trail_length=trail_length,
        )
    fresh = parts.enrolment.client_token(caller)
    package = parts.catalog.active()
    return Assignment(
        status="assigned",
        combiner=found.name,
        host=found.host,
        port=found.port,
        ca=parts.enrolment.ca_pem if parts.settings.tls else "",
        token=fresh.token,
        expires_at=fresh.expires_at,
        package_id=package.package_id if package else "",
        helper=package.helper if package else "",
        trail_head=trail_head,
        trail_length=trail_length,
    )


@blueprint.get("/clients")
@describe("List clients", reply=ClientPage, listing=_CLIENTS)
def clients() -> Response:
    query = read_query(_CLIENTS)
    if not query.where and (query.order_by, query.descending) == ("name", False):  # the enrolled ones are kept so
        return listed(client_views(query.limit, query.offset), count_clients(), query)
    found, total = query.page_of(client_views(count_clients()))
    return listed(found, total, query)


@blueprint.get("/clients/<name>")
@describe("Show a client", reply=ClientView)
def client(name: str) -> Response:
    site = services().enrolment.site(Role.CLIENT, name)
    return reply(client_view(site))


@blueprint.delete("/clients/<name>")
@describe("Forget a client and free its name", status=204)
def remove_client(name: str) -> Response:
    forget_client(name)
    return nothing()


def forget_client(name: str) -> None:
    """Frees a client's name, and ends its stream if it has one. NotFound (`no_such_site`)."""
    parts = services()
    parts.enrolment.forget(Role.CLIENT, name)
    parts.worker_groups.free_ranks_of(name)
    parts.sessions.detach_client(name, "site_forgotten", "an admin removed this client from the federation")
    parts.live.change(CLIENTS)


def client_views(limit: int, offset: int = 0) -> list[ClientView]:
    """A part of the enrolled clients, by name, with where they are attached."""
    return [client_view(site) for site in services().enrolment.sites(Role.CLIENT)[offset : offset + limit]]


def count_clients() -> int:
    """Enrolled clients."""
    return services().enrolment.count(Role.CLIENT)


def client_view(site: Site) -> ClientView:
    place = services().sessions.roster.get(site.name)
    seen = max(services().enrolment.last_seen(Role.CLIENT, site.name), site.enrolled_at)
    view = ClientView(name=site.name, key_id=site.key_id, enrolled_at=site.enrolled_at, last_seen=seen)
    if place is None:
        return view
    return view.model_copy(
        update={
            "attached": True,
            "combiner": place.combiner,
            "since": place.since,
            "kinds": tuple(sorted(place.kinds)),
            "attributes": place.attributes,
        }
    )
