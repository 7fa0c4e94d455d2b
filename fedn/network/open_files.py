"""Room for many connections: the operating system's limit on the open files of a process."""

import resource

from fedn.protocol.errors import LimitExceeded


def raise_open_files(needed: int) -> int:
    """Raises this process's limit on open files to `needed`, where it is lower; the limit from now on.

    Raises:
        LimitExceeded: (`too_few_open_files`) the operating system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return needed
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))  # only a privileged process may
    except (ValueError, OSError) as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        raise LimitExceeded(
            "too_few_open_files",
            f"{needed} open files are needed, one for each connection, and this process may have {hard}",
            fix="Raise the limit before the start: `ulimit -n` in the shell, LimitNOFILE= in a systemd unit, "
            "`ulimits: nofile:` in Compose, a wider limit in /etc/security/limits.conf.",
            where={"allowed": hard, "needed": needed},
        ) from error
    return needed
