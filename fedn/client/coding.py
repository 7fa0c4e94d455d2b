"""How one task's model comes and its update goes: decoded before the work, encoded after it.

Runs where the work is done: in the worker process, or in a thread beside a package's commands; never on the agent's
loop.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedn.client.calls import TaskCall
from fedn.client.feedback import FeedbackFolder
from fedn.client.slots import HeldFile
from fedn.models.codecs.chain import Chain
from fedn.models.codecs.encode import Start, encode
from fedn.models.codecs.payload import Payload, read_model
from fedn.models.files import MAX_BYTES
from fedn.models.wire import ModelSpec, Tensors, decode
from fedn.plan.chains import make_chain
from fedn.protocol.errors import InvalidInput, TaskFailed
from fedn.protocol.tasks import CodecChoice, Section, Sections

Held = bytes | bytearray | HeldFile


class Memory(Protocol):
    """Where a task's model and update go."""

    def copy(self, file: HeldFile) -> bytearray | memoryview:
        """A copy of a model's bytes that is the task's own. TaskFailed where the file cannot be read."""

    def model(self, size_bytes: int) -> bytearray | memoryview:
        """Room for a model that is the task's own."""

    def result(self, size_bytes: int) -> bytearray | memoryview:
        """Room for what goes out. TaskFailed where there is none."""


class FreshMemory:
    """Memory that nobody used before; see `Memory`."""

    def copy(self, file: HeldFile) -> bytearray | memoryview:
        return bytearray(file.mapped())

    def model(self, size_bytes: int) -> bytearray:
        return bytearray(size_bytes)

    result = model


@dataclass(frozen=True, kw_only=True)
class CodingRequest:
    """What a task says of its chains, and where what updates leave out is kept."""

    session: str
    round: int
    task_id: str
    model_id: str = ""
    model_chain: tuple[CodecChoice, ...] = ()
    """What the held model went through; empty: it is as `model_id` names it."""
    update_chain: tuple[CodecChoice, ...] = ()
    feedback_folder: Path | None = None
    extras: Sections = ()
    """What follows the model in its bytes."""

    def as_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "model_chain": [choice.model_dump() for choice in self.model_chain],
            "update_chain": [choice.model_dump() for choice in self.update_chain],
            "feedback_folder": None if self.feedback_folder is None else str(self.feedback_folder),
            "extras": [section.model_dump() for section in self.extras],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "CodingRequest":
        folder = content["feedback_folder"]
        return cls(
            **{
                **content,
                "model_chain": tuple(CodecChoice(**choice) for choice in content["model_chain"]),
                "update_chain": tuple(CodecChoice(**choice) for choice in content["update_chain"]),
                "feedback_folder": None if folder is None else Path(folder),
                "extras": tuple(Section(**section) for section in content["extras"]),
            }
        )


def request_of(call: TaskCall) -> CodingRequest:
    return CodingRequest(
        session=call.session,
        round=call.round,
        task_id=call.task_id,
        model_id=call.model_id,
        model_chain=call.model_chain,
        update_chain=call.update_chain,
        feedback_folder=call.feedback_folder,
        extras=call.extras,
    )


@dataclass(frozen=True)
class Encoded:
    """An update as it goes out."""

    data: Tensors | bytes | bytearray | memoryview
    """The bytes that the chain made, in room for a result unless they were packed; else the tensors as they are."""
    form: str
    coded: bool
    """Whether it went through the chain that was asked for."""
    decoded_bytes: int
    """Its size before that, where it did."""


class TaskCoding:
    """See the module. `model` first, then `encode`.

    Args:
        held: the model as it came; None for a task without one. It must not change.
    """

    def __init__(self, request: CodingRequest, held: Held | None, memory: Memory | None = None) -> None:
        self._request = request
        self._held = held
        self._memory = memory or FreshMemory()
        self._payload: Payload | None = None
        self.extras: dict[str, Tensors] = {}
        """What came with the model, by name, once `model` was called. Read-only."""

    def model(self) -> bytearray | memoryview | None:
        """The model's bytes, writable: whoever trains may change its weights in place.

        Raises:
            TaskFailed: (`other_model`) it is not the one that the task named.
            InvalidInput: the chain is not known here, or the bytes are not what it makes.
        """
        held, request = self._held, self._request
        if held is None:
            return None
        if request.model_chain:
            data = held.mapped() if isinstance(held, HeldFile) else held
            base_id, self._payload = read_model(make_chain(request.model_chain), data, max_bytes=MAX_BYTES)
            if base_id != request.model_id:
                raise TaskFailed(
                    "other_model",
                    f"the encoded model says that it is {base_id[:80]}",
                    where={"model": request.model_id},
                )
            return self._payload.decode(self._memory.model)
        if request.extras:
            return self._without_extras(self._memory.copy(held) if isinstance(held, HeldFile) else bytearray(held))
        if isinstance(held, HeldFile):
            return self._memory.copy(held)
        # A difference needs the values that the work began with.
        return held if isinstance(held, bytearray) and not request.update_chain else bytearray(held)

    def _without_extras(self, data: bytearray | memoryview) -> memoryview:
        """The model's part of the bytes; the rest are the extras."""
        view = memoryview(data)
        at = model_bytes = len(view) - sum(section.size_bytes for section in self._request.extras)
        if at <= 0:
            raise TaskFailed("bad_task", "the object that brings the model is smaller than what should follow it")
        for section in self._request.extras:
            self.extras[section.name] = decode(view[at : at + section.size_bytes])
            at += section.size_bytes
        return view[:model_bytes]

    def encode(self, tensors: Tensors, spec: ModelSpec, form: str) -> Encoded:
        """An update, as it goes out.

        Args:
            tensors: with the names, shapes and dtypes of the model.
            spec: of the model.
            form: of the update, "model" or "delta".

        Raises:
            InvalidInput: (`values_out_of_range`) a codec cannot store a value.
            TaskFailed: (`feedback_failed`) what it leaves out cannot be kept.
        """
        chain = _known(self._request.update_chain)
        if chain is None:
            return Encoded(tensors, form, False, 0)
        request, encoding = self._request, chain.of(spec, self._request.model_id)
        start = self._start() if chain.difference is not None and form == "model" else None
        feedback: Any = nullcontext(None)
        if encoding.feedback_size and request.feedback_folder is not None:
            feedback = FeedbackFolder(request.feedback_folder).update(
                encoding, session=request.session, round_index=request.round, task_id=request.task_id
            )
        with feedback as kept:
            data = encode(encoding, tensors, start=start, feedback=kept, room=self._memory.result)
            del kept
        return Encoded(data, form if start is None else "delta", True, spec.size_bytes)

    def _start(self) -> Start:
        """The values of the model that came, whatever was done to those that the work began with."""
        if self._payload is not None:
            return self._payload.start()
        assert self._held is not None  # a task that trains has a model
        data = self._held.mapped() if isinstance(self._held, HeldFile) else self._held
        return {name: array.reshape(-1) for name, array in decode(data).items()}


def _known(choices: Sequence[CodecChoice]) -> Chain | None:
    """The chain; None where there is none, or this process (another Python than the agent's) does not know it."""
    if not choices:
        return None
    try:
        return make_chain(choices)
    except InvalidInput:
        return None
