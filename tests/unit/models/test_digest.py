import hashlib

import pytest
from blake3 import blake3

from fedn.models.digest import Hasher, algorithm_of, digest
from fedn.protocol.errors import InvalidInput


def test_digest_names_its_algorithm() -> None:
    assert digest(b"abc") == f"blake3:{blake3(b'abc').hexdigest()}"
    assert digest(b"abc", "sha256") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_pieces_give_the_digest_of_the_whole(algorithm: str) -> None:
    hasher = Hasher(algorithm)
    for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
        hasher.update(piece)
    assert hasher.digest() == digest(b"abcdef", algorithm)
    assert algorithm_of(hasher.digest()) == algorithm


def test_unknown_algorithm_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match="blake3, sha256"):
        Hasher("md5")


@pytest.mark.parametrize(
    "text", ["", "blake3", "blake3:", "md5:" + "0" * 64, "blake3:" + "0" * 63, "sha256:" + "A" * 64, "../../etc/passwd"]
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        algorithm_of(text)
    assert caught.value.code == "bad_digest"
