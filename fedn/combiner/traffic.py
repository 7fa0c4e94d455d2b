"""What one task took on its client's link: counted where bytes leave and arrive, for the accounting."""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Traffic:
    """Bytes of objects, without the frames around them (16 bytes a MiB). It only grows."""

    down_bytes: int = 0
    up_bytes: int = 0
