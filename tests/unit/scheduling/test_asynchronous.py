"""The asynchronous scheduler: when it commits, what an old update counts, and what of a plan does not go with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.plan.check import check_plan
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.scheduling.base import Progress, Verdict, get_scheduler


def scheduler(**options: object):
    return get_scheduler("asynchronous", options)


@pytest.mark.parametrize(
    ("arrivals", "required", "updated", "open_", "verdict"),
    [
        (1, 1, 0, 3, Verdict.WAIT),
        (1, 1, 1, 3, Verdict.COMMIT),
        (3, 1, 2, 1, Verdict.WAIT),
        (3, 1, 3, 0, Verdict.COMMIT),
        (3, 1, 5, 2, Verdict.COMMIT),  # more came before the combiners were asked
        (3, 2, 2, 0, Verdict.COMMIT),  # nothing more can come, and the quorum is there
        (3, 2, 1, 0, Verdict.RETRY),
        (3, 1, 0, 0, Verdict.RETRY),
    ],
)
def test_verdict(arrivals, required, updated, open_, verdict):
    progress = Progress(updated=updated, open=open_, pending=open_, required=required, selected=9)
    assert scheduler(arrivals=arrivals).verdict(progress) is verdict


@pytest.mark.parametrize(
    ("staleness", "expected"),
    [
        ({"name": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        ({"name": "polynomial", "a": 1.0}, [1.0, 1 / 2, 1 / 3, 1 / 4]),
        ({"name": "polynomial"}, [1.0, 2**-0.5, 3**-0.5, 0.5]),
        ({"name": "hinge", "a": 2.0, "b": 1.0}, [1.0, 1.0, 1 / 3, 1 / 5]),
    ],
)
def test_staleness_weights(staleness, expected):
    made = scheduler(staleness=staleness, learning_rate=0.5)
    assert [made.discount(tau) for tau in range(4)] == pytest.approx(expected)
    assert [made.share(tau) for tau in range(4)] == pytest.approx([0.5 * weight for weight in expected])


@given(
    staleness=st.sampled_from(["constant", "polynomial", "hinge"]),
    a=st.floats(0, 50),
    tau=st.integers(0, 1000),
)
def test_a_weight_never_grows_with_staleness_and_is_never_nothing(staleness, a, tau):
    made = scheduler(staleness={"name": staleness, **({} if staleness == "constant" else {"a": a})})
    assert made.discount(0) == 1.0
    assert 0 < made.discount(tau + 1) <= made.discount(tau) <= 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"arrivals": 0},
        {"concurrency": 0},
        {"max_staleness": -1},
        {"learning_rate": 0},
        {"staleness": "polynomial"},
        {"staleness": {"name": "linear"}},
        {"staleness": {"name": "constant", "a": 1.0}},
        {"k": 3},
    ],
)
def test_options_that_cannot_be_used_are_refused(options):
    with pytest.raises(InvalidInput) as caught:
        scheduler(**options)
    assert caught.value.where["field"].startswith(f"scheduler.options.{next(iter(options))}")


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"deterministic": True}, "deterministic"),
        ({"reducer_mean": "plain"}, "reducer_mean"),
        ({"clients_requested": 4}, "clients_requested"),
        ({"clients_required": 4}, "clients_required"),
        ({"selection": {"name": "fraction", "options": {"fraction": 0.5}}}, "selection"),
        ({"selection": {"name": "round_robin", "options": {"count": 5}}}, "selection"),
        ({"rule": "fednova"}, "rule"),
        ({"rule": {"name": "median", "options": {"scope": "global"}}}, "rule"),
    ],
)
def test_what_does_not_fit_is_refused_up_front(plan, field):
    with pytest.raises(InvalidSettings) as caught:
        check_plan(SessionPlan(scheduler={"name": "asynchronous", "options": {"arrivals": 3}}, **plan))
    assert [problem.where["field"] for problem in caught.value.problems] == [field]
    assert "asynchronous" in caught.value.problems[0].message


def test_a_server_has_one_learning_rate():
    adam = {"name": "adam", "options": {"learning_rate": 0.1}}
    twice = {"name": "asynchronous", "options": {"learning_rate": 0.5}}
    with pytest.raises(InvalidSettings, match="two learning rates"):
        check_plan(SessionPlan(scheduler=twice, server_optimizer=adam))
    check_plan(SessionPlan(scheduler="asynchronous", server_optimizer=adam))


def test_what_fits_is_taken():
    for rule in ("fedavg", {"name": "fedstride", "options": {"stride_length": 2}}):
        check_plan(SessionPlan(scheduler="asynchronous", rule=rule, update_chain=["delta", "zstd"]))
    check_plan(
        SessionPlan(
            scheduler={"name": "asynchronous", "options": {"arrivals": 3, "concurrency": 8}},
            rule={"name": "norm_clipping", "options": {"max_norm": 1.0}},
            clients_required=3,
            selection={"name": "attributes", "options": {"where": {"site": "north"}}},
        )
    )
