"""What programs hold while they run: memory, threads, files, children; sampled in a thread of its own."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

Sample = Mapping[str, float]
"""Quantity to value."""
_DELETED = " (deleted)"
_BLOCK_BYTES = 512


def of_process(process: psutil.Process) -> dict[str, float]:
    """Memory in bytes, threads, open files; files without a name (spool files, shared memory) and their bytes on disk.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    with process.oneshot():
        found = {"rss_bytes": float(process.memory_info().rss), "threads": float(process.num_threads())}
    found["open_files"] = 0.0
    folder = Path(f"/proc/{process.pid}/fd")
    nameless: dict[tuple[int, int], int] = {}
    with contextlib.suppress(FileNotFoundError):
        for descriptor in os.scandir(folder):
            found["open_files"] += 1
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(descriptor.path).endswith(_DELETED):
                    # A file that is mapped is open twice.
                    status = os.stat(descriptor.path)
                    nameless[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK_BYTES
    return found | {"nameless_files": float(len(nameless)), "nameless_bytes": float(sum(nameless.values()))}


def of_program(pid: int) -> dict[str, dict[str, float]]:
    """A program under the key "", its child processes all together, and how many there are, under "/children"."""
    try:
        program = psutil.Process(pid)
        found = {"": of_process(program)}
        children = program.children(recursive=True)
    except psutil.NoSuchProcess:
        return {}
    if children:
        together = {"processes": float(len(children))}
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                for quantity, value in of_process(child).items():
                    together[quantity] = together.get(quantity, 0.0) + value
        found["/children"] = together
    return found


def of_folder(folder: Path) -> dict[str, float]:
    """Files below it, and their bytes."""
    count = size = 0
    for path in _files(folder):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
            count += 1
    return {"files": float(count), "bytes": float(size)}


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


class Watch:
    """Samples programs and folders again and again, from `with` to its end.

    Args:
        programs: name to process id.
        folders: name to place.
        done: asked at each sample: how much was done so far (rounds), for what grows with the work.
    """

    def __init__(
        self, programs: Mapping[str, int], folders: Mapping[str, Path], done: Callable[[], int], *, every_s: float
    ) -> None:
        self.at_s: list[float] = []
        """Of each sample, from the beginning."""
        self.done: list[float] = []
        self.samples: list[dict[str, Sample]] = []
        """Name to quantities, as many as there are times."""
        self._programs = programs
        self._folders = folders
        self._done = done
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def series(self) -> Iterator[tuple[str, str, list[int], list[float]]]:
        """Each name and quantity with the numbers of the samples that have it, and its values there."""
        names = sorted({(name, quantity) for sample in self.samples for name in sample for quantity in sample[name]})
        for name, quantity in names:
            there = [place for place, one in enumerate(self.samples) if quantity in one.get(name, {})]
            yield name, quantity, there, [self.samples[place][name][quantity] for place in there]

    def _run(self) -> None:
        while not self._ending.is_set():
            self._take()
            self._ending.wait(self._every_s)

    def _take(self) -> None:
        sample: dict[str, Sample] = {}
        for name, pid in self._programs.items():
            sample |= {name + part: values for part, values in of_program(pid).items()}
        sample |= {name: of_folder(folder) for name, folder in self._folders.items()}
        self.at_s.append(time.monotonic() - self._begun)
        self.done.append(float(self._done()))
        self.samples.append(sample)
