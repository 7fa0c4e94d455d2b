"""APIClient against a real HTTPS server: what is sent, what comes back, and every way that it can go wrong."""

import json
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from fedn.api.client import APIClient
from fedn.models.digest import digest
from fedn.protocol.errors import (
    FednError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from fedn.protocol.rest import TokenReply
from tests.support.rest_stub import Answer, Asked, Stub, rest_stub

STATUS = {
    "federation": "f",
    "version": "1",
    "state": "idle",
    "epoch": 1,
    "started_at": 1.0,
    "combiners": 0,
    "combiners_alive": 0,
    "clients": 0,
    "clients_attached": 0,
    "trail_length": 0,
    "trail_head": "",
}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with rest_stub(tmp_path) as running:
        running.answers = [Answer(payload=STATUS)]
        yield running


@pytest.fixture
def api(stub: Stub) -> Iterator[APIClient]:
    with APIClient(stub.url, ca=stub.ca, token="a-token", timeout_s=10) as client:
        yield client


def test_the_token_goes_into_the_header(stub: Stub, api: APIClient) -> None:
    assert api.status().federation == "f"
    assert stub.asked[0].headers["Authorization"] == "Bearer a-token"
    assert stub.asked[0].path == "/api/v1/status"


def test_a_server_of_another_authority_is_not_trusted(stub: Stub, tmp_path: Path) -> None:
    with (
        rest_stub(tmp_path / "other") as other,
        APIClient(stub.url, ca=other.ca) as client,
        pytest.raises(Unauthenticated) as caught,
    ):
        client.status()
    assert caught.value.code == "untrusted_certificate"
    assert not stub.asked


def test_a_server_without_tls_is_named(tmp_path: Path) -> None:
    with (
        rest_stub(tmp_path, tls=False) as plain,
        APIClient(plain.url.replace("http:", "https:")) as client,
        pytest.raises(InvalidInput) as caught,
    ):
        client.status()
    assert caught.value.code == "no_tls_there"


def test_nobody_listening_may_be_tried_again() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{probe.getsockname()[1]}"
        with APIClient(url) as client, pytest.raises(Unavailable) as caught:
            client.status()
    assert caught.value.code == "reducer_unreachable"
    assert "fedn reducer start" in caught.value.fix


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "https://host:port", "https://host/path"])
def test_a_bad_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        APIClient(url)
    assert caught.value.code == "bad_url"


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        APIClient("https://localhost", ca=tmp_path / "ca.crt")
    assert caught.value.code == "bad_certificate_file"
    assert "ca.crt" in caught.value.where["file"]


def test_a_get_whose_connection_was_closed_is_sent_again(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(close_without_answer=True), Answer(payload=STATUS)]
    assert api.status().federation == "f"
    assert len(stub.asked) == 2


def test_a_post_whose_connection_was_closed_is_not_sent_again(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(close_without_answer=True)]
    with pytest.raises(Unavailable) as caught:
        api.stop_session("s-1")
    assert caught.value.code == "connection_broken"
    assert len(stub.asked) == 1


def test_a_request_for_a_session_is_sent_again_under_the_same_key(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(close_without_answer=True), Answer(close_without_answer=True)]
    with pytest.raises(Unavailable):
        api.start_session({"rounds": 3})
    first, second = (asked.headers["Idempotency-Key"] for asked in stub.asked)
    assert first == second
    stub.answers = [Answer(close_without_answer=True)] * 2
    with pytest.raises(Unavailable):
        api.start_session({"rounds": 3})
    assert stub.asked[2].headers["Idempotency-Key"] != first


def test_an_error_answer_is_raised(stub: Stub, api: APIClient) -> None:
    problem = NotFound("no_such_session", "there is no such session", fix="List them.").as_problem()
    stub.answers = [Answer(404, problem)]
    with pytest.raises(NotFound, match="no_such_session"):
        api.session("s-1")


def test_an_answer_of_another_version_says_so(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(payload={"federation": "f"})]
    with pytest.raises(FednError) as caught:
        api.status()
    assert caught.value.code == "bad_reply"
    assert "StatusView" in caught.value.message


def test_no_json_says_so(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(body=b"<html>hello", content_type="text/html")]
    with pytest.raises(InvalidInput) as caught:
        api.status()
    assert caught.value.code == "not_a_reducer"


