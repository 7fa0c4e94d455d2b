"""The table of MetisFL's configuration: what each key of its files becomes here, or what to do instead of it.

Both generations of files: [B], v0.0.1-beta (sections such as CommunicationProtocol), and [R], of the later Python
classes (sections such as ControllerConfig). docs/reference/metisfl.md is made from this table.
Not here: how a whole file is read (fedn.driver.metisfl).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedn.driver.metisfl_values import Draft, boolean, choice, minutes, number, put, text, whole

Take = Callable[[Draft, Any], None]
"""Puts a value into the draft; ValueError says what is wrong with it."""


@dataclass(frozen=True)
class Key:
    """One key. Without `take` it is refused, and `here` says what to do instead."""

    path: str
    """Sections and name, in CamelCase; `Learners[]` stands for each learner."""
    generation: str
    here: str
    take: Take | None = None


RULES = {"FedAvg": "fedavg", "FedRec": "fedrec", "FedStride": "fedstride"}
SCHEDULERS = {"Synchronous": "synchronous", "SemiSynchronous": "semi_synchronous", "Asynchronous": "asynchronous"}
SCALING = {name: name for name in ("NumTrainingExamples", "NumCompletedBatches", "NumParticipants")}
STORES = {"InMemory": "memory", "Redis": "redis"}
EVICTIONS = {"NoEviction": "NoEviction", "LineageLengthEviction": "LineageLength"}
_SECAGG = (
    "for encrypted aggregation one data owner makes a key (fedn keys create), each site starts with --encryption-key, "
    "and the plan says rule: {name: secagg, options: {key_id: …}}: sizes and scale follow from these"
)
_JOIN = "nothing is started over SSH: each site starts its own program with a join string (fedn token create)"
_TLS = "every connection has TLS by the federation's own authority, which the reducer makes and join strings name"
_CLIENT_PORT = "leave it out: a client opens no port, it calls the combiner"
_OPTIMIZER = "the optimizer is made in the site's own code, as TorchLearner(…, optimizer)"


def _rule(draft: Draft, value: Any) -> None:
    if value in {"SecAgg", "PWA"}:
        raise ValueError(_SECAGG)
    draft.rule = choice(RULES)(value)


def _hostname(draft: Draft, value: Any) -> None:
    if text(value) not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError(f"{value} is another machine; {_JOIN}")


def _participation(draft: Draft, value: Any) -> None:
    ratio = number(value)
    if not 0 < ratio <= 1:
        raise ValueError("it must be above 0, and 1 at the most")
    draft.participation = ratio


def _lineage(draft: Draft, value: Any) -> None:
    draft.lineage_length = whole(value, least=0)


def _optimizer(draft: Draft, value: Any) -> None:
    if value != "FedProx":
        raise ValueError(f"{_OPTIMIZER}; FedProx is the parameter proximal_mu")
    draft.fedprox = True


def _validation(draft: Draft, value: Any) -> None:
    if number(value) != 0:
        raise ValueError("the site's code holds examples out; see held_out in docs/how-to/split-data.md")


def _devices(draft: Draft, value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise ValueError("a list of numbers of devices is needed")
    draft.devices.append([whole(device, least=0) for device in value])


def _keys(generation: str, section: str, *found: tuple[str, str, Take | None]) -> tuple[Key, ...]:
    return tuple(Key(f"{section}.{name}", generation, here, take) for name, here, take in found)


_RULE_KEYS: tuple[tuple[str, str, Take | None], ...] = (
    ("AggregationRule", "`plan.rule`: FedAvg, FedRec, FedStride; for SecAgg: " + _SECAGG, _rule),
    ("ScalingFactor", "`plan.scaling_factor`, the same names", put("scaling_factor", choice(SCALING))),
    ("StrideLength", "`plan.rule.options.stride_length`, of FedStride", put("stride_length", whole)),
    ("ParticipationRatio", "`plan.selection`: fraction, and it acts", _participation),
)
_SCHEDULER_KEYS: tuple[tuple[str, str, Take | None], ...] = (
    ("SemiSyncLambda", "`plan.scheduler.options.lambda`; need not be whole", put("semi_sync_lambda", number)),
)
_STORE = "`local.updates`, of the combiners"
_STORE_KEYS: tuple[tuple[str, str, Take | None], ...] = (
    ("ModelStore", f"{_STORE}: kind memory or redis", put("store", choice(STORES))),
    ("ModelStoreHostname", f"{_STORE}: url", put("store_host", text)),
    ("ModelStorePort", f"{_STORE}: url", put("store_port", whole)),
    ("LineageLength", f"{_STORE}: lineage_length; 0 is no eviction", _lineage),
)
_TERMINATION_KEYS: tuple[tuple[str, str, Take | None], ...] = (
    ("FederationRounds", "`plan.rounds`; exactly so many", put("rounds", whole)),
    ("ExecutionCutoffTimeMins", "`plan.stop_after_s`; minutes become seconds", put("stop_after_s", minutes)),
    ("EvaluationMetric", "`plan.stop_at.metric`", put("metric", text)),
    (
        "EvaluationMetricCutoffScore",
        "`plan.stop_at.cutoff`; a metric whose name has loss, error, mse or mae in it is to be at most that",
        put("cutoff", number),
    ),
)
_TLS_KEYS = tuple((name, _TLS, None) for name in ("RootCertificate", "ServerCertificate", "PrivateKey"))
_SSL_KEYS = tuple((name, _TLS, None) for name in ("PublicCertificate", "PrivateKey"))
_SSH_KEYS: tuple[tuple[str, str, Take | None], ...] = (
    ("Hostname", f"localhost only; {_JOIN}", _hostname),
    *(
        (name, f"leave it out: {_JOIN}", None)
        for name in ("Port", "Username", "Password", "KeyFilename", "Passphrase", "OnLoginCommand")
    ),
)
_HOME = "`project`, the folder with the code that clients run: it is uploaded, no host needs it before"
_CKKS = tuple((name, _SECAGG, None) for name in ("CryptoContext", "BatchSize", "ScalingFactorBits"))

KEYS: tuple[Key, ...] = (
    *_keys("R", "ControllerConfig", *_RULE_KEYS),
    *_keys("R", "ControllerConfig", ("Scheduler", "`plan.scheduler`", put("scheduler", choice(SCHEDULERS)))),
    *_keys("R", "ControllerConfig", *_SCHEDULER_KEYS),
    *_keys(
        "R",
        "ControllerConfig",
        (
            "SemiSyncRecomputeNumUpdates",
            "`plan.scheduler.options.recompute`",
            put("semi_sync_recompute", boolean),
        ),
        *_CKKS,
    ),
    *_keys("R, B", "ModelStoreConfig", *_STORE_KEYS),
    *_keys("B", "ModelStoreConfig", ("EvictionPolicy", f"{_STORE}: eviction", put("eviction", choice(EVICTIONS)))),
    *_keys("R, B", "TerminationSignals", *_TERMINATION_KEYS),
    *_keys(
        "R", "EncryptionConfig", *_CKKS, *((name, _SECAGG, None) for name in ("HeScheme", "PublicKey", "PrivateKey"))
    ),
    *_keys("B", "EncryptionScheme", *((name, _SECAGG, None) for name in ("Name", "BatchSize", "ScalingFactorBits"))),
    *_keys("B", "CommunicationProtocol", ("Name", "`plan.scheduler`", put("scheduler", choice(SCHEDULERS)))),
    *_keys("B", "CommunicationProtocol", *_SCHEDULER_KEYS),
    *_keys(
        "B",
        "CommunicationProtocol",
        ("SemiSyncRecompute", "`plan.scheduler.options.recompute`", put("semi_sync_recompute", boolean)),
    ),
    *_keys("B", "GlobalModelConfig", *_RULE_KEYS),
    *_keys(
        "B",
        "GlobalModelConfig",
        ("PariticipationRatio", "as ParticipationRatio: their parser's spelling", _participation),
    ),
    *_keys(
        "B",
        "LocalModelConfig",
        ("BatchSize", "`plan.parameters.batch_size`", put("batch_size", whole)),
        ("LocalEpochs", "`plan.parameters.epochs`", put("epochs", whole)),
        ("ValidationPercentage", "0 only: the site's code holds examples out", _validation),
        ("Optimizer", f"FedProx: the parameter proximal_mu. Others: {_OPTIMIZER}", _optimizer),
        ("OptimizerParams.LearningRate", "`plan.parameters.learning_rate`", put("learning_rate", number)),
        ("OptimizerParams.ProximalTerm", "`plan.parameters.proximal_mu`, of FedProx", put("proximal_mu", number)),
        *((f"OptimizerParams.{name}", _OPTIMIZER, None) for name in ("MomentumFactor", "L1Reg", "L2Reg")),
    ),
    *_keys("R", "Controller", ("Hostname", f"localhost only; {_JOIN}", _hostname)),
    *_keys("R", "Controller", ("Port", "`local.port`, of the reducer", put("port", whole)), *_TLS_KEYS),
    *_keys("B", "Controller", ("ProjectHome", _HOME, None)),
    *_keys("B", "Controller.ConnectionConfig", *_SSH_KEYS),
    *_keys("B", "Controller.GRPCServer", ("Hostname", f"localhost only; {_JOIN}", _hostname)),
    *_keys("B", "Controller.GRPCServer", ("Port", "`local.port`, of the reducer", put("port", whole))),
    *_keys("B", "Controller.SSLConfig", *_SSL_KEYS),
    *_keys("R", "Learners[]", ("Hostname", f"localhost: one of `local.clients`; {_JOIN}", _hostname)),
    *_keys("R", "Learners[]", ("Port", _CLIENT_PORT, None), *_TLS_KEYS),
    *_keys("B", "Learners[]", ("ProjectHome", _HOME, None)),
    *_keys("B", "Learners[]", ("CudaDevices", "`local.cuda_devices`", _devices)),
    *_keys("B", "Learners[].ConnectionConfig", *_SSH_KEYS),
    *_keys("B", "Learners[].GRPCServer", ("Hostname", f"localhost: one of `local.clients`; {_JOIN}", _hostname)),
    *_keys("B", "Learners[].GRPCServer", ("Port", _CLIENT_PORT, None)),
    *_keys("B", "Learners[].SSLConfig", *_SSL_KEYS),
)


def canonical(path: str) -> str:
    """How a key is looked up: CamelCase and snake_case are the same."""
    return path.replace("_", "").lower()


BY_PATH = {canonical(key.path): key for key in KEYS}
