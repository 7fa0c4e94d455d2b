"""Files of MetisFL as experiments of ours: each key acts, or is refused by name with what to do instead.

Not here: the keys one by one (fedn.driver.metisfl_keys).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fedn.driver.metisfl_keys import BY_PATH, canonical
from fedn.driver.metisfl_values import Draft
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings

WRAPPER: Final = "FederationEnvironment"
ALL_ROUNDS: Final = 1_000_000
"""As many as a plan may ask for: of a file that ends by time or by metric only."""
_LEARNERS: Final = "Learners"
_OURS: Final = frozenset({"name", "project", "local", "attach", "plan", "seed_model", "statistics", "tensors", "model"})
_SMALL_IS_GOOD: Final = ("loss", "error", "mse", "mae")
_NEVER_TOO_OLD: Final = 1000
"""Commits: the most that the scheduler asynchronous takes. Their controller throws no work away."""
_PAGE: Final = "docs/reference/metisfl.md lists every key."


def is_metisfl(content: Mapping[str, Any]) -> bool:
    """Whether a file has a section of MetisFL's."""
    sections = {path.partition(".")[0].removesuffix("[]") for path in BY_PATH} | {canonical(WRAPPER)}
    return any(canonical(name) in sections for name in content)


def from_metisfl(content: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """What the file says, in fields of a FederationConfig. Fields of ours beside its sections stay as they are.

    Raises:
        InvalidSettings: (`metisfl_key`) with every key that is unknown, refused, or has a bad value.
    """
    inner = content.get(WRAPPER, {})
    whole = {**{name: value for name, value in content.items() if name != WRAPPER}, **(inner or {})}
    own = {name: value for name, value in whole.items() if name in _OURS}
    draft, faults = Draft(), list[FednError]()
    for path, value in _leaves({name: value for name, value in whole.items() if name not in own}, draft):
        faults += _take(draft, path, value)
    faults += _contradictions(draft)
    if faults:
        raise InvalidSettings(faults, what=f"The MetisFL file ({source})")
    return _beside(_config(draft), own)


def _leaves(content: Mapping[str, Any], draft: Draft) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is said; counts the learners. A null is not said."""
    for name, value in content.items():
        if canonical(name) == canonical(_LEARNERS) and isinstance(value, list):
            draft.learners = len(value)
            for learner in value:
                given = learner if isinstance(learner, Mapping) else {"": learner}
                yield from ((f"{_LEARNERS}[].{path}", one) for path, one in _flat(given))
        else:
            yield from _flat({name: value})


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{path}", one) for path, one in _flat(value))
        elif value is not None:
            yield str(name), value


def _take(draft: Draft, path: str, value: Any) -> Iterator[FednError]:
    key = BY_PATH.get(canonical(path))
    if key is None:
        yield _fault(path, "MetisFL has no such key", _PAGE)
    elif key.take is None:
        yield _fault(
            path, "this key would do nothing here, and so is refused", f"{key.here[:1].upper()}{key.here[1:]}."
        )
    else:
        try:
            key.take(draft, value)
        except ValueError as error:
            yield _fault(path, str(error), f"It becomes {key.here}. {_PAGE}")


def _contradictions(draft: Draft) -> Iterator[FednError]:
    """Keys that would do nothing beside the others."""
    semi = draft.scheduler == "semi_synchronous"
    if not semi and (draft.semi_sync_lambda is not None or draft.semi_sync_recompute is not None):
        yield _fault("SemiSync…", "it acts only with the scheduler SemiSynchronous", "Leave it out.")
    if (draft.rule == "fedstride") != (draft.stride_length is not None):
        yield _fault("StrideLength", "FedStride needs it, and no other rule uses it", "Give both, or none.")
    if (draft.store == "redis") != (draft.store_host is not None):
        yield _fault("ModelStoreHostname", "the store Redis needs it, and no other uses it", "Give both, or none.")
    if draft.store_port is not None and draft.store != "redis":
        yield _fault("ModelStorePort", "only the store Redis has a port", "Leave it out.")
    if draft.eviction == "NoEviction" and draft.lineage_length:
        yield _fault("LineageLength", "nothing is evicted with NoEviction", "Leave it out.")
    if draft.eviction == "LineageLength" and not draft.lineage_length:
        yield _fault("LineageLength", "LineageLengthEviction needs one above 0", "Give it.")
    if (draft.metric is None) != (draft.cutoff is None):
        yield _fault("EvaluationMetricCutoffScore", "a metric and its score belong together", "Give both, or none.")
    if draft.rounds is None and draft.stop_after_s is None and draft.metric is None:
        yield _fault("TerminationSignals", "nothing ends the training", "Give at least one of the signals.")
    if draft.fedprox != (draft.proximal_mu is not None):
        yield _fault("OptimizerParams.ProximalTerm", "it is FedProx's, which needs it", "Give both, or none.")


def _config(draft: Draft) -> dict[str, Any]:
    local: dict[str, Any] = {}
    if draft.learners:
        local["clients"] = draft.learners
    if draft.port is not None:
        local["port"] = draft.port
    if draft.devices:
        local["cuda_devices"] = draft.devices
    if updates := _updates(draft):
        local["updates"] = updates
    return {"local": local, "plan": _plan(draft)}


def _updates(draft: Draft) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if draft.store is not None:
        found["kind"] = draft.store
    if draft.store_host is not None:
        found["url"] = f"redis://{draft.store_host}:{draft.store_port or 6379}/0"
    if draft.eviction == "NoEviction" or draft.lineage_length == 0:
        found["eviction"] = "NoEviction"
    elif draft.lineage_length:
        found["lineage_length"] = draft.lineage_length
    return found


def _plan(draft: Draft) -> dict[str, Any]:
    plan: dict[str, Any] = {"rounds": draft.rounds or ALL_ROUNDS}
    if draft.stop_after_s is not None:
        plan["stop_after_s"] = draft.stop_after_s
    if draft.metric is not None:
        small = any(word in draft.metric.lower() for word in _SMALL_IS_GOOD)
        plan["stop_at"] = {"metric": draft.metric, "cutoff": draft.cutoff, "mode": "min" if small else "max"}
    if draft.rule is not None:
        options = {} if draft.stride_length is None else {"stride_length": draft.stride_length}
        plan["rule"] = {"name": draft.rule, "options": options}
    if draft.scaling_factor is not None:
        plan["scaling_factor"] = draft.scaling_factor
    if draft.participation is not None:
        plan["selection"] = {"name": "fraction", "options": {"fraction": draft.participation}}
    if draft.scheduler is not None:
        plan["scheduler"] = {"name": draft.scheduler, "options": _scheduler_options(draft)}
    if (required := _required(draft)) is not None:
        plan["clients_required"] = required
    asked = {
        "epochs": draft.epochs,
        "batch_size": draft.batch_size,
        "learning_rate": draft.learning_rate,
        "proximal_mu": draft.proximal_mu,
    }
    if parameters := {name: value for name, value in asked.items() if value is not None}:
        plan["parameters"] = parameters
    return plan


def _required(draft: Draft) -> int | None:
    """The quorum: more than half of those who are asked; the barrier waits for all, and goes on without the lost."""
    if draft.scheduler == "asynchronous":
        return 1
    if draft.participation is None or not draft.learners:
        return None
    return math.ceil(draft.participation * draft.learners) // 2 + 1


def _scheduler_options(draft: Draft) -> dict[str, Any]:
    if draft.scheduler == "asynchronous":
        return {"arrivals": 1, "max_staleness": _NEVER_TOO_OLD}
    options = {"lambda": draft.semi_sync_lambda, "recompute": draft.semi_sync_recompute}
    return {name: value for name, value in options.items() if value is not None}


def _beside(made: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What was made, with fields of ours over it; sections are put together."""
    if "attach" in own:
        made.pop("local")
    merged = dict(made)
    for name, value in own.items():
        old = merged.get(name)
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _fault(path: str, message: str, fix: str) -> InvalidInput:
    return InvalidInput("metisfl_key", message, fix=fix, where={"field": path})
