"""No-op federated rounds over the real tiers: what the platform itself costs.

Clients do no training: each adds a constant of its own to the received float32 weights and returns them at once. A
round lasts from its predecessor's commit to its own, so everything counts: the choice of the cohort, dispatch,
transfers, checks, the sum, the durable commit.

    make bench ARGS="rounds --params 10k --clients 5 --combiners 2 --rounds 50 --out results.jsonl"

Each run appends one JSON line: system, params, clients, combiners, rounds, round_s (median of rounds 2…N), p90_s,
first_s, agg_s, commit_s, server_rss_mb (the largest combiner), max_err, all_rounds.
"""

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import psutil

from benchmarks.noop.learner import STEP, make_model
from fedn.models.files import read_tensors, write_tensors
from fedn.plan.session import SessionPlan
from fedn.sandbox.federation import Sandbox, SandboxOptions
from fedn.sandbox.project import open_project

HERE = Path(__file__).resolve().parent


def parse_count(text: str) -> int:
    """'10M' -> 10_000_000"""
    factor = {"k": 10**3, "M": 10**6}.get(text[-1])
    return int(float(text[:-1]) * factor) if factor else int(text)


def rss_of(pid: int) -> int:
    """Resident memory in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def measure(params: int, clients: int, combiners: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        project_dir = Path(folder) / "project"
        shutil.copytree(HERE / "noop", project_dir, ignore=shutil.ignore_patterns("__pycache__"))
        seed = make_model(params)
        width = len(str(len(seed) - 1))
        write_tensors(
            project_dir / "seed.safetensors", {str(index).zfill(width): array for index, array in enumerate(seed)}
        )
        options = SandboxOptions(clients=clients, combiners=combiners, data_dir=Path(folder) / "sandbox")
        with Sandbox(open_project(project_dir), options) as sandbox:
            sandbox.start()
            api = sandbox.api
            plan = sandbox.plan(rounds=rounds).model_dump(by_alias=True)
            wanted = SessionPlan(**{**plan, "validate": False, "clients_required": clients})
            session = api.start_session(wanted).id
            for _ in sandbox.follow(session):
                pass
            view = api.session(session)
            if view.state != "finished":
                raise SystemExit(f"the session {view.state}: {view.error}")
            views = api.rounds(session)
            memory = [
                psutil.Process(p.pid).memory_info().rss for p in sandbox._programs if p.name.startswith("combiner")
            ]
            final = Path(folder) / "final.safetensors"
            api.download_model(view.model_id, final)
            tensors = read_tensors(final)
    ends = [one.ended_at for one in views]
    lengths = [after - before for before, after in itertools.pairwise(ends)]
    shift = np.float32(rounds * STEP * (clients + 1) / 2)
    return {
        "system": "fedn",
        "params": params,
        "clients": clients,
        "combiners": combiners,
        "rounds": rounds,
        "round_s": statistics.median(lengths),
        "p90_s": sorted(lengths)[int(len(lengths) * 0.9)],
        "first_s": views[0].ended_at - views[0].started_at,
        "agg_s": statistics.median(one.times_ms["aggregation"] for one in views) / 1e3,
        "commit_s": statistics.median(one.times_ms["commit"] for one in views) / 1e3,
        "server_rss_mb": max(memory) / 2**20,
        "max_err": float(
            max(np.abs(tensors[name] - (w + shift)).max() for name, w in zip(sorted(tensors), seed, strict=True))
        ),
        "all_rounds": lengths,
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="rounds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=parse_count, default=10_000)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--combiners", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    result = measure(given.params, given.clients, given.combiners, given.rounds)
    if given.out is not None:
        with given.out.open("a") as out:
            out.write(json.dumps(result) + "\n")
    shown = {key: round(value, 5) if isinstance(value, float) else value for key, value in result.items()}
    shown.pop("all_rounds")
    print(json.dumps(shown, indent=2))
