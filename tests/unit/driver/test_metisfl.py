"""Every key of MetisFL's configuration acts, or is refused by name with what to do instead."""

from typing import Any

import pytest

from fedn.driver.config import FederationConfig, make_federation
from fedn.driver.metisfl import ALL_ROUNDS
from fedn.driver.metisfl_keys import BY_PATH, KEYS, canonical
from fedn.plan.check import check_plan
from fedn.plan.plan_file import make_plan
from fedn.protocol.errors import InvalidSettings

LISTED = {
    "ControllerConfig": "AggregationRule Scheduler ScalingFactor ParticipationRatio StrideLength CryptoContext "
    "BatchSize ScalingFactorBits SemiSyncLambda SemiSyncRecomputeNumUpdates",
    "ModelStoreConfig": "ModelStore LineageLength ModelStoreHostname ModelStorePort EvictionPolicy",
    "TerminationSignals": "FederationRounds ExecutionCutoffTimeMins EvaluationMetric EvaluationMetricCutoffScore",
    "EncryptionConfig": "HeScheme BatchSize ScalingFactorBits CryptoContext PublicKey PrivateKey",
    "EncryptionScheme": "Name BatchSize ScalingFactorBits",
    "CommunicationProtocol": "Name SemiSyncLambda SemiSyncRecompute",
    "GlobalModelConfig": "AggregationRule ScalingFactor StrideLength ParticipationRatio PariticipationRatio",
    "LocalModelConfig": "BatchSize LocalEpochs ValidationPercentage Optimizer OptimizerParams.LearningRate",
    "Controller": "ProjectHome Hostname Port RootCertificate ServerCertificate PrivateKey",
    "Controller.ConnectionConfig": "Hostname Port Username Password KeyFilename Passphrase OnLoginCommand",
    "Controller.GRPCServer": "Hostname Port",
    "Controller.SSLConfig": "PublicCertificate PrivateKey",
    "Learners[]": "ProjectHome Hostname Port RootCertificate ServerCertificate PrivateKey CudaDevices",
    "Learners[].ConnectionConfig": "Hostname Port Username Password KeyFilename Passphrase OnLoginCommand",
    "Learners[].GRPCServer": "Hostname Port",
    "Learners[].SSLConfig": "PublicCertificate PrivateKey",
}
"""What both generations' parsers read."""

