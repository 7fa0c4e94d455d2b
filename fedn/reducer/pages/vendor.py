"""Plotly's JavaScript, from the Python package that is installed: no page fetches anything from elsewhere."""

import functools
import gzip
import hashlib
import importlib.util
import re
from pathlib import Path

from flask import Blueprint, Response, request

from fedn.protocol.errors import NotFound

blueprint = Blueprint("vendor", __name__)

_KEPT_S = 86400
_STYLE_ID = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')


@blueprint.get("/vendor/plotly.js")
def plotly() -> Response:
    """Packed where the browser takes it: a third of the bytes."""
    text, packed, digest = _plotly()
    zipped = request.accept_encodings["gzip"] > 0
    answer = Response(packed if zipped else text, mimetype="text/javascript")
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = f"private, max-age={_KEPT_S}"
    if zipped:
        answer.headers["Content-Encoding"] = "gzip"
    answer.set_etag(f"{digest}{'-z' if zipped else ''}")
    answer.make_conditional(request)
    return answer


@functools.lru_cache(maxsize=1)
def _plotly() -> tuple[bytes, bytes, str]:
    """(the script, packed, its digest). Read once: a few MB."""
    text = _plotly_file().read_bytes()
    return text, gzip.compress(text, compresslevel=6, mtime=0), hashlib.sha256(text).hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def plotly_style_id() -> str:
    """Id of a style element that the script adds to a page which has none: our policy forbids it, and no chart of ours
    needs it. A page that has an element of this id is left alone. Empty where there is no such script."""
    try:
        text = _plotly()[0]
    except NotFound:
        return ""
    found = _STYLE_ID.search(text)
    return found[1].decode() if found is not None else ""


def _plotly_file() -> Path:
    found = importlib.util.find_spec("plotly")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder, "package_data", "plotly.min.js")
        if path.is_file():
            return path
    raise NotFound(
        "no_plotly",
        "the reducer's environment has no plotly, which draws the charts",
        fix="Install it where the reducer runs: pip install plotly. The tables under the charts have the same numbers.",
    )