def test_a_list_is_read_page_by_page(stub: Stub, api: APIClient) -> None:
    def page(asked: Asked) -> Answer:
        offset = int(asked.path.partition("offset=")[2])
        names = [f"c{number}" for number in range(5)][offset : offset + 2]
        items = [{"name": name, "key_id": "k", "enrolled_at": 1.0, "last_seen": 1.0} for name in names]
        return Answer(payload={"items": items, "total": 5, "offset": offset, "limit": 2})

    stub.answers = [page]
    assert [view.name for view in api.clients()] == ["c0", "c1", "c2", "c3", "c4"]
    assert len(stub.asked) == 3


def test_a_name_is_quoted_as_one_segment(stub: Stub, api: APIClient) -> None:
    api.remove_client("Zürich & Söhne?")
    assert stub.asked[0].path == "/api/v1/clients/Z%C3%BCrich%20%26%20S%C3%B6hne%3F"


def test_the_admin_secret_is_bought_into_a_token_once(stub: Stub) -> None:
    reply = TokenReply(token="bought", expires_at=4e9, role="admin", name="admin", token_key="k").model_dump()
    stub.answers = [Answer(payload=reply), Answer(payload=STATUS), Answer(payload=STATUS)]
    with APIClient(stub.url, ca=stub.ca, admin_secret="the-secret") as client:
        client.status()
        client.status()
    bearers = [asked.headers["Authorization"] for asked in stub.asked]
    assert bearers == ["Bearer the-secret", "Bearer bought", "Bearer bought"]
    assert stub.asked[0].payload["grant"] == "admin_secret"


def test_enrolment_sends_the_secret_and_no_token(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(401, Unauthenticated("wrong_secret", "wrong").as_problem())]
    with pytest.raises(Unauthenticated):
        api.enrol(name="c1", role="client", csr=b"csr", secret="enrolment")
    assert stub.asked[0].headers["Authorization"] == "Bearer enrolment"
    assert stub.asked[0].payload == {"name": "c1", "role": "client", "csr": "csr", "hosts": []}


def test_an_argument_that_cannot_be_is_named() -> None:
    with APIClient("https://localhost") as client, pytest.raises(InvalidInput) as caught:
        client.add_combiner(name="c", host="h", port=0, max_clients=1, instance="i")
    assert caught.value.code == "bad_argument"
    assert "port" in caught.value.message


def test_a_model_is_downloaded_and_checked(stub: Stub, api: APIClient, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    stub.answers = [Answer(body=data, content_type="application/octet-stream")]
    assert api.download_model(digest(data), tmp_path / "m.safetensors") == len(data)
    assert (tmp_path / "m.safetensors").read_bytes() == data


def test_a_damaged_download_leaves_the_old_file(stub: Stub, api: APIClient, tmp_path: Path) -> None:
    target = tmp_path / "m.safetensors"
    target.write_bytes(b"old")
    stub.answers = [Answer(body=b"damaged")]
    with pytest.raises(IntegrityError) as caught:
        api.download_model(digest(b"right"), target)
    assert caught.value.code == "digest_mismatch"
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.glob(".m.*")] == []


def test_a_file_that_cannot_be_written_is_named(stub: Stub, api: APIClient, tmp_path: Path) -> None:
    with pytest.raises(FednError) as caught:
        api.download_model(digest(b"x"), tmp_path / "missing" / "m.safetensors")
    assert caught.value.code == "cannot_write_file"


def test_events_go_on_where_the_stream_broke(stub: Stub, api: APIClient) -> None:
    def message(number: int) -> bytes:
        data = {"number": number, "kind": "k", "time": 1.0, "fields": {"n": number}}
        return f"id: {number}\nevent: k\ndata: {json.dumps(data)}\n\n".encode()

    first = Answer(content_type="text/event-stream", pieces=[b": hi\n\n", message(1), message(2) + b"id: 3\nda"])
    second = Answer(content_type="text/event-stream", pieces=[message(2), message(3)])
    stub.answers = [first, Answer(503, Unavailable("busy", "busy").as_problem()), second]
    assert [event.number for event in islice(api.watch(), 3)] == [1, 2, 3]
    assert [asked.headers["Last-Event-ID"] for asked in stub.asked] == ["0", "2", "2"]


def test_watching_ends_where_repeating_does_not_help(stub: Stub, api: APIClient) -> None:
    stub.answers = [Answer(401, Unauthenticated("token_expired", "expired").as_problem())]
    with pytest.raises(Unauthenticated):
        next(api.watch())
    assert len(stub.asked) == 1


def test_watching_a_reducer_that_stays_away_ends() -> None:
    with APIClient("https://127.0.0.1:9", timeout_s=1) as client, pytest.raises(Unavailable):
        next(client.watch(patience_s=0.01))
