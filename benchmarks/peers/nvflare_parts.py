"""What runs inside NVFlare's server and clients: shipped with the job as a module of its own.

All of them are processes of this machine, so they import the workload from this repository (PYTHONPATH).
"""

import json
import time
from pathlib import Path

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.app_common.workflows.fedavg import FedAvg

from benchmarks.noop.workload import NUM_EXAMPLES, make_model, max_error, shift_of
from benchmarks.proc import MIB, memory_of

_CLIENTS_WITHIN_S = 60.0


class NoopExecutor(Executor):
    """Adds its constant to what it receives. Sites are called site-1, site-2, …"""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        shift = shift_of(int(fl_ctx.get_identity_name().rpartition("-")[2]) - 1)
        data = {name: array + shift for name, array in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, data=data, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: NUM_EXAMPLES}).to_shareable()


class TimedFedAvg(FedAvg):
    """FedAvg that makes the first model, notes when rounds begin and end, and writes its figures to a file.

    A job holds a controller's argument only where the controller has an attribute of that name.

    Args:
        period: seconds between looks at the state of a round (shipped: 0.5).
        settle: seconds after the last client came, in which the client processes start up.
    """

    def __init__(self, num_clients=0, num_rounds=0, params=0, result="", period=0.5, settle=5.0):
        super().__init__(num_clients=num_clients, num_rounds=num_rounds, persistor_id="", task_check_period=period)
        self.params, self.result, self.period, self.settle = params, result, period, settle
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.aggregation: list[float] = []
        self.final = {}

    def run(self):
        deadline = time.monotonic() + _CLIENTS_WITHIN_S
        while len(self.engine.get_clients()) < self.num_clients and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(self.settle)
        self.model = {f"t{index:02d}": array for index, array in enumerate(make_model(self.params))}
        super().run()
        memory = memory_of()
        figures = {
            "all_rounds": [after - before for before, after in zip(self.begun, self.ended, strict=True)],
            "aggregation": self.aggregation,
            "server_rss_mb": memory.peak / MIB,
            "max_err": max_error([self.final[name] for name in sorted(self.final)], self.num_clients, self.num_rounds),
        }
        partial = Path(self.result).with_suffix(".part")
        partial.write_text(json.dumps(figures))
        partial.rename(self.result)

    def sample_clients(self, *args, **kwargs):
        self.begun.append(time.perf_counter())
        self.aggregation.append(0.0)
        return super().sample_clients(*args, **kwargs)

    def save_model(self, model):
        """The end of a round. Nothing is written: what is measured is the round."""
        self.final = model.params
        self.ended.append(time.perf_counter())

    def _aggregate_one_result(self, result):
        return self._timed(super()._aggregate_one_result, result)

    def _get_aggregated_result(self):
        return self._timed(super()._get_aggregated_result)

    def _timed(self, call, *arguments):
        begun = time.perf_counter()
        answer = call(*arguments)
        self.aggregation[-1] += time.perf_counter() - begun
        return answer
