"""Where the images come from, and which of them a site has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.datasets import images as module
from fedn.datasets.images import KNOWN, load_images, load_site
from fedn.protocol.errors import FednError, InvalidInput, Unavailable
from tests.support.image_files import NAMES, random_set, write_set


@pytest.mark.parametrize("packed", [True, False])
def test_files_in_a_stated_folder_are_read(packed: bool, tmp_path: Path) -> None:
    arrays = random_set()
    write_set(tmp_path / "mnist", arrays, packed=packed)
    found = load_images("mnist", environ={"FEDN_DATASETS_DIR": str(tmp_path)})
    for array, name in zip(
        (found.train.images, found.train.labels, found.held_out.images, found.held_out.labels), NAMES, strict=True
    ):
        np.testing.assert_array_equal(array, arrays[name])


def test_the_data_directory_counts_before_the_stated_folder(tmp_path: Path) -> None:
    own, other = random_set(1), random_set(2)
    write_set(tmp_path / "own", own)
    write_set(tmp_path / "all" / "mnist", other)
    environ = {"FEDN_DATASETS_DIR": str(tmp_path / "all")}
    np.testing.assert_array_equal(
        load_images("mnist", data_path=tmp_path / "own", environ=environ).train.images, own[NAMES[0]]
    )
    np.testing.assert_array_equal(
        load_images("mnist", data_path=tmp_path, environ=environ).train.images, other[NAMES[0]]
    )


def test_what_debian_has_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = random_set()
    write_set(tmp_path / "fashion-mnist", arrays)
    monkeypatch.setattr(module, "INSTALLED", tmp_path)
    assert len(load_images("fashion-mnist", environ={}).train) == 60


def test_a_stated_folder_without_the_files_is_an_error_not_a_download(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="FEDN_DATASETS_DIR") as caught:
        load_images("mnist", environ={"FEDN_DATASETS_DIR": str(tmp_path)})
    assert caught.value.code == "bad_dataset"
    assert caught.value.where == {"folder": str(tmp_path / "mnist")}


def test_offline_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INSTALLED", tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    environ = {"FEDN_DATASETS_URL": "http://127.0.0.1:9", "FEDN_DATASETS_CACHE": str(tmp_path / "cache")}
    with pytest.raises(Unavailable) as caught:
        load_images("fashion-mnist", environ=environ)
    assert caught.value.code == "dataset_unavailable"
    for words in ("http://127.0.0.1:9/fashion-mnist/train-images", "apt-get install", "FEDN_DATASETS_DIR"):
        assert words in str(caught.value)


def test_some_of_the_files_are_not_enough(tmp_path: Path) -> None:
    write_set(tmp_path, random_set())
    (tmp_path / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(InvalidInput, match=f"missing: {NAMES[3]}"):
        load_images("mnist", data_path=tmp_path)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no data set 'cifar'") as caught:
        load_images("cifar")
    assert "fashion-mnist and mnist" in caught.value.fix


@pytest.mark.parametrize(
    ("file", "array", "reason"),
    [
        (0, np.zeros((60, 8, 8), np.uint8), "60×8×8"),
        (0, np.zeros((60, 28, 28), np.int32), "int32"),
        (1, np.zeros(59, np.uint8), "of 60 images"),
        (3, np.full(20, 10, np.uint8), "a label 10"),
        (1, np.zeros((60, 1), np.uint8), "60×1"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(file: int, array: Any, reason: str, tmp_path: Path) -> None:
    write_set(tmp_path, random_set() | {NAMES[file]: array})
    with pytest.raises(InvalidInput, match=reason) as caught:
        load_images("mnist", data_path=tmp_path)
    assert caught.value.code == "bad_dataset"


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, random_set(train=0))
    with pytest.raises(InvalidInput, match="there are none"):
        load_images("mnist", data_path=tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, random_set(), packed=False)
    (tmp_path / NAMES[0]).write_bytes(b"<html>")
    with pytest.raises(FednError, match="bad_idx_file") as caught:
        load_images("mnist", data_path=tmp_path)
    assert caught.value.where == {"file": str(tmp_path / NAMES[0])}


def test_all_sites_together_have_every_image_once(tmp_path: Path) -> None:
    arrays = random_set()
    write_set(tmp_path / "all" / "mnist", arrays)
    sites = []
    for index in range(3):
        place = tmp_path / f"client-{index}"
        place.mkdir()
        (place / "partition.json").write_text(json.dumps({"index": index, "count": 3, "seed": 5}))
        environ = {"FEDN_DATASETS_DIR": str(tmp_path / "all")}
        sites.append(load_site("mnist", data_path=place, client=place.name, environ=environ))
    for part, (images, labels) in {"train": NAMES[:2], "held_out": NAMES[2:]}.items():
        found = [
            (image.tobytes(), int(label))
            for site in sites
            for image, label in zip(getattr(site, part).images, getattr(site, part).labels, strict=True)
        ]
        wanted = [(image.tobytes(), int(label)) for image, label in zip(arrays[images], arrays[labels], strict=True)]
        assert sorted(found) == sorted(wanted)


def test_a_sites_own_files_are_all_its_own(tmp_path: Path) -> None:
    write_set(tmp_path, random_set())
    site = load_site("mnist", data_path=tmp_path, client="me")
    assert (len(site.train), len(site.held_out)) == (60, 20)
    (tmp_path / "partition.json").write_text('{"index": 0, "count": 2, "alpha": "iid"}')
    site = load_site("mnist", data_path=tmp_path, client="me")
    assert (len(site.train), len(site.held_out)) == (30, 10)


def test_a_site_that_has_only_its_name_draws_a_tenth(tmp_path: Path) -> None:
    write_set(tmp_path / "mnist", random_set(train=500))
    environ = {"FEDN_DATASETS_DIR": str(tmp_path)}
    one, again, other = (
        load_site("mnist", data_path=None, client=name, alpha="iid", environ=environ) for name in ("a", "a", "b")
    )
    assert len(one.train) == 50
    np.testing.assert_array_equal(one.train.images, again.train.images)
    assert not np.array_equal(one.train.images, other.train.images)


def test_digests_are_of_every_file() -> None:
    digests = [digest for known in KNOWN.values() for digest in known.digests.values()]
    assert len(set(digests)) == 8
    assert all(set(known.digests) == set(NAMES) for known in KNOWN.values())
    assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
