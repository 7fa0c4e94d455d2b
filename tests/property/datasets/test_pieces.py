"""The split of a data set: nothing lost, nothing twice, the same at every site and in every run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.datasets.dealing import SMALLEST, deal_classes, deal_evenly, deal_files, split_arrays
from fedn.datasets.pieces import IID, Draw, Partition, as_alpha, read_piece
from fedn.protocol.errors import InvalidInput

alphas = st.one_of(st.none(), st.floats(1e-3, 1e6))
labellings = st.lists(st.integers(0, 9), min_size=1, max_size=300).map(lambda labels: np.array(labels, np.uint8))


@given(labellings, st.integers(1, 30), st.integers(0, 2**64), alphas)
def test_every_example_is_at_one_site(labels: Any, count: int, seed: int, alpha: float | None) -> None:
    sites = [Partition(index, count, seed, alpha) for index in range(count)]
    for deal in (lambda site: site.training(labels), lambda site: site.held_out(len(labels))):
        if len(labels) < count:
            with pytest.raises(InvalidInput, match="too few"):
                deal(sites[0])
            continue
        pieces = [deal(site) for site in sites]
        assert sorted(np.concatenate(pieces).tolist()) == list(range(len(labels)))
        smallest = max(1, min(SMALLEST, len(labels) // (2 * count)))
        assert min(len(piece) for piece in pieces) >= smallest
        assert all((np.diff(piece) > 0).all() for piece in pieces)


@given(labellings, st.integers(0, 2**64), alphas)
def test_a_piece_repeats_and_the_pieces_of_iid_are_of_one_size(labels: Any, seed: int, alpha: float | None) -> None:
    first, second = (Partition(0, 1, seed, alpha).training(labels) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    count = min(7, len(labels))
    sizes = [len(Partition(index, count, seed, None).training(labels)) for index in range(count)]
    assert max(sizes) - min(sizes) <= 1


@given(labellings, st.text(max_size=20), st.integers(0, 2**64), alphas)
def test_a_draw_by_name_repeats_and_takes_nothing_twice(labels: Any, name: str, seed: int, alpha: float | None) -> None:
    size = max(1, round(len(labels) / 10))
    found = Draw(name, seed, alpha).training(labels)
    np.testing.assert_array_equal(found, Draw(name, seed, alpha).training(labels))
    assert 1 <= len(found) <= size
    assert (np.diff(found) > 0).all() and found[0] >= 0 and found[-1] < len(labels)
    assert len(Draw(name, seed, alpha).held_out(len(labels))) == size


def test_pieces_differ_by_site_seed_and_name() -> None:
    labels = np.arange(2000) % 10
    pieces = [
        Partition(0, 5, 0).training(labels),
        Partition(1, 5, 0).training(labels),
        Partition(0, 5, 1).training(labels),
        Draw("a").training(labels),
        Draw("b").training(labels),
    ]
    assert len({tuple(piece.tolist()) for piece in pieces}) == len(pieces)
    draws = [Partition(0, 5), Partition(1, 5), Draw("a"), Draw("b")]
    assert len({piece.own_draw().integers(2**62) for piece in draws}) == len(draws)


def spread(alpha: float | None) -> float:
    """Mean over sites of the distance (total variation, 0..1) of their labels from those of all."""
    labels = np.arange(20_000) % 10
    shares = [
        np.bincount(labels[piece], minlength=10) / len(piece)
        for piece in (Partition(index, 10, 3, alpha).training(labels) for index in range(10))
    ]
    return float(np.mean([np.abs(share - 0.1).sum() / 2 for share in shares]))


def test_the_smaller_alpha_the_more_uneven_the_labels() -> None:
    assert spread(None) < 0.05
    assert spread(0.05) > 0.6
    assert spread(0.05) > spread(0.5) > spread(5) > spread(500)


def test_known_pieces_do_not_change() -> None:
    # Two sites of different versions must cut alike.
    labels = np.arange(40) % 4
    assert Partition(1, 4, 7, 0.5).training(labels).tolist() == [2, 3, 6, 14, 18, 22, 31, 33, 34, 38, 39]
    assert Partition(1, 4, 7, None).training(labels).tolist() == [1, 13, 16, 22, 23, 24, 26, 36, 38, 39]
    assert Draw("client-1", 0, 0.5).training(np.arange(80) % 4).tolist() == [3, 6, 13, 34, 38, 57, 64, 68]


# --- partition.json


def write(folder: Path, content: object) -> Path:
    (folder / "partition.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_site_is_what_its_file_says(tmp_path: Path) -> None:
    assert read_piece(write(tmp_path, {"index": 1, "count": 3}), "me") == Partition(1, 3, 0, 0.5)
    assert read_piece(tmp_path, "me", alpha=2) == Partition(1, 3, 0, 2.0)
    assert read_piece(tmp_path, "me", alpha=IID) == Partition(1, 3, 0, None)
    write(tmp_path, {"index": 1, "count": 3, "seed": 4, "alpha": IID})
    assert read_piece(tmp_path, "me", alpha=2) == Partition(1, 3, 4, None)


def test_a_site_without_a_file_draws_by_its_name(tmp_path: Path) -> None:
    assert read_piece(tmp_path, "me", alpha=1) == Draw("me", alpha=1.0)
    assert read_piece(None, "me") == Draw("me")


@pytest.mark.parametrize(
    "content",
    [
        {"index": 3, "count": 3},
        {"index": -1, "count": 3},
        {"index": 0, "count": 0},
        {"index": 0, "count": 10**9},
        {"index": 0, "count": 2, "seed": -1},
        {"index": 0.5, "count": 2},
        {"index": True, "count": 2},
        {"index": 0},
        {"index": 0, "count": 2, "alhpa": 1},
        {"index": 0, "count": 2, "alpha": 0},
        {"index": 0, "count": 2, "alpha": "even"},
        {"index": 0, "count": 2, "alpha": float("nan")},
        [0, 2],
        "{",
        "[" * 100_000,
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_piece(write(tmp_path, content), "me")
    assert caught.value.code == "bad_partition"
    assert "partition.json" in caught.value.fix


@pytest.mark.parametrize("alpha", [0, -1, 1e-9, 1e9, float("inf"), None, True, "even", [1]])
def test_an_alpha_that_cannot_be_is_refused(alpha: object) -> None:
    with pytest.raises(InvalidInput, match="alpha"):
        as_alpha(alpha)


@given(labellings, st.integers(1, 30), st.integers(1, 10), st.integers(0, 2**64))
def test_sites_have_so_many_labels_and_together_every_example(labels: Any, count: int, classes: int, seed: int) -> None:
    known = len(np.unique(labels))
    sites = [Partition(index, count, seed, classes=classes) for index in range(count)]
    if len(labels) < count or classes > known or known > count * classes:
        with pytest.raises(InvalidInput, match=r"too few|cannot have all"):
            sites[0].training(labels)
        return
    pieces = [site.training(labels) for site in sites]
    assert sorted(np.concatenate(pieces).tolist()) == list(range(len(labels)))
    assert all((np.diff(piece) > 0).all() for piece in pieces)
    assert all(len(np.unique(labels[piece])) <= classes for piece in pieces)
    np.testing.assert_array_equal(pieces[0], Partition(0, count, seed, classes=classes).training(labels))


def test_labels_are_shared_evenly_by_their_sites() -> None:
    labels = np.arange(10_000) % 10
    pieces = deal_classes(labels, 20, 2, np.random.default_rng(1))
    assert all(len(np.unique(labels[piece])) == 2 for piece in pieces)
    # Twenty sites with two labels each: every label is at four of them.
    at = [sum(label in labels[piece] for piece in pieces) for label in range(10)]
    assert at == [4] * 10
    assert {len(piece) for piece in pieces} == {500}


@given(labellings, st.text(max_size=20), st.integers(1, 10))
def test_a_draw_by_name_may_have_some_labels_only(labels: Any, name: str, classes: int) -> None:
    found = Draw(name, classes=classes).training(labels)
    np.testing.assert_array_equal(found, Draw(name, classes=classes).training(labels))
    assert 1 <= len(np.unique(labels[found])) <= classes
    assert len(np.unique(found)) == len(found)


@given(st.integers(0, 200), st.integers(1, 20), st.integers(0, 2**32))
def test_even_deals_are_shuffled_and_seeded(total: int, count: int, seed: int) -> None:
    pieces = deal_evenly(total, count, np.random.default_rng(seed))
    assert sorted(np.concatenate(pieces).tolist()) == list(range(total))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    again = deal_evenly(total, count, np.random.default_rng(seed))
    assert all((one == other).all() for one, other in zip(pieces, again, strict=True))


def test_an_even_deal_is_not_the_order_of_the_data() -> None:
    pieces = deal_evenly(1000, 4, np.random.default_rng(0))
    x, y = np.arange(1000), np.arange(1000) % 10
    for ours, labels in split_arrays((x, y), pieces):
        assert (labels == ours % 10).all() and len(np.unique(labels)) == 10
    assert not any((np.diff(piece) == piece[1] - piece[0]).all() for piece in pieces)


def test_files_are_dealt_out_each_once(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "more.png").mkdir()
    sites = deal_files(tmp_path, "*.png", 3, seed=1)
    assert [len(site) for site in sites] == [4, 3, 3]
    assert sorted(path.name for site in sites for path in site) == [f"{number}.png" for number in range(10)]
    assert sites == deal_files(tmp_path, "*.png", 3, seed=1) != deal_files(tmp_path, "*.png", 3, seed=2)


@pytest.mark.parametrize("classes", [0, -1, 1.5, "two", True])
def test_a_count_of_labels_that_is_none_is_refused(classes: object) -> None:
    with pytest.raises(InvalidInput, match="classes must be"):
        read_piece(None, "a", classes=classes)


def test_partition_json_says_how_many_labels_its_site_has(tmp_path: Path) -> None:
    (tmp_path / "partition.json").write_text(json.dumps({"index": 1, "count": 5, "classes": 3}))
    assert read_piece(tmp_path, "a", classes=2) == Partition(1, 5, classes=3)
    (tmp_path / "partition.json").write_text(json.dumps({"index": 1, "count": 5}))
    assert read_piece(tmp_path, "a", classes=2) == Partition(1, 5, classes=2)
