"""What a combiner gets for a worker whose group meets elsewhere: only for its own workers, and only what it needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.network.tickets import TicketVerifier
from fedn.network.tokens import Claims, Role, Scope, TokenVerifier
from fedn.protocol.errors import FednError, LimitExceeded
from fedn.protocol.rest import CombinerRegistration, DetourRequest, WorkerGroupRequest
from fedn.reducer.detours.desk import TOKEN_TTL_S, RelayDesk, tell_of_detour
from fedn.reducer.detours.stream import Detour
from fedn.reducer.keys import load_keys
from fedn.reducer.worker_groups import WorkerPlace
from tests.unit.reducer.parts import Parts, make_parts

CALL = "a call of a test"


class Bench:
    """Two combiners; the group g meets at `home`, and its worker 1, the client b, is attached to `other`."""

    def __init__(self, folder: Path) -> None:
        self.parts: Parts = make_parts(folder)
        services = self.parts.services
        for name, port in (("home", 1), ("other", 2)):
            services.registry.register(
                CombinerRegistration(name=name, host=f"{name}.example.org", port=port, max_clients=9, instance=name)
            )
        services.worker_groups.create(WorkerGroupRequest(name="g", size=2))
        self.join("a")
        self.ticket = self.join("b", "other").ticket
        self.keys = load_keys(services.settings)
        self.begun: list[tuple[Detour, str]] = []
        self.desk = RelayDesk(
            services.worker_groups,
            services.registry,
            self,
            TicketVerifier(self.keys.tokens.public_key_pem, services.settings.federation),
            self.keys.tokens,
            tls=None,
            ttl_s=3600,
        )

    def begin(self, detour: Detour, reason: str) -> None:
        self.begun.append((detour, reason))

    def join(self, client: str, combiner: str = "") -> WorkerPlace:
        place = self.parts.services.worker_groups.join(client, "g", None, combiner=combiner)
        assert isinstance(place, WorkerPlace)
        return place

    def seen_by(self, combiner: str, token: str) -> Claims:
        """What a token says to a combiner."""
        federation = self.parts.services.settings.federation
        return TokenVerifier(self.keys.tokens.public_key_pem, federation, combiner=combiner).verify(token)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.parts.close()


def caller(name: str) -> Claims:
    return Claims(name, Role.COMBINER, f"sha256:{name}", 2e9, "1")


def test_the_token_is_for_this_combiner_at_that_home_and_for_relaying_alone(bench: Bench) -> None:
    reply = bench.desk.token(caller("other"), "g", bench.ticket)
    claims = bench.seen_by("home", reply.token)
    assert (claims.subject, claims.scope, claims.key_id) == ("other", Scope.RELAY, "sha256:other")
    assert claims.expires_at == pytest.approx(reply.expires_at, abs=2)
    assert TOKEN_TTL_S == 600 and bench.parts.services.started_at + 600 <= reply.expires_at + 1
    for elsewhere in ("other", ""):
        with pytest.raises(FednError, match="token_bad"):
            bench.seen_by(elsewhere, reply.token)


def test_a_detour_is_dialled_at_both_registered_addresses_with_tokens_of_their_own(bench: Bench) -> None:
    bench.desk.detour(caller("other"), "g", DetourRequest(ticket=bench.ticket, call=CALL, reason="no\n route"))
    [(detour, reason)] = bench.begun
    assert (detour.near.address, detour.far.address) == ("other.example.org:2", "home.example.org:1")
    assert (detour.call, reason) == (CALL, "no route")
    assert bench.seen_by("other", detour.near.token).scope is Scope.LINK
    shown = bench.seen_by("home", detour.far.token)
    assert (shown.subject, shown.scope) == ("other", Scope.RELAY)


@pytest.mark.parametrize("who", ["home", "stranger"])
def test_only_the_combiner_that_the_worker_is_attached_to_gets_either(bench: Bench, who: str) -> None:
    wanted = DetourRequest(ticket=bench.ticket, call=CALL, reason="")
    with pytest.raises(FednError, match="not_attached_there"):
        bench.desk.token(caller(who), "g", bench.ticket)
    with pytest.raises(FednError, match="not_attached_there"):
        bench.desk.detour(caller(who), "g", wanted)
    assert not bench.begun


def test_a_ticket_of_another_group_of_a_removed_client_or_of_nobody_gets_nothing(bench: Bench) -> None:
    groups = bench.parts.services.worker_groups
    groups.create(WorkerGroupRequest(name="h", size=2))
    for group, code in (("h", "not_attached_there"), ("no such one", "no_such_worker_group")):
        with pytest.raises(FednError, match=code):
            bench.desk.token(caller("other"), group, bench.ticket)
    with pytest.raises(FednError, match="token_bad"):
        bench.desk.token(caller("other"), "g", "x.y.z")
    groups.free_ranks_of("b")
    with pytest.raises(FednError, match="not_attached_there"):
        bench.desk.token(caller("other"), "g", bench.ticket)


def test_a_group_that_has_moved_is_not_looked_for_at_its_old_home(bench: Bench) -> None:
    bench.parts.services.registry.remove("home")
    assert bench.join("a").group.home == "other"
    with pytest.raises(FednError, match="not_home"):
        bench.desk.token(caller("other"), "g", bench.ticket)


def test_over_rest_a_combiner_speaks_for_itself(bench: Bench) -> None:
    web = bench.parts.app.test_client()
    path = "/api/v1/worker-groups/g"
    own, foreign = (bench.parts.headers(Role.COMBINER, name) for name in ("other", "third"))
    payload = {"ticket": bench.ticket}
    assert web.post(f"{path}/relay-tokens", json=payload, headers=own).status_code == 200
    assert web.post(f"{path}/relay-tokens", json=payload, headers=foreign).status_code == 403
    detour = {**payload, "call": CALL, "reason": "refused"}
    assert web.post(f"{path}/detours", json=detour, headers=foreign).status_code == 403
    answer = web.post(f"{path}/detours", json=detour, headers=own)  # these parts let no stream through
    assert answer.get_json()["code"] == "too_many_detours" and answer.status_code == LimitExceeded.http_status


def test_a_detour_is_told_with_its_reason_and_what_to_do(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.desk.detour(caller("other"), "g", DetourRequest(ticket=bench.ticket, call=CALL, reason="no route"))
    tell_of_detour(bench.parts.services.events, *bench.begun[0])
    [event] = [event for event in bench.parts.services.events.latest(10) if event.kind == "worker_detour"]
    assert event.fields["address"] == "home.example.org:1" and event.fields["reason"] == "no route"
    for text in (event.fields["fix"], caplog.text):
        assert "home.example.org:1" in text
