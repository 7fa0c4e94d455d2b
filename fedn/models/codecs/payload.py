"""The way back through a chain: a payload that came from elsewhere is checked, then read piece by piece, or whole.

Nothing in a payload is believed: what does not fit its chain and its base is refused before a value is read, and no
more memory is taken than the base model's size allows. Whether floating-point numbers in it are finite is checked where
it arrives (fedn.aggregation.checks), as for any other model.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fedn.models.codecs.base import FLOATING, PIECE, Bytes, Flat, Source, bad_encoding, pieces
from fedn.models.codecs.chain import BASE_KEY, CHAIN_KEY, TENSORS_KEY, Chain, CodedTensor, Encoding
from fedn.models.codecs.encode import stored_source
from fedn.models.description import described
from fedn.models.digest import Buffer
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, TensorInfo, differences, header_size, layout, read_spec, view
from fedn.protocol.errors import UpdateRefused

HEADER_SLACK_BYTES = 1 << 20
"""A payload's header may be so much longer than the usual one: other writers order and space it otherwise."""

_LISTED = 20


class PiecedValues:
    """The elements of one tensor, flat, in bytes that came in pieces; see `fedn.models.codecs.base.Stored`."""

    def __init__(self, data: Pieces, info: TensorInfo) -> None:
        self._data = data
        self._info = info

    def __len__(self) -> int:
        return self._info.size

    def __getitem__(self, where: slice) -> Flat:
        """The elements of a range, without a step: a view, or a copy where several pieces share them."""
        start, stop, _ = where.indices(self._info.size)
        itemsize = self._info.dtype.itemsize
        first, last = self._info.start + start * itemsize, self._info.start + stop * itemsize
        views = list(self._data.views(first, last))
        return np.frombuffer(views[0] if len(views) == 1 else b"".join(views), self._info.dtype)


class Payload:
    """An encoded model or update that passed all checks.

    Args:
        encoding: of the chain and the base that it must be of.
        data: safetensors bytes (unpacked), read in place as long as the payload is used.

    Raises:
        UpdateRefused: (`update_does_not_fit`, `bad_encoding`) it is not what the chain makes of such a model.
        InvalidInput: (`bad_model`) the bytes are no safetensors.
    """

    def __init__(self, encoding: Encoding, data: Buffer | Pieces) -> None:
        chain = encoding.chain
        self.data = data if isinstance(data, Pieces) else Pieces.of(data)
        self.base = encoding.base
        self.spec = _spec_of(self.data, len(encoding.header) + HEADER_SLACK_BYTES)
        check_payload_header(self.spec, encoding.spec)
        self.sources: Mapping[str, Source] = {name: self._source(chain, one) for name, one in encoding.coded.items()}
        """By name, what reads the values of each coded tensor; the others are stored as they were."""
        self.plain = chain.selection is None and (chain.numbers is None or chain.numbers.plain)
        """Whether the bytes are, all but for the widths of floating-point numbers, a model like the base."""

    def elements(self, name: str) -> Iterator[tuple[int, Flat]]:
        """A tensor that is not coded, run by run: (index of the first element, elements)."""
        info = self.spec.by_name[name]
        return self.data.elements(info.dtype, info.start, info.size)

    def start(self) -> dict[str, Flat | Source]:
        """The floating-point tensors' values, for differences to this model (`fedn.models.codecs.encode.Start`)."""
        names = [tensor.name for tensor in self.base.tensors if tensor.dtype in FLOATING]
        return {name: self.sources[name] if name in self.sources else self._whole(name) for name in names}

    def _source(self, chain: Chain, one: CodedTensor) -> Source:
        values = PiecedValues(self.data, self.spec.by_name[one.tensor.name])
        parts = {name: self._whole(name) for name, _ in (*one.selection_parts, *one.numbers_parts)}
        if one.casts and chain.numbers is not None:
            chain.numbers.check(values, {part.suffix: parts[name] for name, part in one.numbers_parts})
        if one.kept is not None and chain.selection is not None:
            chain.selection.check(one.tensor.size, {part.suffix: parts[name] for name, part in one.selection_parts})
        return stored_source(chain, one, values, parts)

    def _whole(self, name: str) -> Flat:
        return PiecedValues(self.data, self.spec.by_name[name])[:]

    def decode(self, room: Callable[[int], bytearray | memoryview] = bytearray) -> bytearray | memoryview:
        """The model, whole, in canonical safetensors bytes with the base's dtypes.

        Args:
            room: gives room for so many bytes, whatever they are; what it gave is returned.
        """
        header, spec = layout(((t.name, t.dtype, t.shape) for t in self.base.tensors), self.base.metadata)
        buffer = room(spec.size_bytes)
        buffer[: len(header)] = header
        scratch = np.empty(PIECE, np.float32)
        for info in spec.tensors:
            out, source = view(buffer, info).reshape(-1), self.sources.get(info.name)
            if source is None:
                for first, values in self.elements(info.name):
                    out[first : first + len(values)] = values
                continue
            for start, stop in pieces(len(out)):
                if out.dtype == np.float32:
                    source.read(start, stop, out[start:stop])
                else:
                    source.read(start, stop, scratch[: stop - start])
                    np.copyto(out[start:stop], scratch[: stop - start], casting="unsafe")
        return buffer


