"""Client streams: who may attach under which name, and how a stream ends."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fedn.models.digest import digest
from fedn.network.access import RPC_ACCESS, Gate
from fedn.network.generated import client_pb2, common_pb2
from fedn.network.tls import grpc_channel_credentials
from fedn.network.tokens import LEEWAY_S, Role
from fedn.protocol.errors import Conflict, InvalidInput
from tests.support.wire import (
    PATIENCE_S,
    Scene,
    Trust,
    WireClient,
    WireReducer,
    make_combiner,
    model,
    round_spec,
    scenario,
)

BASE = model(0.0)
OBJECTS = {digest(BASE): BASE}
DENIALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


async def code_of_answer(call: Any) -> grpc.StatusCode:
    """OK where a message comes back, else the code with which the call ended."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            await call.write(b"")
            await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@scenario()
async def test_a_call_without_a_valid_token_of_the_right_role_is_denied(scene: Scene) -> None:
    """Every RPC of the access table, with every role, without a token, and with one of another federation."""
    tokens: dict[str, str | None] = {role.value: scene.trust.token("x", role) for role in Role}
    tokens |= {
        "link": scene.trust.link_token(),
        "relay": scene.trust.issuer.issue_relay("x", scene.combiner.options.name, 600, "sha256:x"),
        "relay to another": scene.trust.issuer.issue_relay("x", "another", 600, "sha256:x"),
        "none": None,
        "garbage": "x.y.z",
        "expired": scene.trust.token("x", ttl_s=-LEEWAY_S - 10),
    }
    channel = grpc.aio.secure_channel(scene.address, scene.credentials or grpc.local_channel_credentials())
    async with channel:
        for method, access in RPC_ACCESS.items():
            for who, token in tokens.items():
                metadata = () if token is None else (("authorization", f"Bearer {token}"),)
                call = channel.stream_stream(method)(metadata=metadata)
                code = await code_of_answer(call)
                call.cancel()
                if code is grpc.StatusCode.UNIMPLEMENTED:
                    assert method.startswith("/grpc.reflection.v1."), method  # the newer name, not served
                    continue
                assert code in DENIALS | {grpc.StatusCode.OK}, (method, who)
                public = access is Gate.PUBLIC and who not in {"garbage", "expired", "relay to another"}
                by_role = not isinstance(access, Gate) and who in {role.value for role in access}
                by_scope = (access, who) in {(Gate.REDUCER, "link"), (Gate.RELAYING, "relay")}
                allowed = public or by_role or by_scope
                assert (code is grpc.StatusCode.OK) is allowed, (method, who)


