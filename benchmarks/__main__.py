"""`make bench ARGS="NAME …"`: runs one benchmark; without a name, each with its defaults."""

import importlib
import sys

BENCHMARKS = {
    "floor": "benchmarks.floor",
    "rounds": "benchmarks.rounds",
    "aggregation": "benchmarks.aggregation",
    "data_plane": "benchmarks.data_plane",
    "relay": "benchmarks.relay",
    "idle": "benchmarks.idle",
    "stores": "benchmarks.stores",
}
"""Run by default, in this order."""
ON_REQUEST = {"peers": "benchmarks.peers.__main__"}
"""Run only where they are named."""


def main(arguments: list[str]) -> int:
    known = BENCHMARKS | ON_REQUEST
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
        if name not in known:
            print(f"there is no benchmark {name!r}; there are: {', '.join(known)}", file=sys.stderr)
            return 2
        return int(importlib.import_module(known[name]).main(rest))
    status = 0
    for name, module in BENCHMARKS.items():
        print(f"\n## {name}\n", flush=True)
        status = max(status, int(importlib.import_module(module).main(arguments)))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
