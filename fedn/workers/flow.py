"""An algorithm as a chain of steps, each a method of the class of workers that runs it: FedML's flow.

What a step returns goes to the next one: at once where the same worker runs it, else to those of its neighbours whose
step it is. A step runs exactly once for each message that leads to it. Workers are attached before they start, so there
is no handshake that could start the chain twice.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedn.protocol.errors import InvalidInput
from fedn.workers.errors import PeerUnavailable
from fedn.workers.manager import WorkerManager
from fedn.workers.message import HEAD_KEYS, Message

_FLOW_FINISH = "flow_finish"


class Params:
    """What goes from step to step, by name: `params.add("x", 1)`, `params.get("x")`, or `params.x`."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def add(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or `default` where there is none of this name."""
        return self.__dict__.get(name, default)

    def keys(self) -> Iterable[str]:
        return self.__dict__.keys()

    def values(self) -> Iterable[Any]:
        return self.__dict__.values()

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)


class FedMLExecutor:
    """A worker of a flow: subclass it, a class for each kind of worker; its methods are the steps.

    Args:
        id: rank of the worker.
        neighbor_id_list: ranks of those whom it sends to.
    """

    def __init__(self, id: int, neighbor_id_list: Sequence[int]) -> None:
        self.id = id
        self.neighbor_id_list = list(neighbor_id_list)
        self.params: Params | None = None
        self.context: Any = None

    def get_params(self) -> Params | None:
        """What the step before has returned; None in the first step."""
        return self.params

    def set_params(self, params: Params | None) -> None:
        self.params = params

    def get_context(self) -> Any:
        """Whatever was given to `set_context`."""
        return self.context

    def set_context(self, context: Any) -> None:
        self.context = context

    def get_id(self) -> int:
        return self.id

    def set_id(self, id: int) -> None:
        self.id = id

    def get_neighbor_id_list(self) -> list[int]:
        return self.neighbor_id_list

    def set_neighbor_id_list(self, neighbor_id_list: Sequence[int]) -> None:
        self.neighbor_id_list = list(neighbor_id_list)


Task = Callable[[Any], Params | None]


@dataclass(frozen=True)
class _Step:
    name: str
    task: Task
    tag: str
    owner: type[FedMLExecutor] | None

    def belongs_to(self, executor: FedMLExecutor) -> bool:
        """Whether the executor's class has this very method, its own or inherited, perhaps overridden."""
        if self.owner is not None:
            return isinstance(executor, self.owner)
        return any(vars(kind).get(self.task.__name__) is self.task for kind in type(executor).__mro__)