BASE: dict[str, Any] = {"TerminationSignals.FederationRounds": 7}
ACTING: dict[str, tuple[dict[str, Any], str, Any]] = {
    # key: (what is said, field of ours, its value)
    "ControllerConfig.AggregationRule": ({"": "FedRec"}, "plan.rule.name", "fedrec"),
    "ControllerConfig.Scheduler": ({"": "Asynchronous"}, "plan.scheduler.name", "asynchronous"),
    "ControllerConfig.ScalingFactor": ({"": "NumParticipants"}, "plan.scaling_factor.name", "NumParticipants"),
    "ControllerConfig.ParticipationRatio": ({"": 0.3}, "plan.selection.options.fraction", 0.3),
    "ControllerConfig.StrideLength": (
        {"": 3, "ControllerConfig.AggregationRule": "FedStride"},
        "plan.rule.options.stride_length",
        3,
    ),
    "ControllerConfig.SemiSyncLambda": (
        {"": 0.5, "ControllerConfig.Scheduler": "SemiSynchronous"},
        "plan.scheduler.options.lambda",
        0.5,
    ),
    "ControllerConfig.SemiSyncRecomputeNumUpdates": (
        {"": False, "ControllerConfig.Scheduler": "SemiSynchronous"},
        "plan.scheduler.options.recompute",
        False,
    ),
    "ModelStoreConfig.ModelStore": ({"": "InMemory"}, "local.updates.kind", "memory"),
    "ModelStoreConfig.ModelStoreHostname": (
        {"": "store", "ModelStoreConfig.ModelStore": "Redis"},
        "local.updates.url",
        "redis://store:6379/0",
    ),
    "ModelStoreConfig.ModelStorePort": (
        {"": 7000, "ModelStoreConfig.ModelStore": "Redis", "ModelStoreConfig.ModelStoreHostname": "store"},
        "local.updates.url",
        "redis://store:7000/0",
    ),
    "ModelStoreConfig.LineageLength": ({"": 4}, "local.updates.lineage_length", 4),
    "ModelStoreConfig.EvictionPolicy": ({"": "NoEviction"}, "local.updates.eviction", "NoEviction"),
    "TerminationSignals.FederationRounds": ({"": 9}, "plan.rounds", 9),
    "TerminationSignals.ExecutionCutoffTimeMins": ({"": 1.5}, "plan.stop_after_s", 90.0),
    "TerminationSignals.EvaluationMetric": (
        {"": "accuracy", "TerminationSignals.EvaluationMetricCutoffScore": 0.9},
        "plan.stop_at.metric",
        "accuracy",
    ),
    "TerminationSignals.EvaluationMetricCutoffScore": (
        {"": 0.1, "TerminationSignals.EvaluationMetric": "val_mse"},
        "plan.stop_at.mode",
        "min",
    ),
    "CommunicationProtocol.Name": ({"": "SemiSynchronous"}, "plan.scheduler.name", "semi_synchronous"),
    "CommunicationProtocol.SemiSyncLambda": (
        {"": 2, "CommunicationProtocol.Name": "SemiSynchronous"},
        "plan.scheduler.options.lambda",
        2.0,
    ),
    "CommunicationProtocol.SemiSyncRecompute": (
        {"": True, "CommunicationProtocol.Name": "SemiSynchronous"},
        "plan.scheduler.options.recompute",
        True,
    ),
    "GlobalModelConfig.AggregationRule": ({"": "FedAvg"}, "plan.rule.name", "fedavg"),
    "GlobalModelConfig.ScalingFactor": ({"": "NumCompletedBatches"}, "plan.scaling_factor.name", "NumCompletedBatches"),
    "GlobalModelConfig.StrideLength": (
        {"": 2, "GlobalModelConfig.AggregationRule": "FedStride"},
        "plan.rule.options.stride_length",
        2,
    ),
    "GlobalModelConfig.ParticipationRatio": ({"": 1}, "plan.selection.options.fraction", 1.0),
    "GlobalModelConfig.PariticipationRatio": ({"": 0.5}, "plan.selection.options.fraction", 0.5),
    "LocalModelConfig.BatchSize": ({"": 16}, "plan.parameters.batch_size", 16),
    "LocalModelConfig.LocalEpochs": ({"": 4}, "plan.parameters.epochs", 4),
    "LocalModelConfig.ValidationPercentage": ({"": 0}, "plan.rounds", 7),
    "LocalModelConfig.Optimizer": (
        {"": "FedProx", "LocalModelConfig.OptimizerParams.ProximalTerm": 0.01},
        "plan.parameters.proximal_mu",
        0.01,
    ),
    "LocalModelConfig.OptimizerParams.LearningRate": ({"": 0.05}, "plan.parameters.learning_rate", 0.05),
    "LocalModelConfig.OptimizerParams.ProximalTerm": (
        {"": 0.001, "LocalModelConfig.Optimizer": "FedProx"},
        "plan.parameters.proximal_mu",
        0.001,
    ),
    "Controller.Hostname": ({"": "localhost"}, "local.clients", 5),
    "Controller.Port": ({"": 50051}, "local.port", 50051),
    "Controller.ConnectionConfig.Hostname": ({"": "localhost"}, "local.clients", 5),
    "Controller.GRPCServer.Hostname": ({"": "127.0.0.1"}, "local.clients", 5),
    "Controller.GRPCServer.Port": ({"": 50052}, "local.port", 50052),
    "Learners[].Hostname": ({"": "localhost"}, "local.clients", 1),
    "Learners[].ConnectionConfig.Hostname": ({"": "localhost"}, "local.clients", 1),
    "Learners[].GRPCServer.Hostname": ({"": "localhost"}, "local.clients", 1),
    "Learners[].CudaDevices": ({"": [0, 1]}, "local.cuda_devices", ((0, 1),)),
}
REFUSED = sorted(key.path for key in KEYS if key.take is None)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The mapping of a YAML file that says these keys, of one learner."""
    found: dict[str, Any] = {}
    for path, value in flat.items():
        place, (*sections, name) = found, path.split(".")
        for section in sections:
            made: Any = [{}] if section == "Learners[]" else {}
            place = place.setdefault(section.removesuffix("[]"), made)
            place = place[0] if isinstance(place, list) else place
        place[name] = value
    return found


def said(flat: dict[str, Any]) -> FederationConfig:
    return make_federation(nested(flat), source="test")


def faults(flat: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(InvalidSettings) as caught:
        said(flat)
    return {str(fault.where["field"]): fault for fault in caught.value.problems}


def field(config: FederationConfig, path: str) -> Any:
    section, *rest = path.split(".")
    value = config.model_dump()[section]
    if section == "plan":
        value = make_plan(config.plan, source="test").model_dump()
    for name in rest:
        value = value[name]
    return value


def test_the_table_has_every_key_that_their_parsers_read() -> None:
    wanted = {f"{section}.{name}" for section, names in LISTED.items() for name in names.split()}
    more = {"ProximalTerm", "MomentumFactor", "L1Reg", "L2Reg"}
    assert {key.path for key in KEYS} == wanted | {f"LocalModelConfig.OptimizerParams.{name}" for name in more}
    assert len(BY_PATH) == len(KEYS)
    assert {key.path for key in KEYS if key.take is not None} == set(ACTING)


@pytest.mark.parametrize("path", sorted(ACTING))
def test_a_key_acts(path: str) -> None:
    values, place, expected = ACTING[path]
    config = said({**BASE, **{name or path: value for name, value in values.items()}})
    assert field(config, place) == expected
    check_plan(make_plan(config.plan, source="test"))


@pytest.mark.parametrize("path", REFUSED)
def test_a_key_that_would_do_nothing_is_refused_by_name_with_what_to_do_instead(path: str) -> None:
    found = faults({**BASE, path: "something"})
    assert set(found) == {path}
    assert found[path].code == "metisfl_key"
    here = next(key.here for key in KEYS if key.path == path)
    assert found[path].fix.lower() == f"{here}.".lower() and len(here) > 20


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ControllerConfig.AggregationRule", "SecAgg", "fedn keys create"),
        ("ControllerConfig.AggregationRule", "FedSomething", "not one of FedAvg"),
        ("ControllerConfig.Scheduler", ["Synchronous"], "not one of Synchronous"),
        ("ControllerConfig.ParticipationRatio", 0, "above 0"),
        ("Controller.Hostname", "gpu7.example.org", "join string"),
        ("Learners[].GRPCServer.Hostname", "gpu7.example.org", "join string"),
        ("LocalModelConfig.Optimizer", "Adam", "site's own code"),
        ("LocalModelConfig.ValidationPercentage", 0.05, "held_out"),
        ("LocalModelConfig.LocalEpochs", 1.5, "whole number"),
        ("ModelStoreConfig.ModelStore", "Cassandra", "not one of InMemory, Redis"),
        ("TerminationSignals.ExecutionCutoffTimeMins", 0, "above 0"),
        ("Learners[].CudaDevices", "0", "list of numbers"),
        ("ControllerConfig.Sheduler", "Synchronous", "no such key"),
    ],
)
def test_a_value_that_cannot_act_is_told(path: str, value: Any, words: str) -> None:
    found = faults({**BASE, path: value})
    assert words in found[path].message


@pytest.mark.parametrize(
    ("flat", "named"),
    [
        ({"ControllerConfig.SemiSyncLambda": 2}, "SemiSync…"),
        ({"GlobalModelConfig.StrideLength": 2}, "StrideLength"),
        ({"GlobalModelConfig.AggregationRule": "FedStride"}, "StrideLength"),
        ({"ModelStoreConfig.ModelStore": "Redis"}, "ModelStoreHostname"),
        ({"ModelStoreConfig.ModelStorePort": 6379}, "ModelStorePort"),
        ({"ModelStoreConfig.EvictionPolicy": "NoEviction", "ModelStoreConfig.LineageLength": 2}, "LineageLength"),
        ({"ModelStoreConfig.EvictionPolicy": "LineageLengthEviction"}, "LineageLength"),
        ({"TerminationSignals.EvaluationMetric": "accuracy"}, "EvaluationMetricCutoffScore"),
        ({"LocalModelConfig.Optimizer": "FedProx"}, "OptimizerParams.ProximalTerm"),
    ],
)
def test_a_key_that_does_nothing_beside_the_others_is_told(flat: dict[str, Any], named: str) -> None:
    assert set(faults({**BASE, **flat})) == {named}


def test_something_must_end_the_training() -> None:
    assert set(faults({"ControllerConfig.AggregationRule": "FedAvg"})) == {"TerminationSignals"}
    assert said({"TerminationSignals.ExecutionCutoffTimeMins": 5}).plan["rounds"] == ALL_ROUNDS


def test_both_spellings_the_wrapper_and_fields_of_ours_beside_them() -> None:
    content = {
        "FederationEnvironment": {
            "controller_config": {"aggregation_rule": "FedAvg", "scheduler": "Asynchronous", "stride_length": None},
            "termination_signals": {"federation_rounds": 3},
            "learners": [{"hostname": "localhost"}, {"hostname": "localhost"}],
        },
        "project": "my-project",
        "plan": {"seed": 5},
        "local": {"combiners": 1},
    }
    config = make_federation(content, source="test")
    assert config.local is not None and (config.local.clients, config.local.combiners) == (2, 1)
    assert str(config.project) == "my-project"
    # What their driver refused, rounds of an asynchronous federation, is simply so many commits.
    assert (config.plan["rounds"], config.plan["seed"], config.plan["clients_required"]) == (3, 5, 1)


def test_an_asynchronous_federation_of_latest_models_is_a_plan_that_goes() -> None:
    content = {
        "ControllerConfig": {"AggregationRule": "FedRec", "Scheduler": "Asynchronous"},
        "TerminationSignals": {"FederationRounds": 9},
        "Learners": [{"Hostname": "localhost"}, {"Hostname": "localhost"}],
    }
    plan = check_plan(make_plan(make_federation(content, source="test").plan, source="test"))
    assert (plan.rule.name, plan.scheduler.name, plan.rounds) == ("fedrec", "asynchronous", 9)
    assert plan.scheduler.options == {"arrivals": 1, "max_staleness": 1000}


def test_a_running_federation_takes_the_plan_alone() -> None:
    content = nested({**BASE, "Learners[].Hostname": "localhost"}) | {"attach": {"context": "admin.json"}}
    config = make_federation(content, source="test")
    assert config.local is None and config.attach is not None and config.plan["rounds"] == 7


def test_names_are_looked_up_in_either_spelling() -> None:
    assert canonical("ControllerConfig.SemiSyncLambda") == canonical("controller_config.semi_sync_lambda")
