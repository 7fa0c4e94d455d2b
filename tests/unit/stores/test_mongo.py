"""What the MongoDB store does without a server: it refuses a malformed address, and keeps passwords to itself."""

import pytest

from fedn.protocol.errors import InvalidInput, StoreUnavailable
from fedn.stores.mongo import MongoStateStore


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("http://127.0.0.1", "fedn"),
        ("mongodb://", "fedn"),
        ("mongodb://h:port", "fedn"),
        ("mongodb://[h", "fedn"),
        ("mongodb://h", "a b"),
        ("mongodb://h/?no=1", "fedn"),
    ],
)
def test_a_malformed_address_is_refused_at_once(url: str, database: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MongoStateStore(url, database)
    assert caught.value.code == "bad_mongodb_url"


def test_the_password_is_in_no_error() -> None:
    store = MongoStateStore("mongodb://me:hush%40hush@127.0.0.1:9/?appname=a@b&serverSelectionTimeoutMS=50", "fedn")
    with pytest.raises(StoreUnavailable) as caught:
        store.ping()
    assert "hush" not in str(caught.value)
    assert caught.value.where == {"store": "mongodb 127.0.0.1:9/fedn"}
    store.close()
