"""Compute packages: the code that clients run. Upload one, choose which one new sessions use."""

from flask import Blueprint, Response, request

from fedn.protocol.errors import FednError, NotFound
from fedn.reducer.pages import topics
from fedn.reducer.pages.render import Page, go_to, respond
from fedn.reducer.pages.serve import shows
from fedn.reducer.rest import packages as rest
from fedn.reducer.rest.answers import arguments, wants_html
from fedn.reducer.services import services

blueprint = Blueprint("package_pages", __name__)

_SHOWN = 200


def context_file() -> Response:
    """The active compute package, or the one that is called `name`."""
    name = arguments("name").get("name")
    catalog = services().catalog
    package = catalog.active() if name is None else next((p for p in catalog.packages() if p.name == name), None)
    if package is None:
        raise NotFound(
            "no_such_package", "there is no such compute package", fix="Upload one: curl -F file=@package.tgz …/context"
        )
    return rest.package_file(package)


@shows(blueprint, "/context", topics.PACKAGES, programs=context_file)
def context() -> Page:
    return packages_page(None)


def packages_page(error: FednError | None) -> Page:
    if error is None:
        arguments("name")
    catalog = services().catalog
    values = {"packages": catalog.packages(_SHOWN), "total": catalog.count_packages(), "error": error}
    return Page("packages.html", values, 200 if error is None else error.http_status)


def upload_from_form() -> Response:
    try:
        rest.receive_package()
    except FednError as error:
        return respond(packages_page(error))
    return go_to("/context")


@blueprint.post("/context/active")
def activate() -> Response:
    """Makes the package of the form the active one; none, where the field is empty."""
    services().catalog.activate(request.form.get("package_id", "") or None)
    return go_to("/context") if wants_html() else Response(status=204)
