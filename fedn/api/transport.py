"""HTTPS to the reducer: trust, bearer token, proxies, time-outs, and errors as typed errors. Knows no route."""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
    TimeoutError,
)

from fedn.api.problems import error_from_answer, not_a_reducer
from fedn.protocol.errors import FednError, InvalidInput, Unauthenticated, Unavailable

PIECE_BYTES = 1 << 20
_MAX_REPLY_BYTES = 64 << 20
"""Of a JSON answer; models and packages stream and are not held in memory."""

Body = bytes | IO[bytes]


def split_url(url: str) -> tuple[str, str]:
    """(`scheme://host:port`, host) of a reducer's address. InvalidInput (`bad_url`) where it is none."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.path in {"", "/"} and not parts.query
        port = parts.port
    except ValueError:
        good, port = False, None
    if not good:
        raise InvalidInput(
            "bad_url",
            f"{url!r} is not the address of a reducer",
            fix="Give scheme, host and port only, such as https://reducer.example.org:8090.",
        )
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), host


class Transport:
    """One reducer's address, with pooled connections; may be used from any thread.

    Args:
        url: `https://host:port` (`http://` only for a reducer that listens on loopback without TLS).
        ca: PEM text, or path of a PEM file, of the federation's CA; None trusts what the system trusts.
        certificate, key: paths of a client certificate and its key, where the reducer wants mutual TLS.
        timeout_s: seconds > 0 without a byte until a call is given up.
        bearer: called before each request; its result goes into the Authorization header, "" sends none.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: str | bytes | Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_s: float = 30.0,
        bearer: Callable[[], str],
    ) -> None:
        self.url, host = split_url(url)
        self._bearer = bearer
        self._timeout_s = timeout_s
        scheme = urlsplit(self.url).scheme
        options: dict[str, Any] = {"retries": False, "maxsize": 8}
        if scheme == "https":
            options["ssl_context"] = _tls_context(ca, certificate, key)
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        self._pool = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)

    def close(self) -> None:
        self._pool.clear()

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object | None] | None = None,
        payload: Any = None,
        body: Body | None = None,
        content_type: str = "application/json",
        bearer: str | None = None,
        key: str = "",
    ) -> Any:
        """Sends `payload` as JSON (or `body` as it is) and returns the JSON answer; None for an empty one.

        `key` names the request (Idempotency-Key), so that it may be repeated.
        """
        if payload is not None:
            body = json.dumps(payload, allow_nan=False).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
        if key:
            headers["Idempotency-Key"] = key
        with self.stream(method, path, query=query, body=body, headers=headers, bearer=bearer) as answer:
            data = self._read_all(answer, path)
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise not_a_reducer(self.url + path, "no JSON") from error

    def text(self, path: str, *, bearer: str | None = None) -> str:
        """The answer to a GET, as text."""
        with self.stream("GET", path, bearer=bearer) as answer:
            return self._read_all(answer, path).decode()

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object | None] | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        bearer: str | None = None,
        read_timeout_s: float | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer of status < 400 whose body is not read yet. Errors of reading it become typed errors too."""
        given = {key: _text(value) for key, value in (query or {}).items() if value is not None}
        url = self.url + path + (f"?{urlencode(given)}" if given else "")
        token = self._bearer() if bearer is None else bearer
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        timeout = urllib3.Timeout(connect=self._timeout_s, read=read_timeout_s or self._timeout_s)
        answer: urllib3.BaseHTTPResponse | None = None
        try:
            answer = self._request(method, url, body=body, headers=sent, timeout=timeout)
            if answer.status >= 400:
                raise error_from_answer(answer.status, self._read_all(answer, path), url=self.url + path)
            yield answer
        except HTTPError as error:
            raise self._as_fedn_error(error) from error
        finally:
            if answer is not None and answer.connection is not None:
                answer.close()  # not read to its end, so its connection cannot serve another request

    def _request(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(method, url, preload_content=False, redirect=False, **options)
        except ProtocolError:
            if method not in {"GET", "HEAD"} and "Idempotency-Key" not in options["headers"]:
                raise
            # The server closed an idle connection just as it was used again: harmless to repeat what changes nothing,
            # or is done only once.
            return self._pool.request(method, url, preload_content=False, redirect=False, **options)

    def _read_all(self, answer: urllib3.BaseHTTPResponse, path: str) -> bytes:
        data = answer.read(_MAX_REPLY_BYTES + 1)
        if len(data) > _MAX_REPLY_BYTES:
            raise not_a_reducer(self.url + path, f"more than {_MAX_REPLY_BYTES} bytes of JSON")
        return data

    def _as_fedn_error(self, error: HTTPError) -> FednError:
        where = {"url": self.url}
        reason = getattr(error, "reason", error)
        if isinstance(error, SSLError) or isinstance(reason, ssl.SSLError):
            return _tls_error(error, where)
        if isinstance(error, ProxyError):
            return Unavailable(
                "proxy_failed",
                f"the proxy does not let us through: {error}",
                fix="Check HTTPS_PROXY, or add the reducer's host to NO_PROXY.",
                where=where,
            )
        if isinstance(error, NameResolutionError):
            return Unavailable(
                "reducer_unreachable",
                "the host name of the reducer is not known here",
                fix="Check the spelling and this machine's DNS.",
                where=where,
            )
        if isinstance(error, NewConnectionError):
            return Unavailable(
                "reducer_unreachable",
                "nothing accepts connections at the reducer's address",
                fix="Start it with `fedn reducer start`, or correct the address.",
                where=where,
            )
        if isinstance(error, ConnectTimeoutError | TimeoutError):
            return Unavailable(
                "reducer_unreachable",
                f"the reducer did not answer for {self._timeout_s:g} s",
                fix="Check the address, and that no firewall drops connections to it.",
                where=where,
            )
        return Unavailable(
            "connection_broken", f"the connection broke: {error}", fix="Try again; the state is unknown.", where=where
        )


def _text(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _tls_context(ca: str | bytes | Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=None if ca is None else _pem(ca))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        files = [str(name) for name in (ca, certificate, key) if isinstance(name, Path)]
        raise InvalidInput(
            "bad_certificate_file",
            f"a certificate or key cannot be read: {error}",
            fix="Give PEM files: the reducer writes its CA to ca.crt in its data directory.",
            where={"file": ", ".join(files)} if files else None,
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _pem(ca: str | bytes | Path) -> str:
    """The PEM text that `ca` is, or that the file it names holds."""
    if isinstance(ca, bytes):
        return ca.decode("ascii")
    if isinstance(ca, str) and "-----BEGIN" in ca:
        return ca
    return Path(ca).read_text(encoding="ascii")


def _tls_error(error: HTTPError, where: Mapping[str, object]) -> FednError:
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text:
        return InvalidInput(
            "no_tls_there",
            "the server there does not speak TLS",
            fix="Check the port; use http:// only for a reducer on this machine that was started with tls: false.",
            where=where,
        )
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
        return Unauthenticated(
            "certificate_needed",
            "the reducer wants a client certificate (mutual TLS)",
            fix="Enrol this site, or give the certificate and key that enrolment made.",
            where=where,
        )
    return Unauthenticated(
        "untrusted_certificate",
        f"the certificate that the reducer shows is not trusted: {text}",
        fix="Give the federation's CA with --ca (ca.crt of the reducer's data directory); if you did, somebody may "
        "sit in between.",
        where=where,
    )
