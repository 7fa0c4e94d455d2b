"""Selectors: everybody is chosen or told why not, chance depends on seed, round and name alone, and turns are fair."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.protocol.errors import InvalidInput, InvalidSettings
from fedn.protocol.tasks import RoundName, UpdateMetadata
from fedn.scheduling.selection.base import Candidate, Draw, get_selector

NAMES = st.sets(st.text(min_size=1, max_size=8), max_size=40)
SELECTORS = st.sampled_from(
    [
        ("all", {}),
        ("fraction", {"fraction": 0.3}),
        ("count", {"count": 4}),
        ("weighted", {"count": 4}),
        ("weighted", {"by": "speed", "fraction": 0.5}),
        ("attributes", {"where": {"speed": ["1", 2]}, "count": 3}),
        ("round_robin", {"count": 3}),
    ]
)


def metadata(client: str, examples: int) -> UpdateMetadata:
    name = RoundName(session="s", index=0, attempt=0, epoch=0)
    return UpdateMetadata(task_id="t", client=client, round=name, num_examples=examples)


def candidates(names: set[str]) -> list[Candidate]:
    return [
        Candidate(name, {"speed": str(len(name) % 3)}, metadata(name, len(name)) if len(name) % 2 else None, None)
        for name in names
    ]


@given(SELECTORS, NAMES, st.none() | st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 1000), st.randoms())
def test_each_candidate_is_chosen_or_told_why_not(chosen, names, limit, seed, index, random):
    selector = get_selector(*chosen)
    clients = candidates(names)
    cohort = selector.select(clients, Draw(seed, index), limit)
    assert list(cohort.clients) == sorted(set(cohort.clients))
    assert set(cohort.clients) | cohort.left_out.keys() == names
    assert not set(cohort.clients) & cohort.left_out.keys()
    assert all(cohort.left_out.values())
    assert limit is None or len(cohort.clients) <= limit
    assert selector.most is None or len(cohort.clients) <= selector.most
    random.shuffle(clients)
    assert selector.select(clients, Draw(seed, index), limit) == cohort


@given(st.integers(1, 3000), st.integers(1, 100))
def test_a_fraction_is_rounded_up_and_floating_point_adds_nothing(number, percent):
    clients = [Candidate(f"c{i}") for i in range(number)]
    cohort = get_selector("fraction", {"fraction": percent / 100}).select(clients, Draw(0, 0), None)
    assert len(cohort.clients) == -(-percent * number // 100)


def test_weights_are_chances():
    # With one place, a client's chance is its part of the weights.
    clients = [Candidate("light", latest=metadata("light", 1)), Candidate("heavy", latest=metadata("heavy", 3))]
    selector = get_selector("weighted", {"count": 1})
    times = Counter(selector.select(clients, Draw(7, index), None).clients[0] for index in range(4000))
    assert times["heavy"] / 4000 == pytest.approx(0.75, abs=0.03)  # 4 standard deviations


def test_before_its_first_update_a_client_weighs_as_much_as_the_others_do():
    clients = [Candidate("new"), Candidate("a", latest=metadata("a", 10)), Candidate("b", latest=metadata("b", 30))]
    selector = get_selector("weighted", {"count": 1})
    times = Counter(selector.select(clients, Draw(1, index), None).clients[0] for index in range(4000))
    assert times["new"] / 4000 == pytest.approx(1 / 3, abs=0.03)


def test_clients_without_a_number_are_left_out_where_an_attribute_weighs():
    clients = [Candidate("a", {"gpu": "2"}), *(Candidate(text, {"gpu": text}) for text in ("x", "-1", "nan", "inf"))]
    cohort = get_selector("weighted", {"by": "gpu"}).select(clients, Draw(0, 0), None)
    assert cohort.clients == ("a",)
    assert "gpu" in cohort.left_out["nan"]


def test_attributes_are_compared_as_clients_say_them():
    clients = [
        Candidate("a", {"region": "eu", "gpu": "true", "cores": "8"}),
        Candidate("b", {"region": "us", "gpu": "true", "cores": "8"}),
        Candidate("c", {"region": "eu", "gpu": "true"}),
    ]
    where = {"region": ["eu", "asia"], "gpu": True, "cores": 8}
    cohort = get_selector("attributes", {"where": where}).select(clients, Draw(0, 0), None)
    assert cohort.clients == ("a",)
    assert "region is eu or asia, and its is us" in cohort.left_out["b"]
    assert "cores" in cohort.left_out["c"] and "none" in cohort.left_out["c"]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_in_turn_nobody_is_asked_twice_before_all_were_asked_once(number, count, seed):
    selector = get_selector("round_robin", {"count": count})
    last: dict[str, int] = {}
    asked: Counter[str] = Counter()
    for index in range(10):
        clients = [Candidate(f"c{i}", {}, None, last.get(f"c{i}"), asked[f"c{i}"]) for i in range(number)]
        cohort = selector.select(clients, Draw(seed, index), None)
        assert len(cohort.clients) == min(count, number)
        asked.update(cohort.clients)
        last.update(dict.fromkeys(cohort.clients, index))
    assert max(asked.values()) - min(asked[f"c{i}"] for i in range(number)) <= 1


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("all", {"count": 3}, "count"),
        ("fraction", {}, "fraction"),
        ("fraction", {"fraction": 0}, "fraction"),
        ("fraction", {"fraction": float("nan")}, "fraction"),
        ("fraction", {"fracton": 0.5, "fraction": 0.5}, "fracton"),
        ("count", {"count": 2.5}, "count"),
        ("weighted", {"count": 2, "fraction": 0.5}, "both given"),
        ("attributes", {"where": {}}, "where"),
        ("round_robin", {"count": True}, "count"),
        ("roundrobin", {}, "round_robin"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(name, options, named):
    with pytest.raises(InvalidInput, match=named):
        get_selector(name, options)


def test_all_faults_are_told_at_once():
    with pytest.raises(InvalidSettings) as caught:
        get_selector("fraction", {"fraction": 2, "more": 1})
    assert sorted(problem.code for problem in caught.value.problems) == ["bad_option", "unknown_option"]
