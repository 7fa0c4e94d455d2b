"""`make bench ARGS="NAME …"`: runs one benchmark; without a name, each with its defaults."""

import sys

from benchmarks import rounds

BENCHMARKS = {"rounds": rounds.main}


def main() -> int:
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name and name not in BENCHMARKS:
        print(f"there is no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for known, run in BENCHMARKS.items():
        if name in ("", known):
            run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
