"""Compute packages, and the removal of what the model store keeps in vain."""

from flask import Blueprint, Response, request

from fedn.protocol.rest import GcReply, GcRequest, PackageActivation, PackagePage, PackageView
from fedn.reducer.rest.answers import body, created, listing, nothing, page, reply
from fedn.reducer.rest.openapi import describe
from fedn.reducer.rest.transfers import stored_object, uploaded
from fedn.reducer.services import services

blueprint = Blueprint("packages", __name__)


@blueprint.get("/packages")
@describe("List compute packages, the latest first", reply=PackagePage, query=("limit", "offset"))
def packages() -> Response:
    limit, offset = page()
    catalog = services().catalog
    return listing(catalog.packages(limit, offset), total=catalog.count_packages(), limit=limit, offset=offset)


@blueprint.post("/packages")
@describe(
    "Upload a compute package and make it the active one", upload="application/gzip", reply=PackageView, status=201
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
@describe("Download a compute package", text="application/gzip")
def download(package_id: str) -> Response:
    return package_file(services().catalog.package(package_id))


def package_file(package: PackageView) -> Response:
    name = package.name or package.package_id.partition(":")[2][:16]
    return stored_object(package.package_id, f"{name}.tar.gz")


@blueprint.put("/packages/active")
@describe("Choose the package that new sessions use", request=PackageActivation)
def activate() -> Response:
    services().catalog.activate(body(PackageActivation).package_id)
    return nothing()


@blueprint.post("/store/gc")
@describe("Remove objects that nothing names", request=GcRequest, reply=GcReply)
def collect() -> Response:
    wanted = body(GcRequest)
    return reply(services().garbage.collect(wanted.older_than_s, dry_run=wanted.dry_run))
