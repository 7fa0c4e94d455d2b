"""An update as a row: a model in the layout and the dtypes of combiner models, whatever it went through on its way.

For rules that look at single updates later than at their arrival. A row needs neither the base model nor codecs to be
read.
"""

import numpy as np

from fedn.aggregation.checks import check_header, of_base_widths
from fedn.aggregation.combine import mean_layout
from fedn.aggregation.numerics import is_floating
from fedn.aggregation.values import PayloadValues, PlainValues, UpdateValues
from fedn.models.codecs.base import PIECE
from fedn.models.codecs.payload import Payload
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec
from fedn.protocol.errors import InvalidInput, UpdateRefused


class RowMaker:
    """Makes rows, one after another in the same room: each is good until the next one is asked for.

    Args:
        base, base_model: of the updates.
    """

    def __init__(self, base: ModelSpec, base_model: Buffer | Pieces) -> None:
        self._base = base
        self._start = PlainValues.whole(base_model)
        layout = mean_layout(base)
        self.spec = layout.spec
        """Of every row."""
        self._row = np.empty(self.spec.size_bytes, np.uint8)
        self._row[: len(layout.header)] = np.frombuffer(layout.header, np.uint8)

    def plain(self, update: Buffer | Pieces, spec: ModelSpec, form: str) -> memoryview:
        """The row of safetensors bytes.

        Raises:
            UpdateRefused: (`update_does_not_fit`) it has not the base's names, shapes and dtypes; (`update_not_finite`)
                a value is too large for the row's dtype.
            InvalidInput: (`bad_form`).
        """
        check_header(of_base_widths(spec, self._base), self._base)
        return self._fill(PlainValues(update, spec), form)

    def encoded(self, payload: Payload, form: str) -> memoryview:
        """The row of an update that went through a chain of codecs; errors as `plain`."""
        check_header(payload.base, self._base)
        return self._fill(PayloadValues(payload), form)

    def _fill(self, update: UpdateValues, form: str) -> memoryview:
        if form not in {"model", "delta"}:
            raise InvalidInput("bad_form", f"An update is of the form model or delta, not {form!r}")
        for tensor in self.spec.tensors:
            difference = form == "delta" and is_floating(self._base.by_name[tensor.name].dtype)
            for at in range(0, tensor.size, PIECE):
                stop = min(at + PIECE, tensor.size)
                values = update.read(tensor.name, at, stop)
                if difference:
                    start = self._start.read(tensor.name, at, stop)
                    values = start.astype(np.float64) + values.astype(np.float64)
                begin = tensor.start + at * tensor.dtype.itemsize
                out = np.frombuffer(self._row, tensor.dtype, stop - at, begin)
                with np.errstate(over="ignore"):
                    np.copyto(out, values, casting="unsafe")
                if not np.isfinite(out).all():
                    raise UpdateRefused(
                        "update_not_finite",
                        f"Tensor {tensor.name!r} has values that are not finite in {tensor.dtype}",
                        fix="The training diverged at this client: lower its learning rate or look at its data.",
                        where={"tensor": tensor.name},
                    )
        return self._row.data
