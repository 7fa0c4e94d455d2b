"""The mathematics of simulated rounds: limits in closed form, nothing lost, never better with less."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulator import Costs, Federation, simulate

COSTS = Costs(combiner_client_s=2e-3, reducer_client_s=5e-4, client_s=1e-3, combiner_s=0.01, reducer_s=0.02)


def test_the_round_of_one_client_is_the_sum_of_its_ways() -> None:
    federation = Federation(
        clients=1, model_bytes=1e6, link_bytes_per_s=1e8, client_bytes_per_s=1e7, latency_s=0.05, host_cores=1.0
    )
    there_and_back = 2 * (0.05 + 0.1) + 2 * 0.01  # latency and own link, the host's link
    collecting = 2 * 0.01
    programs = 2e-3 + 5e-4 + 1e-3 + 0.01 + 0.02
    assert simulate(federation, COSTS).round_s == pytest.approx(there_and_back + collecting + programs)


def test_very_many_clients_take_as_long_as_the_busiest_station() -> None:
    """The rest of the pipeline hides behind it, but for one group's way through."""
    for costs, clients_s in ((COSTS, 2e-3), (dataclasses.replace(COSTS, reducer_client_s=0.01), 0.01)):
        outcome = simulate(Federation(clients=100_000, host_cores=8.0, latency_s=0.0, model_bytes=0.0), costs)
        assert outcome.round_s == pytest.approx(100_000 * clients_s, rel=0.3)
        assert outcome.round_s >= 100_000 * clients_s


def test_a_host_whose_programs_need_more_than_its_cores_takes_their_work_over_its_cores() -> None:
    """Without work that has to wait for other work: all of it before the clients, who do nothing."""
    costs = Costs(combiner_client_s=1e-3, reducer_client_s=0.0, down_share=1.0)
    for combiners, cores in ((4, 1.0), (4, 2.0), (2, 1.5)):
        federation = Federation(
            clients=8_000, combiners=combiners, combiners_per_host=combiners, host_cores=cores,
            model_bytes=0.0, latency_s=0.0,
        )  # fmt: skip
        assert simulate(federation, costs).round_s == pytest.approx(8.0 / cores)


def test_a_link_that_is_the_narrowest_place_bounds_the_round() -> None:
    federation = Federation(clients=1_000, model_bytes=1e6, link_bytes_per_s=1e7, client_bytes_per_s=1e9)
    outcome = simulate(federation, COSTS)
    assert outcome.longest in {"down", "up"}
    assert outcome.busy_s["down"] == pytest.approx(outcome.busy_s["up"]) == pytest.approx(100.0)
    # Down and up are two directions: most of the way up goes on while others' models still come down.
    assert 100.0 < outcome.round_s < 120.0


federations = st.builds(
    Federation,
    clients=st.integers(20, 3_000),
    combiners=st.integers(1, 20),
    combiners_per_host=st.integers(1, 5),
    host_cores=st.floats(0.5, 8.0),
    model_bytes=st.floats(0, 1e7),
    one_host=st.booleans(),
    latency_s=st.floats(0, 0.5),
)
each_s = st.floats(1e-5, 1e-2)
costs_of_all = st.builds(
    Costs,
    combiner_client_s=each_s,
    reducer_client_s=each_s,
    client_s=each_s,
    down_share=st.floats(0, 1),
    first_share=st.floats(0, 1),
)


@settings(max_examples=40, deadline=None)
@given(federations, costs_of_all)
def test_every_client_comes_through_once_and_its_work_is_done_once(federation: Federation, costs: Costs) -> None:
    outcome = simulate(federation, costs)
    assert outcome.passed == federation.clients
    assert outcome.busy_s["combiners"] == pytest.approx(federation.clients * costs.combiner_client_s)
    assert outcome.busy_s["reducer"] == pytest.approx(federation.clients * costs.reducer_client_s)
    moved_s = federation.clients * federation.model_bytes / federation.link_bytes_per_s
    if federation.one_host:
        assert outcome.busy_s["clients"] == pytest.approx(federation.clients * costs.client_s)
        moved_s = 0.0
    assert outcome.busy_s["down"] == pytest.approx(moved_s)
    assert outcome.busy_s["up"] == pytest.approx(moved_s)


