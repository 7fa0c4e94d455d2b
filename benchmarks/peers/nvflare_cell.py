"""No-op rounds by NVFlare 2.9: its FedAvg controller and an Executor, in its simulator with one process a client.

    PYTHONPATH=. ENVIRONMENT/bin/python -m benchmarks.peers.nvflare_cell --params 1M --clients 10 --fetch 0.05

--period and --fetch are its two polling periods; without them it runs as shipped.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nvflare
import psutil
from nvflare.job_config.api import FedJob

from benchmarks.peers.nvflare_parts import NoopExecutor, TimedFedAvg
from benchmarks.peers.peer_cell import parser_of, report

_SHIPPED_PERIOD_S = 0.5
_SHIPPED_FETCH_S = 2.0
_ENDS_WITHIN_S = 10.0


def main() -> None:
    parser = parser_of("NVFlare")
    parser.add_argument("--period", type=float, default=_SHIPPED_PERIOD_S, help="of the controller's look at a round")
    parser.add_argument("--fetch", type=float, default=_SHIPPED_FETCH_S, help="of the clients' question for a task")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedn-nvflare-") as name:
        figures = _simulate(given, Path(name))
    aggregation = figures.pop("aggregation")
    report(
        given,
        f"nvflare-{nvflare.__version__}",
        figures.pop("all_rounds"),
        agg_s=statistics.median(aggregation[1:]),
        period=given.period,
        fetch=given.fetch,
        **figures,
    )


def _simulate(given: argparse.Namespace, folder: Path) -> dict:
    result = folder / "result.json"
    job = FedJob(name="noop", min_clients=given.clients)
    job.to_server(
        TimedFedAvg(
            num_clients=given.clients,
            num_rounds=given.rounds,
            params=given.params,
            result=str(result),
            period=given.period,
        )
    )
    job.to_clients(NoopExecutor(), tasks=["train"])
    job.export_job(str(folder / "jobs"))
    _set_fetch(folder / "jobs" / "noop", given.fetch)
    program = Path(sys.executable).with_name("nvflare")
    command = [program, "simulator", folder / "jobs" / "noop", "-w", folder / "work"]
    environ = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    # Its own words go where ours go: standard output is for the result.
    with subprocess.Popen(
        [*map(str, command), "-n", str(given.clients), "-t", str(given.clients)], stdout=sys.stderr, env=environ
    ) as process:
        try:
            process.wait()
        finally:
            _end(process)
    if not result.exists():
        sys.exit(f"the simulator ended with status {process.returncode} and no result")
    return json.loads(result.read_text())


def _set_fetch(job: Path, fetch: float) -> None:
    """Writes the polling period into the job's own files, on both sides."""
    for file in job.rglob("config_fed_*.json"):
        content = json.loads(file.read_text())
        if file.stem == "config_fed_client":
            content["default_task_fetch_interval"] = fetch
        else:
            content["server"] = {"task_request_interval": fetch}
        file.write_text(json.dumps(content))


def _end(process: subprocess.Popen) -> None:
    """What the simulator left running of its own children, and itself."""
    left = []
    if process.poll() is None:
        left = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for one in left:
        if one.is_running():
            one.kill()


if __name__ == "__main__":
    main()
