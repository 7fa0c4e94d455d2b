"""A combiner process without a reducer: `python -m benchmarks.wire.combiner FOLDER [--plain]`; says its port."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from benchmarks.floors.grpc_parts import Child, raise_file_limit, say
from benchmarks.wire.trust import COMBINER, FEDERATION, HOST, Trust
from fedn.combiner.combiner import Combiner
from fedn.combiner.main import _SWITCH_INTERVAL_S
from fedn.combiner.options import CombinerOptions

_MODULE = "benchmarks.wire.combiner"


class CombinerProcess:
    """A running combiner; `close` ends it. It reads its trust from `folder`, which must have one."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self._child = Child(_MODULE, folder, *([] if tls else ["--plain"]))
        self.pid = self._child.pid
        try:
            self.port = int(self._child.hear()["port"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._child.close()


async def _serve(folder: Path, *, tls: bool) -> None:
    trust = Trust(folder)
    options = CombinerOptions(
        name=COMBINER, federation=FEDERATION, data_dir=folder / "combiner", bind=HOST, port=0, max_clients=1_000_000
    )
    files = trust.combiner_files() if tls else None
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with Combiner(options, verifier=trust.verifier, tickets=trust.tickets, tls=files) as combiner:
        say({"port": combiner.port})
        await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    raise_file_limit()
    # As `fedn combiner start` does.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.folder, tls=not given.plain))


if __name__ == "__main__":
    main()
