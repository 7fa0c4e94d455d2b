"""The seed that a task's context carries."""

from blake3 import blake3


def task_seed(plan_seed: int, client: str, round_index: int) -> int:
    """31 bits that depend on the three alone, so that a repeated session draws the same numbers everywhere."""
    data = f"{plan_seed}\0{round_index}\0{client}".encode()
    return int.from_bytes(blake3(data).digest(4), "little") & 0x7FFFFFFF
