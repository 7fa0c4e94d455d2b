"""What of codecs a round needs: how updates that went through a chain are checked and read, and models encoded for it.

Not here: the codecs themselves (fedn.models.codecs), and when things are done (the round).
"""

from collections.abc import Sequence

from fedn.aggregation.checks import FiniteCheck
from fedn.combiner.objects import StoredObject, cut, evenly
from fedn.models.codecs.chain import Encoding
from fedn.models.codecs.encode import encode
from fedn.models.codecs.payload import Payload, PiecedValues, unpack
from fedn.models.digest import algorithm_of
from fedn.models.pieces import Pieces
from fedn.models.wire import ModelSpec, header_size, read_spec
from fedn.network.generated import common_pb2 as wire
from fedn.plan.chains import make_chain
from fedn.protocol.errors import UpdateRefused
from fedn.protocol.tasks import CodecChoice, TaskSpec, UpdateMetadata


def spec_of(model: Pieces) -> ModelSpec:
    """What a model's bytes hold. InvalidInput (`bad_model`) where they are none."""
    return read_spec(model.copy(0, header_size(model.copy(0, 8)) or 0), len(model))


def check_chain(metadata: UpdateMetadata, task: TaskSpec) -> None:
    """Raises UpdateRefused (`update_other_chain`) where an update went through what nobody asked for."""
    used = metadata.update_chain
    if used and used != task.update_chain:
        names = ", ".join(choice.name for choice in used)
        raise UpdateRefused(
            "update_other_chain",
            f"the update went through {names}, which the task did not ask for in this way",
            fix="Use the chain that the task names, with its options, or none.",
            where={"client": task.client, "task": task.task_id},
        )
    if any(choice.name == "delta" for choice in used) and metadata.form != "delta":
        raise UpdateRefused(
            "update_other_chain",
            "the update went through delta, and says that it is no difference",
            fix="Say form delta in the metadata.",
            where={"client": task.client, "task": task.task_id},
        )


def read_update(encoding: Encoding, data: Pieces) -> Payload:
    """An update that arrived, checked as far as it was not while it arrived. To be called outside the loop.

    Raises:
        UpdateRefused, InvalidInput: it is not what the chain makes of an update, or has values that must not count.
    """
    payload = Payload(encoding, unpack(encoding, data))
    if encoding.chain.bytes is not None:
        finite, offset = FiniteCheck(payload.spec), 0
        for view in payload.data.views():
            finite.feed(offset, view)
            offset += len(view)
        finite.finish()
    return payload


def encode_model(stored: StoredObject, chain: Sequence[CodecChoice]) -> StoredObject:
    """What a chain makes of a global model, as an object of its own. To be called outside the loop.

    Raises:
        InvalidInput: the chain is unknown here, or cannot store a value.
    """
    model = stored.bytes_in_pieces()
    spec = spec_of(model)
    encoding = make_chain(chain).of(spec, stored.object_id)
    data = encode(encoding, {tensor.name: PiecedValues(model, tensor) for tensor in spec.tensors})
    return cut(wire.OBJECT_KIND_MODEL, evenly(Pieces.of(data)), algorithm_of(stored.object_id))
