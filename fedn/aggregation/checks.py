"""What an update must fulfil before it may count. A refusal says which client's code did what.

Not here: whether it came in time, for the right round and once; that is the combiner's business.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fedn.models.codecs.base import FLOATING
from fedn.models.digest import Buffer
from fedn.models.wire import DTYPES, DType, ModelSpec, TensorInfo, differences
from fedn.protocol.errors import InvalidInput, UpdateRefused
from fedn.protocol.tasks import UpdateMetadata

_EXPONENT: dict[DType, tuple[DType, int]] = {
    DTYPES["F16"]: (DTYPES["U16"], 0x7C00),
    DTYPES["BF16"]: (DTYPES["U16"], 0x7F80),
    DTYPES["F32"]: (DTYPES["U32"], 0x7F80_0000),
    DTYPES["F64"]: (DTYPES["U64"], 0x7FF0_0000_0000_0000),
}
"""The integer view of a floating-point dtype, and the bits that are all set where a value is infinite or NaN."""

_BOOL = DTYPES["BOOL"]
_LISTED = 20
_SCRATCH_BYTES = 256 * 1024


def check_metadata(metadata: UpdateMetadata) -> None:
    """Raises UpdateRefused (`update_without_examples`) where the update has no weight."""
    if metadata.num_examples <= 0:
        raise UpdateRefused(
            "update_without_examples",
            "The update says that it was trained on no examples",
            fix="Return the number of training examples as num_examples, at least 1.",
            where={"client": metadata.client, "task": metadata.task_id},
        )


def check_weight(weight: float) -> None:
    """Raises InvalidInput (`bad_weight`) where nothing can be weighed by it."""
    if not (math.isfinite(weight) and weight > 0):
        raise InvalidInput("bad_weight", f"A weight must be finite and > 0, not {weight}")


def check_header(spec: ModelSpec, base: ModelSpec) -> None:
    """Raises UpdateRefused (`update_does_not_fit`) where names, shapes or dtypes are not those of the base model."""
    if faults := differences(spec, base):
        listed = "; ".join(faults[:_LISTED])
        more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise UpdateRefused(
            "update_does_not_fit",
            f"The update does not fit the base model: {listed}{more}",
            fix="Return all tensors of the model that the task brought, with their names, shapes and dtypes.",
        )


def of_base_widths(spec: ModelSpec, base: ModelSpec) -> ModelSpec:
    """The spec with floating-point tensors in the base's dtypes: their widths are free, names and shapes are not."""
    tensors = tuple(
        tensor._replace(dtype=there.dtype)
        if (there := base.by_name.get(tensor.name)) and tensor.dtype in FLOATING and there.dtype in FLOATING
        else tensor
        for tensor in spec.tensors
    )
    return ModelSpec(tensors, spec.size_bytes)


class FiniteCheck:
    """Looks for values that must not count, while the bytes of a model arrive.

    A floating-point value must be finite, a bool must be 0 or 1.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._runs = _runs(spec.stored_order)
        self._run = 0
        self._size_bytes = spec.size_bytes
        self._position = min((tensor.start for tensor in spec.tensors), default=spec.size_bytes)
        self._split = bytearray()
        self._scratch = np.empty(_SCRATCH_BYTES, np.uint8)
        self._fault: tuple[str, DType] | None = None

    def feed(self, offset: int, chunk: Buffer) -> None:
        """Takes the bytes from `offset` on; the header and what was there before are passed over.

        Raises:
            ValueError: bytes between the last ones and these are missing.
        """
        if offset > self._position:
            raise ValueError(f"bytes {self._position} to {offset} of the model were not fed")
        stop = offset + len(chunk)
        data = memoryview(chunk)
        while self._position < stop and self._run < len(self._runs):
            run = self._runs[self._run]
            begin, end = max(self._position, run[0].start), min(stop, run[-1].stop)
            if begin < end:
                self._check(run, begin, data[begin - offset : end - offset])
            if end < run[-1].stop:
                break
            self._run += 1
        self._position = max(self._position, stop)

    def finish(self) -> None:
        """Raises UpdateRefused.

        `update_not_finite` or `update_not_boolean` names the first tensor that has such a value;
        `update_incomplete` says that not all bytes came.
        """
        if self._fault is not None:
            name, dtype = self._fault
            if dtype == _BOOL:
                raise UpdateRefused(
                    "update_not_boolean",
                    f"Tensor {name!r} has bytes other than 0 and 1, which are no bools",
                    fix="Write the update with fedn or with the safetensors library.",
                    where={"tensor": name},
                )
            raise UpdateRefused(
                "update_not_finite",
                f"Tensor {name!r} has values that are infinite or not a number",
                fix="The training diverged at this client: lower its learning rate or look at its data.",
                where={"tensor": name},
            )
        if self._position < self._size_bytes:
            raise UpdateRefused(
                "update_incomplete",
                f"Only {self._position} of {self._size_bytes} bytes of the update came",
                fix="Send it again.",
            )

    def _check(self, run: tuple[TensorInfo, ...], begin: int, data: memoryview) -> None:
        """Checks bytes of one run, which may begin and end within an element."""
        itemsize = run[0].dtype.itemsize
        first = begin - len(self._split)
        if self._split:
            missing = itemsize - len(self._split)
            self._split += data[:missing]
            data = data[missing:]
            if len(self._split) < itemsize:
                return
            self._check_elements(run, first, self._split)
            first += itemsize
        whole = len(data) // itemsize * itemsize
        self._check_elements(run, first, data[:whole])
        self._split = bytearray(data[whole:])

    def _check_elements(self, run: tuple[TensorInfo, ...], first: int, data: Buffer) -> None:
        """Checks whole elements, unless a fault is known; `first` is the offset of the first byte."""
        if self._fault is not None:
            return
        dtype = run[0].dtype
        integer, mask = (DTYPES["U8"], 0xFE) if dtype == _BOOL else _EXPONENT[dtype]
        values: np.ndarray[Any, Any] = np.frombuffer(data, integer)
        bits = self._scratch.view(integer)
        for start in range(0, len(values), len(bits)):
            part = values[start : start + len(bits)]
            found = np.bitwise_and(part, integer.type(mask), out=bits[: len(part)])
            if found.any() if dtype == _BOOL else found.max() == mask:
                bad = int(np.argmax(found != 0 if dtype == _BOOL else found == mask))
                where = first + (start + bad) * dtype.itemsize
                self._fault = next(tensor.name for tensor in run if tensor.stop > where), dtype
                return


@lru_cache(maxsize=8)
def _runs(tensors: tuple[TensorInfo, ...]) -> list[tuple[TensorInfo, ...]]:
    """The tensors to check, as groups that follow each other without a gap and have one dtype."""
    runs: list[list[TensorInfo]] = []
    for tensor in tensors:
        if tensor.start == tensor.stop or not (tensor.dtype in _EXPONENT or tensor.dtype == _BOOL):
            continue
        if runs and runs[-1][-1].stop == tensor.start and runs[-1][-1].dtype == tensor.dtype:
            runs[-1].append(tensor)
        else:
            runs.append([tensor])
    return [tuple(run) for run in runs]
