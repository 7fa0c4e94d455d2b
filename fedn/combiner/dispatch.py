"""How a round's tasks go out: with the objects that they name, the model encoded where that was asked for, and room for
the result where there is some.

Not here: which tasks there are, and what becomes of them (the round).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from fedn.combiner.clients import Peer
from fedn.combiner.objects import StoredObject
from fedn.combiner.results import RoundServices
from fedn.combiner.tasks import OpenTask
from fedn.network.convert import task_to_wire
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.tasks import RoundName, TaskKind

_SLICE = 64
"""Tasks sent before other things of the loop get their turn."""


class DispatchOwner(Protocol):
    """The round, as its dispatch sees it."""

    @property
    def name(self) -> RoundName: ...

    @property
    def takes_answers(self) -> bool:
        """Whether a task may still go out."""

    @property
    def remaining_s(self) -> float:
        """Seconds to the deadline."""

    @property
    def required(self) -> Iterable[tuple[str, str]]:
        """(field, who needs it) of the metadata that every update must have."""

    @property
    def update_bytes(self) -> int | None:
        """Size of an update that went through no chain; None until the base model is here."""


class Dispatch:
    """See the module. Belongs to the round's loop."""

    def __init__(self, owner: DispatchOwner, services: RoundServices) -> None:
        self._owner = owner
        self._services = services
        self._encoded: set[str] = set()
        """Models as chains of codecs made them, which clients were sent."""

    async def send_all(self, tasks: Sequence[OpenTask], objects: set[str]) -> None:
        """Sends the tasks that need one of these objects, or none at all, to the clients that are here."""
        for count, task in enumerate(tasks, 1):
            peer = self._services.clients.get(task.spec.client)
            named = {task.spec.brings_model, task.spec.package_id}
            if peer is not None and not task.answered and (named & objects or not named - {""}):
                self.send(task, peer)
            if count % _SLICE == 0:
                await asyncio.sleep(0)  # others' turn: health, pings

    def send(self, task: OpenTask, peer: Peer) -> None:
        """Sends a task, once on each stream; later, where what it names is not here yet."""
        if not self._owner.takes_answers or task.sent_to is peer:
            return
        found = [self._services.objects.get(key) for key in (task.spec.package_id, task.spec.brings_model) if key]
        objects = [stored for stored in found if stored is not None]
        if len(objects) < len(found):
            return  # comes when the rest is here
        task.encoded_id = ""
        if task.wants_encoded(peer):
            coded = self._services.encoded.get(objects[-1], task.spec.model_chain)
            if not coded.done():
                coded.add_done_callback(lambda _: self._send_again(task, peer))
                return
            self._take_encoded(task, objects, coded.result())
        message = task_to_wire(task.asked_of(peer), self._owner.name, max(self._owner.remaining_s, 0.001))
        message.upload_credit_bytes = self._give_credit(task)
        if task.spec.kind is TaskKind.TRAIN:
            message.required_metadata.update(self._owner.required)
        frame = wire.CombinerFrame(task=message)
        spooled = task.spec.task_id in peer.info.spooled_tasks
        task.sent_to = peer
        task.begin(asyncio.get_running_loop().time())
        peer.push(frame, [] if spooled else objects, task.traffic)

    def let_go(self) -> None:
        """Nothing is sent any more."""
        for object_id in self._encoded:
            self._services.objects.let_go(object_id, self._owner.name)

    def _send_again(self, task: OpenTask, peer: Peer) -> None:
        """The encoded model is there, if the client still is."""
        if not task.answered and self._services.clients.get(task.spec.client) is peer:
            self.send(task, peer)

    def _take_encoded(self, task: OpenTask, objects: list[StoredObject], encoded: StoredObject | None) -> None:
        """Puts the encoded model in the place of the model, which is the last of the objects."""
        if encoded is not None:
            task.encoded_id = encoded.object_id
            self._encoded.add(encoded.object_id)
            self._services.objects.pin(encoded.object_id, self._owner.name)
            objects[-1] = encoded

    def _give_credit(self, task: OpenTask) -> int:
        """Keeps room for a small update; bytes, 0 where the client has to ask for a grant."""
        task.drop_credit()
        size_bytes = self._owner.update_bytes
        if size_bytes is None or task.spec.kind is not TaskKind.TRAIN or task.upload is not None:
            return 0
        task.credit = self._services.admission.grant_ahead(size_bytes)
        return 0 if task.credit is None else task.credit.size_bytes
