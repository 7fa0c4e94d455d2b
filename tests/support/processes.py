"""Whether a process has ended."""

import psutil


def has_ended(pid: int) -> bool:
    """Whether it runs no more.

    One whose parent has gone is reaped by the machine's first process, which in a container may never do so: a zombie
    has ended too.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
