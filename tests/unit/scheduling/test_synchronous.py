"""The synchronous scheduler waits for everybody and commits with a quorum."""

import pytest

from fedn.protocol.errors import InvalidInput
from fedn.scheduling.base import Progress, Verdict, get_scheduler
from fedn.scheduling.synchronous import Synchronous


@pytest.mark.parametrize(
    ("updated", "open_", "pending", "required", "verdict"),
    [
        (0, 3, 3, 1, Verdict.WAIT),
        (2, 1, 1, 2, Verdict.WAIT),
        (2, 0, 1, 2, Verdict.WAIT),  # a client that only validates is waited for, too
        (2, 0, 0, 2, Verdict.COMMIT),
        (1, 0, 0, 2, Verdict.RETRY),
        (1, 1, 1, 3, Verdict.RETRY),  # the quorum cannot be reached any more
        (0, 0, 0, 0, Verdict.COMMIT),
    ],
)
def test_verdict(updated, open_, pending, required, verdict):
    progress = Progress(updated=updated, open=open_, pending=pending, required=required, selected=3)
    assert Synchronous().verdict(progress) is verdict


def test_every_learner_decides_its_steps():
    assert Synchronous().budgets(["a", "b"], {}, None) is None


def test_unknown_option_and_unknown_scheduler_are_refused_by_name():
    with pytest.raises(InvalidInput, match="lambda"):
        get_scheduler("synchronous", {"lambda": 2})
    with pytest.raises(InvalidInput, match="synchronous"):
        get_scheduler("sinchronous", {})
