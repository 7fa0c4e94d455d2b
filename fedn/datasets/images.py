"""MNIST and Fashion-MNIST: found on this machine or downloaded once, and the images of one site."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedn.datasets.cache import cache_folder, cached_file
from fedn.datasets.idx import decode_idx, read_idx
from fedn.datasets.pieces import DEFAULT_ALPHA, PARTITION_FILE, Partition, read_piece
from fedn.protocol.errors import InvalidInput

Array = np.ndarray[Any, Any]

FOLDER_VARIABLE = "FEDN_DATASETS_DIR"
URL_VARIABLE = "FEDN_DATASETS_URL"
INSTALLED = Path("/usr/share/datasets")
"""Where Debian's package dataset-fashion-mnist puts its files."""
SIDE = 28
CLASSES = 10

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class KnownSet:
    """A data set that can be downloaded."""

    urls: tuple[str, ...]
    """Folders that hold its gzipped files, in the order in which to try them."""
    digests: Mapping[str, str]
    """SHA-256 of each file, unpacked: how somebody packed it does not matter."""


KNOWN = {
    "fashion-mnist": KnownSet(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ),
        {
            _FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            _FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            _FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            _FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "mnist": KnownSet(
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        {
            _FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            _FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            _FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            _FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
}


@dataclass(frozen=True, eq=False)
class Examples:
    """Images uint8 (n, 28, 28) in 0..255, and their labels uint8 (n,) in 0..9."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, positions: Array) -> "Examples":
        """A copy of the examples at these positions (m,)."""
        return Examples(self.images[positions], self.labels[positions])


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Examples to train on, and examples that nobody trains on."""

    train: Examples
    held_out: Examples


def load_site(
    name: str,
    *,
    data_path: Path | None,
    client: str,
    alpha: object = DEFAULT_ALPHA,
    classes: object = None,
    environ: Mapping[str, str] | None = None,
) -> ImageSet:
    """The images of one site.

    Where the site's data directory itself holds the four files and no partition.json, they are the site's own: all of
    them are its piece. Else the piece is as `read_piece` says.

    Args:
        name: `fashion-mnist` or `mnist`.
        data_path: the site's data directory; None where it has none.
        client: the site's name.
        alpha: of the plan: a number, or `iid`.
        classes: of the plan: labels that a site has, or None.
        environ: instead of this process's environment.

    Raises:
        InvalidInput: `unknown_dataset`, `bad_dataset`, `bad_idx_file`, `bad_partition`.
        IntegrityError, Unavailable, FednError: what kept it from being downloaded.
    """
    whole = load_images(name, data_path=data_path, environ=environ)
    own = data_path is not None and has_images(data_path) and not (data_path / PARTITION_FILE).exists()
    piece = Partition() if own else read_piece(data_path, client, alpha=alpha, classes=classes)
    train, held_out = whole.train, whole.held_out
    return ImageSet(train.part(piece.training(train.labels)), held_out.part(piece.held_out(len(held_out))))


def load_images(name: str, *, data_path: Path | None = None, environ: Mapping[str, str] | None = None) -> ImageSet:
    """A whole data set, from the first of these places that has it.

    1. `data_path`, where it holds the four idx files, each gzipped or not;
    2. the folder `name` in FEDN_DATASETS_DIR; without that variable, what Debian's package has installed;
    3. this user's cache, after a download if need be: from the folder `name` below FEDN_DATASETS_URL, else from where
       its makers have it. What is in the cache is checked each time by the digests that are known here.

    Raises: as `load_site`.
    """
    environ = os.environ if environ is None else environ
    known = KNOWN.get(name)
    if known is None:
        raise InvalidInput(
            "unknown_dataset",
            f"there is no data set {name!r}",
            fix=f"Known are {' and '.join(sorted(KNOWN))}; images of your own go into the data directory.",
        )
    stated = environ.get(FOLDER_VARIABLE)
    shared = (Path(stated) if stated else INSTALLED) / name
    folder = next((place for place in (data_path, shared) if place is not None and has_images(place)), None)
    if folder is not None:
        arrays = [read_idx(_file(folder, file)) for file in _FILES]
    elif stated:
        raise _bad(f"{FOLDER_VARIABLE} names a folder without its files", shared, f"Put {', '.join(_FILES)} there.")
    else:
        cache = cache_folder(environ) / name
        urls = known.urls if not environ.get(URL_VARIABLE) else (f"{environ[URL_VARIABLE].rstrip('/')}/{name}",)
        arrays = [
            decode_idx(cached_file(cache, f"{file}.gz", urls, known.digests[file]), source=f"{cache}/{file}.gz")
            for file in _FILES
        ]
        folder = cache
    return ImageSet(_examples(arrays[0], arrays[1], folder), _examples(arrays[2], arrays[3], folder))


def has_images(folder: Path) -> bool:
    """Whether a folder holds the four files. InvalidInput (`bad_dataset`) where it holds only some of them."""
    found = [file for file in _FILES if _file(folder, file).is_file()]
    if found and len(found) < len(_FILES):
        missing = ", ".join(file for file in _FILES if file not in found)
        raise _bad(f"only some of its files are there; missing: {missing}", folder, "Put them there, gzipped or not.")
    return bool(found)


def _file(folder: Path, file: str) -> Path:
    """The file, or its gzipped form; one of them need not be there."""
    return folder / file if (folder / file).is_file() else folder / f"{file}.gz"


def _examples(images: Array, labels: Array, place: Path) -> Examples:
    """Checked to be what Examples says."""
    wanted = f"images must be bytes of n×{SIDE}×{SIDE}, labels n bytes from 0 to {CLASSES - 1}"
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise _bad(f"{wanted}; the images are {images.dtype} of {_shape(images)}", place)
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise _bad(f"{wanted}; of {len(images)} images the labels are {labels.dtype} of {_shape(labels)}", place)
    if len(labels) == 0 or labels.max() >= CLASSES:
        raise _bad(f"{wanted}; {f'there is a label {labels.max()}' if len(labels) else 'there are none'}", place)
    return Examples(images, labels)


def _shape(array: Array) -> str:
    return "×".join(map(str, array.shape))


def _bad(fault: str, folder: Path, fix: str = "Get the files again.") -> InvalidInput:
    return InvalidInput("bad_dataset", f"the data set cannot be used: {fault}", fix=fix, where={"folder": folder})
