"""What clients hear of their results: that they are in, refused, or not wanted any more.

Not here: what becomes of a result (the round).
"""

from fedn.combiner.clients import Clients, Peer
from fedn.combiner.tasks import OpenTask, already_answered
from fedn.network.convert import reason_to_wire
from fedn.network.generated import client_pb2 as wire
from fedn.protocol.errors import FednError


class Answers:
    """To the clients that are here; who is away hears it when the result is announced again."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def acknowledge(self, task: OpenTask) -> None:
        """The result is in. The client does not wait for it."""
        peer = self._clients.get(task.spec.client)
        if peer is not None:
            peer.send_lazily(_acknowledged(task))

    def refuse(self, task: OpenTask, error: FednError) -> None:
        """The result does not count."""
        self._send(task, _refused(task, error))

    def cancel(self, task: OpenTask, why: str) -> None:
        """The work is not wanted any more."""
        cancelled = wire.TaskCancelled(task_id=task.spec.task_id, reason=why)
        self._send(task, wire.CombinerFrame(cancelled=cancelled))

    def repeat(self, peer: Peer, task: OpenTask, ready: wire.Ready) -> FednError | None:
        """To a client that did not hear what became of its result, or has another one: why that one is refused."""
        if task.is_answered_by(ready):
            peer.send(_acknowledged(task))
            return None
        error = already_answered(task)
        peer.send(_refused(task, error))
        return error

    def _send(self, task: OpenTask, frame: wire.CombinerFrame) -> None:
        peer = self._clients.get(task.spec.client)
        if peer is not None:
            peer.send(frame)


def _acknowledged(task: OpenTask) -> wire.CombinerFrame:
    return wire.CombinerFrame(ack=wire.Ack(task_id=task.spec.task_id))


def _refused(task: OpenTask, error: FednError) -> wire.CombinerFrame:
    return wire.CombinerFrame(refused=wire.Refused(task_id=task.spec.task_id, problem=reason_to_wire(error)))
