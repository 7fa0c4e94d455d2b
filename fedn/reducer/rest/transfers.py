"""Large bodies in both directions: uploads into files, downloads from the model store, neither whole in memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from flask import Response, request

from fedn.protocol.errors import InvalidInput
from fedn.reducer.rest.answers import has, tagged
from fedn.reducer.rest.gate import FORM_OVERHEAD_BYTES
from fedn.reducer.services import services
from fedn.reducer.uploads import Readable

KEPT_FOR_EVER = "max-age=31536000, immutable"
"""What is named by its digest never changes."""


@contextlib.contextmanager
def uploaded(field: str, *, what: str, max_bytes: int) -> Iterator[Path]:
    """A file with what the request brings: its raw body, or the file `field` of a multipart form.

    Raises:
        InvalidInput: (`no_upload`) it brings nothing.
        LimitExceeded: (`upload_too_large`) more than `max_bytes`.
    """
    is_form = request.mimetype == "multipart/form-data"
    request.max_content_length = max_bytes + (FORM_OVERHEAD_BYTES if is_form else 0)
    source: object = request.files.get(field) if is_form else request.stream
    if source is None:
        raise InvalidInput(
            "no_upload",
            f"the form brings no file {field!r}",
            fix=f"Send it as: curl -F {field}=@FILE, or as the raw body: curl --data-binary @FILE",
            where={"field": field},
        )
    with services().spool.received(cast(Readable, source), max_bytes=max_bytes, what=what) as path:
        if path.stat().st_size == 0:
            raise InvalidInput("no_upload", f"the {what} has no bytes", fix="Send the file's content as the body.")
        yield path


def stored_object(object_id: str, file_name: str) -> Response:
    """An object of the model store as a download. NotFound (`no_such_object`)."""
    models = services().models
    if has(object_id):
        return tagged(Response(), object_id, keep=KEPT_FOR_EVER)
    size = models.stat(object_id).size_bytes
    answer = Response(models.read(object_id), mimetype="application/octet-stream")
    answer.content_length = size
    answer.headers.set("Content-Disposition", "attachment", filename=file_name)
    return tagged(answer, object_id, keep=KEPT_FOR_EVER)
