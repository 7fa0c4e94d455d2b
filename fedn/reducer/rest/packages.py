"""Compute packages, and the removal of what the model store keeps in vain."""

from flask import Blueprint, Response, request

from fedn.protocol.rest import GcReply, GcRequest, PackageActivation, PackagePage, PackageView
from fedn.reducer.rest.answers import body, created, nothing, reply
from fedn.reducer.rest.describe import describe
from fedn.reducer.rest.lists import Listing, listed, read_query
from fedn.reducer.rest.transfers import stored_object, uploaded
from fedn.reducer.services import services

blueprint = Blueprint("packages", __name__)

_PACKAGES = Listing(("uploaded_at", "name", "size_bytes"), "-uploaded_at", {"name": str, "helper": str, "format": str})


@blueprint.get("/packages")
@describe("List compute packages, the latest first", reply=PackagePage, listing=_PACKAGES)
def packages() -> Response:
    query, catalog = read_query(_PACKAGES), services().catalog
    return listed(catalog.packages(where=query.where, **query.window), catalog.count_packages(query.where), query)


@blueprint.post("/packages")
@describe(
    "Upload a compute package and make it the active one. The same package again is the same package",
    upload=("application/gzip", "application/octet-stream"),
    reply=PackageView,
    status=201,
)
def upload() -> Response:
    view = receive_package()
    return created(view, f"{request.path}/{view.package_id}/download")


def receive_package() -> PackageView:
    """Takes the package in the request: its raw body, or the file `file` of a form."""
    parts = services()
    with uploaded("file", what="package", max_bytes=int(parts.settings.max_package_bytes)) as path:
        return parts.catalog.add_package(path.read_bytes())


@blueprint.get("/packages/<package_id>/download")
@describe("Download a compute package", text="application/octet-stream", tagged=True)
def download(package_id: str) -> Response:
    return package_file(services().catalog.package(package_id))


def package_file(package: PackageView) -> Response:
    name = package.name or package.package_id.partition(":")[2][:16]
    return stored_object(package.package_id, f"{name}.tar.gz")


@blueprint.put("/packages/active")
@describe("Choose the package that new sessions use", request=PackageActivation, status=204, errors=(404,))
def activate() -> Response:
    services().catalog.activate(body(PackageActivation).package_id)
    return nothing()


@blueprint.post("/store/gc")
@describe("Remove objects that nothing names", request=GcRequest, reply=GcReply, errors=(409,))
def collect() -> Response:
    wanted = body(GcRequest)
    return reply(services().garbage.collect(wanted.older_than_s, dry_run=wanted.dry_run))
