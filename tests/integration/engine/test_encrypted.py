"""Encrypted updates over two real combiners: the sum is FedAvg's, and hostile ciphertexts cost their senders alone."""

import asyncio
import json

import numpy as np
import pytest

from fedn.models.encrypted import WEIGHT, Parameters, is_encrypted
from fedn.models.wire import decode, encode, read_spec
from fedn.protocol.errors import InvalidInput
from fedn.protocol.tasks import Encryption
from tests.support.encrypted import cipher_of, coefficients_of, key_of, low_bits, with_coefficients
from tests.support.stage import ledger_of, stage


def rule(**options):
    return {"name": "secagg", "options": {"key_id": key_of().key_id, **options}}


def plain(model):
    return decode(cipher_of().decrypt(model)) if is_encrypted(read_spec(model)) else decode(model)


def trained(step, examples, cipher_name="shared"):
    """What a client with a key answers: each weight and `step`, times its examples."""

    def update(task, model):
        said = Encryption.model_validate(json.loads(task.encryption_json))
        cipher = cipher_of(cipher_name)
        tensors = {name: array + np.asarray(step, array.dtype) for name, array in plain(model).items()}
        parameters = Parameters(cipher.key_id, said.degree, said.scale_bits)
        return bytes(cipher.encrypt(tensors, parameters, weight=float(examples), max_value=said.max_value))

    return update


def global_model(scene):
    head = scene.tier1.trail.head()
    return plain(b"".join(scene.tier1.models.read(head.model_id)))


SITES = {"a": (1.0, 10, "c1"), "b": (4.0, 30, "c2"), "c": (-2.0, 60, "c2")}


async def sites(scene):
    await scene.combiner("c1")
    await scene.combiner("c2")
    for name, (step, examples, combiner) in SITES.items():
        await scene.site(name, combiner, examples=examples, update_of=trained(step, examples))
    await scene.attached(3)


@pytest.mark.parametrize("factor", ["NumTrainingExamples", "NumParticipants"])
def test_two_rounds_over_two_combiners_are_fedavg_to_a_millionth(tmp_path, factor):
    async def scenario():
        async with stage(tmp_path) as scene:
            await sites(scene)
            if factor == "NumParticipants":
                for name, (step, _, _) in SITES.items():
                    scene.sites[name].update_of = trained(step, 1)
            view = await scene.run(
                rounds=2,
                clients_required=3,
                validate=False,
                rule=rule(),
                scaling_factor=factor,
                keep_combiner_models=True,
            )
            assert view.state == "finished", view.error
            steps = np.array([step for step, _, _ in SITES.values()])
            weights = [examples if factor == "NumTrainingExamples" else 1 for _, examples, _ in SITES.values()]
            found = global_model(scene)
            np.testing.assert_allclose(found["w"], 2 * np.average(steps, weights=weights), atol=1e-6)
            head = scene.tier1.trail.head()
            assert sum(model.weight for model in head.combiner_models) == sum(weights)
            # Each combiner's model is kept as a ciphertext too.
            for model in head.combiner_models:
                data = b"".join(scene.tier1.models.read(model.model_id))
                assert is_encrypted(read_spec(data)) and decode(data)[WEIGHT] == model.weight

    asyncio.run(scenario())


def broken(change):
    def update(task, model):
        return change(trained(1.0, 10)(task, model))

    return update


def with_tensors(data, **tensors):
    return bytes(encode(decode(data) | tensors, read_spec(data).metadata))


HOSTILE = {
    "another-key": (trained(1.0, 10, "another"), "update_does_not_fit"),
    "plain": (lambda task, model: bytes(encode(plain(model))), "update_does_not_fit"),
    "truncated": (broken(lambda data: data[:-100]), "bad_model"),
    "random": (broken(lambda data: np.random.default_rng(0).bytes(len(data))), "bad_model"),
    "coefficients": (
        broken(lambda data: with_coefficients(data, ~np.zeros_like(coefficients_of(data)))),
        "bad_ciphertext",
    ),
    "weight": (broken(lambda data: with_tensors(data, **{WEIGHT: np.array([99.0])})), "bad_ciphertext"),
    "planes": (
        broken(lambda data: with_tensors(data, **{low_bits(data): np.zeros(3, np.uint32)})),
        "update_does_not_fit",
    ),
    "count": (
        broken(lambda data: with_coefficients(data, np.tile(coefficients_of(data), (9, 1, 1)))),
        "update_does_not_fit",
    ),
}


def test_hostile_updates_are_refused_by_name_and_the_round_goes_on(tmp_path):
    async def scenario():
        async with stage(tmp_path, plain=True) as scene:
            await scene.combiner("c1")
            await scene.site("honest", "c1", examples=30, update_of=trained(2.0, 30))
            for name, (update, _) in HOSTILE.items():
                await scene.site(name, "c1", examples=10, update_of=update)
            await scene.attached(1 + len(HOSTILE))
            view = await scene.run(rounds=2, clients_required=1, validate=False, rule=rule())
            assert view.state == "finished", view.error
            np.testing.assert_allclose(global_model(scene)["w"], 4.0, atol=1e-6)
            expected = {name: ("refused", code) for name, (_, code) in HOSTILE.items()}
            for index in range(2):
                assert ledger_of(scene.tier1, view.id, index) == {**expected, "honest": ("updated", "")}

    asyncio.run(scenario())


def test_a_plan_that_does_not_fit_the_model_is_refused_before_it_starts(tmp_path):
    async def scenario():
        async with stage(tmp_path) as scene:
            await sites(scene)
            view = await scene.run(rounds=1, clients_required=3, validate=False, rule=rule())
            assert view.state == "finished", view.error
            for other, code in (
                ("fedavg", "model_is_encrypted"),
                ({"name": "norm_clipping", "options": {"max_norm": 1.0}}, "model_is_encrypted"),
                ({"name": "median", "options": {"scope": "global"}}, "model_is_encrypted"),
                ({"name": "secagg", "options": {"key_id": key_of("another").key_id}}, "model_of_other_key"),
            ):
                with pytest.raises(InvalidInput) as error:
                    await scene.run(rounds=1, rule=other)
                assert error.value.code == code
            # The model before it is a plain one: the session may start from there.
            seed = scene.tier1.trail.entries(0, 1)[0].model_id
            again = await scene.run(
                rounds=1, clients_required=3, validate=False, rule=rule(max_clients=9), model_id=seed
            )
            assert again.state == "finished", again.error

    asyncio.run(scenario())


def test_seeds_that_only_look_encrypted_are_refused(tmp_path):
    async def scenario():
        async with stage(tmp_path, seeded=False) as scene:
            good = bytes(cipher_of().encrypt({"w": np.zeros(3)}, cipher_of().alone))
            bad = bytes(good).replace(b"4096", b"4097", 1)
            with pytest.raises(InvalidInput):
                scene.tier1.catalog.add_seed(bad)
            entry = scene.tier1.catalog.add_seed(good)
            assert scene.tier1.catalog.model_spec(entry.model_id).metadata == read_spec(good).metadata

    asyncio.run(scenario())
