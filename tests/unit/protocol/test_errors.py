"""What an error carries, and what it lets go of."""

import weakref

from fedn.protocol.errors import FednError, Unavailable


class Held:
    """Something that a frame holds."""


def fail(held: Held) -> None:
    try:
        raise OSError("the cause, with frames of its own")
    except OSError as error:
        raise Unavailable("combiner_lost", "the stream broke", where={"combiner": "combiner-1"}) from error


def kept(*, frames: bool) -> tuple[FednError, "weakref.ref[Held]"]:
    held = Held()
    try:
        fail(held)
    except FednError as error:
        return error if frames else error.without_frames(), weakref.ref(held)
    raise AssertionError


def test_an_error_without_frames_holds_nothing_of_where_it_was_raised_and_says_the_same() -> None:
    error, held = kept(frames=True)
    assert held() is not None  # as any exception does
    bare, gone = kept(frames=False)
    assert gone() is None
    assert (str(bare), bare.as_problem()) == (str(error), error.as_problem())
    assert bare.__traceback__ is bare.__cause__ is bare.__context__ is None
