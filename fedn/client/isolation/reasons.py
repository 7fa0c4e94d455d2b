"""What an error of isolated code has to do with its isolation, told by the words that the system used."""

from fedn.protocol.errors import TaskFailed

NO_NETWORK = "Isolated code has no network"
NO_WRITING = "Isolated code may write to FEDN_WORK_DIR, the files that it is given for its results, and /tmp alone"
NOT_SEEN = "Isolated code sees its package, data_path and data_folders, and its image: nothing else of this machine"
_WORDS = {
    "Network is unreachable": NO_NETWORK,
    "Temporary failure in name resolution": NO_NETWORK,
    "Name or service not known": NO_NETWORK,
    "Read-only file system": NO_WRITING,
    "Permission denied": NO_WRITING,
    "No such file or directory": NOT_SEEN,
}
_TOO_MANY = ("can't start new thread", "Resource temporarily unavailable")


def explained(error: TaskFailed, pids: int) -> TaskFailed:
    """The error, with a sentence about the isolation where it speaks of what that forbids.

    Args:
        error: as the code's end was told.
        pids: how many processes and threads it may have.
    """
    reasons = [reason for words, reason in _WORDS.items() if words in error.message]
    if any(words in error.message for words in _TOO_MANY):
        reasons.append(f"Isolated code may have {pids} processes and threads (isolation_pids)")
    if not reasons:
        return error
    text = error.message if error.message.endswith((".", "!", "?")) else f"{error.message}."
    return TaskFailed(
        error.code, f"{text} {'. '.join(dict.fromkeys(reasons))}.", fix=error.fix, where=dict(error.where)
    )