@settings(max_examples=40, deadline=None)
@given(federations, costs_of_all)
def test_no_round_is_faster_than_the_work_allows(federation: Federation, costs: Costs) -> None:
    outcome = simulate(federation, costs)
    assert outcome.round_s >= outcome.busy_s["reducer"] * (1 - 1e-9)
    assert outcome.round_s >= outcome.busy_s["combiners"] / federation.combiners * (1 - 1e-9)
    on_hosts = outcome.busy_s["combiners"]
    if federation.one_host:
        on_hosts += outcome.busy_s["clients"] + outcome.busy_s["reducer"]
    assert outcome.round_s >= on_hosts / federation.host_cores / federation.hosts * (1 - 1e-9)


@settings(max_examples=25, deadline=None)
@given(federations, costs_of_all)
def test_more_of_everything_that_helps_never_takes_clearly_longer(federation: Federation, costs: Costs) -> None:
    """First come, first served has small anomalies of one group's size: 5 % is left for them."""
    now_s = simulate(federation, costs).round_s
    for better in ({"host_cores": 2 * federation.host_cores}, {"client_bytes_per_s": 2e9}, {"link_bytes_per_s": 1e12}):
        assert simulate(dataclasses.replace(federation, **better), costs).round_s <= 1.05 * now_s
    for worse in ({"clients": 2 * federation.clients}, {"latency_s": federation.latency_s + 1.0}):
        assert simulate(dataclasses.replace(federation, **worse), costs).round_s >= now_s / 1.05


def test_twice_the_combiners_on_hosts_of_their_own_halve_the_time_until_the_reducer_is_the_bound() -> None:
    rounds = [
        simulate(Federation(clients=32_000, combiners=combiners, latency_s=0.0, model_bytes=0.0), COSTS)
        for combiners in (1, 2, 4, 16)
    ]
    assert rounds[0].round_s == pytest.approx(2 * rounds[1].round_s, rel=0.2)
    assert [one.longest for one in rounds] == ["combiners", "combiners", "reducer", "reducer"]
    assert 32_000 * 5e-4 < rounds[3].round_s < 1.2 * 32_000 * 5e-4


def test_heartbeats_take_their_part_of_a_combiner_and_no_more_than_all() -> None:
    federation = Federation(clients=10_000, latency_s=0.0, model_bytes=0.0)
    plain = simulate(federation, COSTS)
    busy = simulate(federation, dataclasses.replace(COSTS, combiner_idle=0.25 / 10_000))
    assert busy.busy_s["combiners"] == pytest.approx(plain.busy_s["combiners"] / 0.75)
    assert busy.work_s == pytest.approx(plain.work_s) == pytest.approx(plain.busy_s["combiners"])
    assert busy.round_s == pytest.approx(plain.round_s / 0.75, rel=0.1)
    with pytest.raises(ValueError, match="10000 idle clients"):
        simulate(federation, dataclasses.replace(COSTS, combiner_idle=1.1 / 10_000))


def test_a_stretch_lengthens_the_round_and_nothing_else() -> None:
    federation = Federation(clients=100)
    plain, longer = simulate(federation, COSTS), simulate(federation, dataclasses.replace(COSTS, stretch=1.5))
    assert longer.round_s == pytest.approx(1.5 * plain.round_s)
    assert longer.busy_s == plain.busy_s


@pytest.mark.parametrize("wrong", [{"combiners": 0}, {"combiners": 11}, {"combiners_per_host": 0}, {"host_cores": 0.0}])
def test_a_federation_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a client for each combiner"):
        Federation(clients=10, **wrong)  # type: ignore[arg-type]
