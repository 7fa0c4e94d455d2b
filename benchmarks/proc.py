"""What Linux says of running processes: memory and processor time. Needs nothing but /proc: peers import it too."""

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Resident memory of one process, in bytes."""

    now: int
    peak: int
    """The most since it started (VmHWM)."""


def memory_of(pid: int | str = "self") -> Memory:
    """Raises ProcessLookupError where there is no such process."""
    sizes = {"VmRSS": 0, "VmHWM": 0}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in sizes:
                sizes[name] = int(value.split()[0]) * 1024
    except FileNotFoundError as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    return Memory(sizes["VmRSS"], sizes["VmHWM"])


def cpu_s(pid: int | str = "self") -> float:
    """Processor seconds, user and system, of all its threads. Raises ProcessLookupError."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def available_bytes() -> int:
    """Memory that programs can still get without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say MemAvailable")


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may itself hold spaces and brackets: state, ppid, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    return text.rpartition(")")[2].split()