def check_payload_header(spec: ModelSpec, expected: ModelSpec) -> None:
    """Compares what a payload says of itself with the spec of its encoding.

    Raises:
        UpdateRefused: (`update_does_not_fit`) its tensors, its chain or its base are others.
    """
    faults = [
        f"its header's {key} is {spec.metadata.get(key, '(none)')[:200]} instead of {expected.metadata[key]}"
        for key in (CHAIN_KEY, BASE_KEY)
        if spec.metadata.get(key) != expected.metadata[key]
    ]
    faults += differences(spec, expected)
    if faults:
        more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise UpdateRefused(
            "update_does_not_fit",
            f"The encoded bytes do not fit their chain and base: {'; '.join(faults[:_LISTED])}{more}",
            fix="Encode all tensors of the model that the task named, with the chain that the task asked for.",
        )


def unpack(encoding: Encoding, data: Buffer | Pieces) -> Buffer | Pieces:
    """The safetensors bytes within `data`; `data` itself where nothing packed them.

    Raises:
        UpdateRefused: (`bad_encoding`) it is damaged, or would unpack to more than a payload has.
    """
    if encoding.chain.bytes is None:
        return data
    return _unpack(encoding.chain.bytes, data, encoding.spec.size_bytes + HEADER_SLACK_BYTES)


def read_model(chain: Chain, data: Buffer, *, max_bytes: int) -> tuple[str, Payload]:
    """An encoded model that describes itself: (digest of the model that was encoded, what it holds).

    Args:
        max_bytes: of the unpacked bytes.

    Raises:
        UpdateRefused, InvalidInput: as `Payload`; (`bad_encoding`) it does not say what it stands for, or is too large.
    """
    if chain.bytes is not None:
        data = _unpack(chain.bytes, data, max_bytes)
    spec = read_spec(data)
    own = {CHAIN_KEY, BASE_KEY, TENSORS_KEY}
    others = {key: text for key, text in spec.metadata.items() if key not in own}
    base_id = spec.metadata.get(BASE_KEY, "")
    base = layout(described(spec.metadata.get(TENSORS_KEY, ""), TENSORS_KEY), others)[1]
    if base.size_bytes > max_bytes:
        raise bad_encoding("chain", f"it stands for {base.size_bytes} bytes, and {max_bytes} are allowed")
    return base_id, Payload(chain.of(base, base_id), data)


def _unpack(packer: Bytes, data: Buffer | Pieces, max_bytes: int) -> bytearray:
    """The bytes within `data`; nothing is unpacked where it says that they are more than `max_bytes`."""
    packed = data.copy() if isinstance(data, Pieces) else data
    size_bytes = packer.unpacked_bytes(packed)
    if size_bytes > max_bytes:
        raise bad_encoding(packer.name, f"it unpacks to {size_bytes} bytes, and {max_bytes} are the most")
    buffer = bytearray(size_bytes)
    packer.decompress(packed, memoryview(buffer))
    return buffer


def _spec_of(data: Pieces, max_header_bytes: int) -> ModelSpec:
    header_bytes = header_size(data.copy(0, 8)) or 0
    if header_bytes > max_header_bytes:
        raise UpdateRefused(
            "update_does_not_fit",
            f"The header claims {header_bytes} bytes, and {max_header_bytes} are more than it needs",
            fix="Encode with fedn, or as docs/reference/wire-protocol.md says.",
        )
    return read_spec(data.copy(0, header_bytes), len(data))