@scenario()
async def test_a_denied_caller_is_heard_first_so_that_its_own_write_does_not_hide_the_reason(scene: Scene) -> None:
    async with grpc.aio.secure_channel(scene.address, grpc_channel_credentials(scene.trust.ca)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        call = channel.stream_stream("/fedn.v1.ClientService/Attach")()
        await call.wait_for_connection()
        for _ in range(3):  # on the same connection: an answer to the call above would come before these
            await health.Check(health_pb2.HealthCheckRequest())
        assert not call.done()
        assert await code_of_answer(call) is grpc.StatusCode.UNAUTHENTICATED


@scenario()
async def test_denied_callers_that_say_nothing_are_not_waited_for_without_end(scene: Scene) -> None:
    async with grpc.aio.secure_channel(scene.address, grpc_channel_credentials(scene.trust.ca)) as channel:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fedn.combiner.auth.HELLO_TIMEOUT_S", 0.2)
            calls = [channel.stream_stream("/fedn.v1.ClientService/Attach")() for _ in range(40)]
            async with asyncio.timeout(PATIENCE_S):
                codes = {await call.code() for call in calls}
        assert codes == {grpc.StatusCode.UNAUTHENTICATED}


@scenario()
async def test_a_method_that_is_not_in_the_table_is_denied(scene: Scene) -> None:
    async with grpc.aio.secure_channel(scene.address, grpc_channel_credentials(scene.trust.ca)) as channel:
        metadata = (("authorization", f"Bearer {scene.trust.token('admin', Role.ADMIN)}"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/fedn.v1.CombinerService/SetServerFunctions")(b"", metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        trailing = dict(caught.value.trailing_metadata() or ())
        assert trailing["fedn-code"] == "not_in_access_table"


@scenario()
async def test_health_is_public_and_reflection_is_for_the_admin(scene: Scene) -> None:
    async with grpc.aio.secure_channel(scene.address, grpc_channel_credentials(scene.trust.ca)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "fedn.v1.ClientService", "fedn.v1.CombinerService"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        metadata = (("authorization", f"Bearer {scene.trust.token('admin', Role.ADMIN)}"),)
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(metadata=metadata)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        assert {"fedn.v1.ClientService", "fedn.v1.CombinerService"} <= listed
        await call.done_writing()


@scenario()
async def test_a_client_may_attach_only_under_the_name_in_its_token(scene: Scene) -> None:
    async with scene.client("mallory", token=scene.trust.token("alice")) as client:
        bye = await client.hello()
        assert bye.problem.code == "name_not_yours"
        assert await client.wait_ended() is grpc.StatusCode.OK


@scenario()
async def test_a_name_attached_with_another_key_is_taken(scene: Scene) -> None:
    async with scene.client("a") as first, scene.client("a", token=scene.trust.token("a", key_id="sha256:b")) as other:
        await first.hello()
        bye = await other.hello()
        assert bye.problem.code == "name_taken" and bye.problem.fix
        await first.ping()


@scenario()
async def test_a_new_stream_of_the_same_key_replaces_the_old_one(scene: Scene) -> None:
    async with scene.client("a") as first, scene.client("a") as second:
        await first.hello()
        assert isinstance(await second.hello(), client_pb2.Welcome)
        assert (await first.expect("bye")).problem.code == "replaced"
        await first.wait_ended()
        await second.ping()
        assert scene.combiner.attached_clients == 1


@scenario(max_clients=1)
async def test_a_full_combiner_says_so_and_when_to_try_again(scene: Scene) -> None:
    async with scene.client("a") as a, scene.client("b") as b:
        await a.hello()
        bye = await b.hello()
        assert (bye.problem.code, bye.problem.retryable) == ("combiner_full", True)
        assert bye.retry_after_s > 0
        async with scene.client("a") as again:  # its own place is its own
            assert isinstance(await again.hello(), client_pb2.Welcome)


@scenario()
async def test_a_stream_ends_with_its_token_unless_it_is_renewed(scene: Scene) -> None:
    nearly_over = 2.0 - LEEWAY_S
    async with (
        scene.client("a", token=scene.trust.token("a", ttl_s=nearly_over)) as renewed,
        scene.client("b", token=scene.trust.token("b", ttl_s=nearly_over)) as forgotten,
    ):
        await renewed.hello()
        await forgotten.hello()
        token = client_pb2.TokenRenewal(token=scene.trust.token("a"))
        await renewed.write(client_pb2.ClientFrame(token=token))
        assert (await forgotten.expect("bye")).problem.code == "token_expired"
        await forgotten.wait_ended()
        await renewed.ping()


@scenario()
async def test_a_renewal_with_another_sites_token_ends_the_stream(scene: Scene) -> None:
    async with scene.client("a") as a:
        await a.hello()
        await a.write(client_pb2.ClientFrame(token=client_pb2.TokenRenewal(token=scene.trust.token("b"))))
        assert (await a.expect("bye")).problem.code == "token_of_another"


@scenario()
async def test_a_first_message_that_is_no_hello_ends_the_stream(scene: Scene) -> None:
    for message in (client_pb2.ClientFrame(ping=common_pb2.Ping()).SerializeToString(), b"\xff\xff\xff", b""):
        async with scene.client("a") as client:
            await client.write(message)
            assert (await client.expect("bye")).problem.code == "bad_frame"


@scenario()
async def test_garbage_on_an_open_stream_ends_that_stream_only(scene: Scene) -> None:
    async with scene.client("a") as a, scene.client("b") as b:
        await a.hello()
        await b.hello()
        await a.write(b"\xff\xff\xff")
        assert (await a.expect("bye")).problem.code == "bad_frame"
        await b.ping()


@scenario()
async def test_a_client_that_leaves_is_gone_at_once(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a:
        await reducer.hello()
        await a.hello()
        await reducer.expect("client", where=lambda change: change.attached)
        await a.write(client_pb2.ClientFrame(leave=client_pb2.Leave(reason="shutdown")))
        assert await a.wait_ended() is grpc.StatusCode.OK
        await reducer.expect("client", where=lambda change: not change.attached)
        assert scene.combiner.attached_clients == 0


@scenario()
async def test_objects_come_only_where_they_are_not_held_and_from_where_they_stopped(scene: Scene) -> None:
    package = b"a compute package" * 1000
    objects = OBJECTS | {digest(package): package}
    async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b, scene.client("c") as c:
        await reducer.hello()
        await a.hello(held_objects=[digest(BASE)])
        await b.hello(partial=[common_pb2.ObjectFetch(object_id=digest(package), offset=5000)])
        await c.hello()
        spec = round_spec(BASE, ["a", "b", "c"], package_id=digest(package))
        status = await reducer.start(spec, objects)
        assert sorted(status.needed_objects) == sorted(objects)
        for client in (a, b, c):
            task = await client.accept()
            assert task.package_id == digest(package)
        assert a.object_offsets == [(digest(package), 0)]
        assert sorted(b.object_offsets) == sorted([(digest(package), 5000), (digest(BASE), 0)])
        assert bytes(b.objects[digest(package)])[5000:] == package[5000:]
        assert {key: bytes(data) for key, data in c.objects.items()} == objects


@scenario()
async def test_a_client_may_fetch_what_its_open_task_names_and_nothing_else(scene: Scene) -> None:
    async with scene.reducer() as reducer, scene.client("a") as a, scene.client("b") as b:
        await reducer.hello()
        await a.hello()
        await b.hello()
        await reducer.start(round_spec(BASE, ["a"]), OBJECTS)
        task = await a.accept()
        fetch = client_pb2.ClientFrame(fetch=common_pb2.ObjectFetch(object_id=digest(BASE), offset=100))
        a.objects.clear()
        await a.write(fetch)
        await a.expect("object", where=lambda begin: begin.offset == 100)
        await b.write(fetch)
        assert (await b.expect("missing")).object_id == digest(BASE)
        await a.answer(task, model(1.0))
        a.inbox.clear()
        await a.write(fetch)
        await a.expect("missing")


def test_mutual_tls_wants_the_certificate_of_the_tokens_bearer(trust: Trust, tmp_path: object) -> None:
    async def run() -> None:
        async with make_combiner(trust, tmp_path, mutual_tls=True) as combiner:  # type: ignore[arg-type]
            scene = Scene(trust, combiner)
            own, others = trust.tls("a", Role.CLIENT), trust.tls("b", Role.CLIENT)
            token = trust.token("a", key_id=trust.key_id(own))
            with_own = grpc_channel_credentials(trust.ca, own.key, own.certificate)
            async with WireClient("a", scene.address, token, with_own) as client:
                assert isinstance(await client.hello(), client_pb2.Welcome)
            with_others = grpc_channel_credentials(trust.ca, others.key, others.certificate)
            async with WireClient("a", scene.address, token, with_others) as client:
                await client.write(client_pb2.ClientFrame(hello=client_pb2.Hello(client="a")))
                assert await client.wait_ended() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.aio.AioRpcError):
                async with WireClient("a", scene.address, token, scene.credentials) as client:
                    await client.hello()
            reducer_files = trust.tls("reducer", Role.COMBINER)
            credentials = grpc_channel_credentials(trust.ca, reducer_files.key, reducer_files.certificate)
            async with WireReducer(scene.address, trust.link_token(), credentials) as reducer:
                assert (await reducer.hello()).combiner == "c1"

    asyncio.run(run())


@scenario(tls=False)
async def test_without_tls_a_loopback_combiner_serves_plain_text(scene: Scene) -> None:
    async with scene.client("a") as client:
        assert isinstance(await client.hello(), client_pb2.Welcome)


def test_without_tls_any_other_address_is_refused(trust: Trust, tmp_path: object) -> None:
    async def run() -> None:
        with pytest.raises(InvalidInput, match="plain_text_not_local"):
            make_combiner(trust, tmp_path, tls=False, bind="0.0.0.0")  # type: ignore[arg-type]

    asyncio.run(run())


@scenario()
async def test_a_taken_port_is_one_clear_error(scene: Scene) -> None:
    folder = scene.combiner.options.data_dir / "second"
    second = make_combiner(scene.trust, folder, port=scene.combiner.port)
    with pytest.raises(Conflict, match="port_taken"):
        await second.start()


@scenario()
async def test_a_stopping_combiner_says_goodbye(scene: Scene) -> None:
    async with scene.client("a") as a, scene.reducer() as reducer:
        await a.hello()
        await reducer.hello()
        await reducer.start(round_spec(BASE, ["a"]), OBJECTS)
        task = await a.accept()
        await a.announce(task, model(1.0))
        await a.expect("grant")
        await scene.combiner.stop()
        assert (await a.expect("bye")).problem.code == "combiner_stopping"
        assert (await reducer.expect("problem")).code == "combiner_stopping"


@scenario()
async def test_with_500_attached_streams_health_answers_within_a_second(scene: Scene) -> None:
    async with (
        scene.reducer() as reducer,
        grpc.aio.secure_channel(scene.address, grpc_channel_credentials(scene.trust.ca)) as shared,
    ):
        await reducer.hello()
        calls = []
        for number in range(500):
            name = f"k{number}"
            metadata = (("authorization", f"Bearer {scene.trust.token(name)}"),)
            call = shared.stream_stream("/fedn.v1.ClientService/Attach")(metadata=metadata)
            await call.write(client_pb2.ClientFrame(hello=client_pb2.Hello(client=name)).SerializeToString())
            calls.append(call)
        for call in calls:
            welcome = client_pb2.CombinerFrame.FromString(await call.read())  # type: ignore[arg-type]
            assert welcome.HasField("welcome")
        assert scene.combiner.attached_clients == 500
        health = health_pb2_grpc.HealthStub(shared)
        loop = asyncio.get_running_loop()

        async def once() -> float:
            started = loop.time()
            await health.Check(health_pb2.HealthCheckRequest())
            await reducer.ping()
            return loop.time() - started

        # The best of some: this machine has other things to do, too.
        assert min([await once() for _ in range(5)]) < 1.0
        for call in calls:
            call.cancel()
