"""`make bench ARGS="NAME …"`: runs one benchmark; without a name, each with its defaults."""

import importlib
import sys
from types import ModuleType

from benchmarks.cells import end_on_signals

BENCHMARKS = {
    "floor": "benchmarks.floor",
    "rounds": "benchmarks.rounds",
    "aggregation": "benchmarks.aggregation",
    "codecs": "benchmarks.codecs",
    "secagg": "benchmarks.secagg",
    "data_plane": "benchmarks.data_plane",
    "relay": "benchmarks.relay",
    "workers": "benchmarks.workers",
    "idle": "benchmarks.idle",
    "dashboards": "benchmarks.dashboards",
    "scale": "benchmarks.scale",
    "stores": "benchmarks.stores",
    "housing": "benchmarks.housing",
}
"""Run by default, in this order. Each module has `parse(arguments)` and `main(arguments)`, which returns a status."""
ON_REQUEST = {
    "soak": "benchmarks.soak",
    "convergence": "benchmarks.convergence.study",
    "simulate": "benchmarks.simulate",
    "peers": "benchmarks.peers.compare",
    "table": "benchmarks.tables",
    "plots": "benchmarks.plots",
}
"""Run only where they are named."""
_INTERRUPTED = 130


def load(name: str) -> ModuleType:
    """The module of a benchmark. KeyError: there is none of that name."""
    return importlib.import_module((BENCHMARKS | ON_REQUEST)[name])


def main(arguments: list[str]) -> int:
    """Status 0: everything was measured."""
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
        try:
            module = load(name)
        except KeyError:
            print(f"there is no benchmark {name!r}; there are: {', '.join(BENCHMARKS | ON_REQUEST)}", file=sys.stderr)
            return 2
        return int(module.main(rest))
    status = 0
    for name in BENCHMARKS:
        print(f"\n## {name.replace('_', ' ')}\n", flush=True)
        status = max(status, int(load(name).main(arguments)))
    return status


if __name__ == "__main__":
    end_on_signals()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
