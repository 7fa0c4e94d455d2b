"""Updates at a Redis server, under keys that begin with the combiner's own name space:

    <space>:index              a hash: number of an update to what is known of it, in JSON
    <space>:data:<key>:<part>  its bytes, in parts

The index is written last: what stands in it is whole, unless the server lost something. Other keys of the server are
never touched.
"""

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
)
from redis.retry import Retry

from fedn.models.pieces import Pieces
from fedn.protocol.errors import StoreUnavailable
from fedn.stores.content import store_away, store_full
from fedn.stores.updates.base import KeptUpdate
from fedn.stores.updates.store import lost

PART_BYTES = 4 << 20
"""Redis answers nobody else while it copies a value; and it takes none beyond 512 MiB."""
_CONNECT_S = 3.0
_ANSWER_S = 10.0
"""For each command: so long a part may take."""
_TRIES_AGAIN = 1
"""A connection that the server closed meanwhile is opened once more."""
_KEYS_AT_ONCE = 500


def connect(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
) -> Redis:
    """A client of the server at redis://… or, with TLS, rediss://…; it connects at the first call."""
    secure: dict[str, Any] = {}
    if urlsplit(url).scheme == "rediss":
        secure = {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": str(ca_file) if ca_file is not None else None,
            "ssl_certfile": str(certificate_file) if certificate_file is not None else None,
            "ssl_keyfile": str(key_file) if key_file is not None else None,
        }
    return Redis.from_url(
        url,
        username=username,
        password=password,
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=_ANSWER_S,
        retry=Retry(NoBackoff(), _TRIES_AGAIN),
        **secure,
    )


def name_space(federation: str, combiner: str) -> str:
    """What the keys of a combiner begin with, and no other's; no character of it means anything to Redis."""
    return f"fedn:updates:{quote(federation, safe='')}:{quote(combiner, safe='')}"


class RedisShelf:
    """A `Shelf` at a Redis server.

    Args:
        client: closed with the shelf; answers in bytes.
        space: as `name_space` makes it.
        part_bytes: of each value.
    """

    def __init__(self, client: Redis, space: str, part_bytes: int = PART_BYTES) -> None:
        self._client = client
        self._index = f"{space}:index"
        self._data = f"{space}:data:"
        self._part_bytes = part_bytes

    def load(self) -> list[KeptUpdate]:
        with self._errors():
            keys = {key.decode() for key in self._client.scan_iter(match=f"{self._data}*", count=_KEYS_AT_ONCE)}
            known = {}
            for field, value in self._client.hscan_iter(self._index, count=_KEYS_AT_ONCE):
                known[field] = _facts(value)
            whole = [update for update in known.values() if update is not None and keys.issuperset(self._keys(update))]
            broken = known.keys() - {str(update.number).encode() for update in whole}
            if broken:
                self._client.hdel(self._index, *broken)
            self._unlink(sorted(keys - {key for update in whole for key in self._keys(update)}))
        return whole

    def write(self, update: KeptUpdate, data: Pieces) -> None:
        keys = self._keys(update)
        with self._errors():
            try:
                for at, key in enumerate(keys):
                    self._client.set(key, data.copy(at * self._part_bytes, (at + 1) * self._part_bytes))
                self._client.hset(self._index, str(update.number), update.model_dump_json())
            except RedisError:
                with contextlib.suppress(RedisError):  # what stays is removed when the store is loaded again
                    self._unlink(keys)
                raise

    def read(self, update: KeptUpdate) -> Pieces:
        parts = []
        with self._errors():
            for key in self._keys(update):
                part = self._client.get(key)
                if not isinstance(part, bytes):
                    raise lost(update)
                parts.append(memoryview(part))
        return Pieces(parts)

    def remove(self, updates: Sequence[KeptUpdate]) -> None:
        with self._errors():
            for at in range(0, len(updates), _KEYS_AT_ONCE):
                some = updates[at : at + _KEYS_AT_ONCE]
                self._client.hdel(self._index, *(str(update.number) for update in some))
                self._unlink([key for update in some for key in self._keys(update)])

    def close(self) -> None:
        self._client.close()

    def _keys(self, update: KeptUpdate) -> list[str]:
        # A number may come again, after a write that failed; with other bytes it has other keys.
        name = f"{update.number}-{update.object_id.rpartition(':')[2][:16]}"
        parts = -(-update.size_bytes // self._part_bytes)
        return [f"{self._data}{name}:{part}" for part in range(parts)]

    def _unlink(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            self._client.unlink(*keys[at : at + _KEYS_AT_ONCE])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OutOfMemoryError as error:
            raise store_full(self._place(), "Redis has reached its maxmemory") from error
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise StoreUnavailable(
                "store_login_refused",
                f"Redis does not let the combiner in, or not do what it must: {error}",
                fix="Set updates.username and updates.password, and let that user read and write keys fedn:updates:*.",
                where={"store": self._place()},
            ) from error
        except (RedisError, OSError) as error:
            raise store_away(self._place(), error) from error

    def _place(self) -> str:
        """Where the server is, without the password that the address may carry."""
        known = self._client.connection_pool.connection_kwargs
        return f"redis {known.get('host')}:{known.get('port')}"


def _facts(value: bytes) -> KeptUpdate | None:
    try:
        return KeptUpdate.model_validate_json(value)
    except ValidationError:
        return None
