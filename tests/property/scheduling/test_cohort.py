"""The cohort is a sample that depends on the seed and the round alone."""

from hypothesis import given
from hypothesis import strategies as st

from fedn.scheduling.cohort import select_cohort

clients = st.sets(st.text(min_size=1, max_size=8), max_size=40)


@given(clients, st.none() | st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 1000))
def test_cohort_is_a_sorted_sample_of_the_wanted_size(names, requested, seed, round_index):
    cohort = select_cohort(names, requested, seed=seed, round_index=round_index)
    assert cohort == sorted(set(cohort))
    assert set(cohort) <= names
    assert len(cohort) == (len(names) if requested is None else min(requested, len(names)))


@given(clients, st.integers(1, 50), st.integers(0, 2**40), st.randoms())
def test_order_of_arrival_does_not_matter(names, requested, seed, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    assert select_cohort(shuffled, requested, seed=seed, round_index=3) == select_cohort(
        sorted(names), requested, seed=seed, round_index=3
    )


@given(clients.filter(lambda names: len(names) > 2), st.integers(0, 2**40))
def test_a_client_that_leaves_changes_at_most_its_own_place(names, seed):
    requested = len(names) // 2
    before = set(select_cohort(names, requested, seed=seed, round_index=0))
    gone = sorted(names)[0]
    after = set(select_cohort(names - {gone}, requested, seed=seed, round_index=0))
    assert before - {gone} <= after


def test_rounds_and_seeds_choose_differently():
    names = [f"client-{i}" for i in range(100)]
    chosen = {tuple(select_cohort(names, 10, seed=seed, round_index=r)) for seed in range(3) for r in range(3)}
    assert len(chosen) == 9
