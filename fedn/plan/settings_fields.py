"""Types of fields that the settings of several programs have: names, digests, sizes, times."""

from typing import Annotated

from pydantic import AfterValidator, ByteSize, Field

from fedn.protocol.errors import InvalidInput
from fedn.protocol.names import check_digest, check_name

MIB = 1 << 20
GIB = 1 << 30


def _name(text: str) -> str:
    try:
        return check_name(text, what="site")
    except InvalidInput as error:
        raise ValueError(error.message) from error


def _digest(text: str) -> str:
    try:
        check_digest(text)
    except InvalidInput as error:
        raise ValueError(error.message) from error
    return text


Name = Annotated[str, AfterValidator(_name)]
Digest = Annotated[str, AfterValidator(_digest)]
Size = Annotated[ByteSize, Field(gt=0)]
"""Bytes; a file or the environment may say `512MiB`."""
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