class FedMLAlgorithmFlow(WorkerManager):
    """Add the same steps in all workers, then `build` and `run`.

    A step that is reached by messages of several neighbours runs for each. It returns None until the last has come,
    and then the Params that go on: a second result of one step would start the rest of the chain again, and is an
    error. The chain ends where its last step has returned Params, or has run for all neighbours.

    Args:
        args: what the program likes; comm, rank, worker_num and backend are read from it where it has them.
        executor: this worker.
        loop_times: how often the steps from LOOP_START to LOOP_END run.
    """

    ONCE = "FLOW_TAG_ONCE"
    LOOP_START = "FLOW_TAG_LOOP_START"
    LOOP_END = "FLOW_TAG_LOOP_END"
    FINISH = "FLOW_TAG_FINISH"

    def __init__(self, args: Any, executor: FedMLExecutor, loop_times: int = 1) -> None:
        given = {"comm": "comm", "rank": "rank", "size": "worker_num", "backend": "backend"}
        super().__init__(args, **{name: getattr(args, key) for name, key in given.items() if hasattr(args, key)})
        if executor.get_id() != self.rank:
            raise InvalidInput("wrong_rank", f"The executor's id is {executor.get_id()}, and the worker is {self.rank}")
        if loop_times < 1:
            raise InvalidInput("bad_flow", f"A loop cannot run {loop_times} times", fix="Give loop_times from 1.")
        self.executor, self.loop_times = executor, loop_times
        self.executed: list[str] = []
        """Names of the steps that this worker has run, in order."""
        self._added: list[_Step] = []
        self._chain: list[_Step] = []
        self._passed_on: set[int] = set()
        self._runs_of_last = 0

    def add_flow(
        self,
        flow_name: str,
        executor_task: Task,
        flow_tag: str = ONCE,
        *,
        owner: type[FedMLExecutor] | None = None,
    ) -> None:
        """Adds a step.

        Args:
            flow_name: for people; several steps may have the same.
            executor_task: a method of a class of executors, as `Server.aggregate`.
            flow_tag: ONCE, LOOP_START, LOOP_END, or FINISH for the last one.
            owner: the class whose workers run it, where several inherit the method.
        """
        if flow_tag not in {self.ONCE, self.LOOP_START, self.LOOP_END, self.FINISH}:
            raise InvalidInput("bad_flow", f"{flow_tag!r} is no tag of a step", where={"flow": flow_name})
        self._added.append(_Step(flow_name, executor_task, flow_tag, owner))

    def build(self) -> None:
        """Makes the chain of the steps: the loop is laid out, as often as it runs.

        Raises:
            InvalidInput: (`bad_flow`) no steps, half a loop, or a FINISH that is not the last.
        """
        if not self._added:
            raise InvalidInput("bad_flow", "A flow without steps does nothing", fix="Call add_flow before build.")
        if any(step.tag == self.FINISH for step in self._added[:-1]):
            raise InvalidInput("bad_flow", "A step comes after the one that is tagged FINISH")
        starts = [place for place, step in enumerate(self._added) if step.tag == self.LOOP_START]
        ends = [place for place, step in enumerate(self._added) if step.tag == self.LOOP_END]
        if not starts and not ends:
            start = end = 0
        elif len(starts) == len(ends) == 1 and starts[0] < ends[0]:
            start, end = starts[0], ends[0] + 1
        else:
            raise InvalidInput("bad_flow", "A loop is one LOOP_START and one LOOP_END after it")
        self._chain = [*self._added[:start], *self._added[start:end] * self.loop_times, *self._added[end:]]

    def run(self) -> None:
        """Runs this worker's part of the chain, until the chain has ended everywhere.

        Raises:
            InvalidInput: (`bad_flow`) before `build`; (`flow_step_twice`) a step has returned Params twice.
            Exception: of a step, as it is; and as WorkerManager.run.
        """
        if not self._chain:
            raise InvalidInput("bad_flow", "The flow is not built", fix="Call build before run.")
        super().run()

    def register_message_receive_handlers(self) -> None:
        self.register_message_receive_handler(_FLOW_FINISH, self._handle_finish)
        for index, step in enumerate(self._chain):
            handler = self._handle_params if step.belongs_to(self.executor) else self._pass_over
            self.register_message_receive_handler(self._type_of(index), handler)
        if self._chain[0].belongs_to(self.executor):
            self._execute(0, None, arrivals=1)

    def _type_of(self, index: int) -> str:
        return f"{self._chain[index].name}/{index}"

    def _handle_params(self, message: Message) -> None:
        params = Params()
        for key, value in message.get_params().items():
            if key not in HEAD_KEYS or key == Message.MSG_ARG_KEY_SENDER:
                params.add(key, value)
        index = int(str(message.get_type()).rpartition("/")[2])
        self._execute(index, params, arrivals=len(self.executor.get_neighbor_id_list()))

    def _execute(self, index: int, params: Params | None, *, arrivals: int) -> None:
        """Runs a step and those after it that are this worker's too.

        Args:
            arrivals: how many messages may lead to this step.
        """
        while True:
            step = self._chain[index]
            self.executor.set_params(params)
            params = getattr(self.executor, step.task.__name__)()
            self.executed.append(step.name)
            if index == len(self._chain) - 1:
                self._runs_of_last += 1
                if params is not None or self._runs_of_last >= arrivals:
                    self._end()
                return
            if params is None:
                return
            if index in self._passed_on:
                raise InvalidInput(
                    "flow_step_twice",
                    f"The step {step.name!r} has returned Params twice",
                    fix="Return None until those of the last neighbour have come.",
                    where={"worker": self.rank, "step": index},
                )
            self._passed_on.add(index)
            index += 1
            if not self._chain[index].belongs_to(self.executor):
                self._pass_on(index, params)
                return
            arrivals = 1

    def _pass_on(self, index: int, params: Params) -> None:
        for neighbour in self.executor.get_neighbor_id_list():
            message = Message(self._type_of(index), self.rank, neighbour, round_index=index)
            for key in params:
                if key not in HEAD_KEYS:
                    message.add_params(key, params.get(key))
            self.send_message(message)

    def _pass_over(self, message: Message) -> None:
        """A step goes to all neighbours, and is for those to whom it belongs."""

    def _handle_finish(self, message: Message) -> None:
        # Who runs the last step too ends with that.
        if not self._chain[-1].belongs_to(self.executor):
            self._end()

    def _end(self) -> None:
        for neighbour in self.executor.get_neighbor_id_list():
            with contextlib.suppress(PeerUnavailable):  # it has ended before us
                self.send_message(Message(_FLOW_FINISH, self.rank, neighbour))
        self.finish()
