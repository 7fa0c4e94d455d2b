"""A plan as a whole: everything that it names is there, knows the options that it is given, and fits the rest.

What is checked here is checked before a session starts, and by `fedn plan check`; every fault is told at once. Options
are found by name through entry points and asked for what concerns the plan, never imported.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fedn.plan.chains import check_chains, sparse_codecs
from fedn.plan.encrypted import encrypted_faults
from fedn.plan.options import OPTIMIZERS, RULES, SCALING_FACTORS, SCHEDULERS, SELECTORS, load_option
from fedn.plan.session import Choice, SessionPlan
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings


def check_plan(plan: SessionPlan) -> SessionPlan:
    """The plan with all options of its codecs filled in.

    Raises:
        InvalidSettings: with every fault, each naming its field.
    """
    faults: list[FednError] = []
    rule = _made(RULES, "rule", plan.rule, faults)
    _made(SCALING_FACTORS, "scaling_factor", plan.scaling_factor, faults)
    scheduler = _made(SCHEDULERS, "scheduler", plan.scheduler, faults)
    if plan.server_optimizer is not None:
        _made(OPTIMIZERS, "server_optimizer", plan.server_optimizer, faults)
    if plan.combiner_optimizer is not None:
        _made(OPTIMIZERS, "combiner_optimizer", plan.combiner_optimizer, faults)
    selector = _made(SELECTORS, "selection", plan.selection, faults)
    try:
        plan = check_chains(plan, getattr(rule, "needs", ()))
    except InvalidSettings as error:
        faults += error.problems
    if rule is not None:
        faults += _rule_faults(rule, plan)
        if rule.encrypts:
            faults += encrypted_faults(rule, scheduler, plan)
    if scheduler is not None:
        faults += scheduler.faults(plan, rule)
    if plan.stop_at is not None and not plan.validate_models:
        faults.append(
            _fault(
                "stop_at",
                "a metric of validations is to end the session, and models are not validated",
                "Set validate: true, or leave stop_at out.",
            )
        )
    most = getattr(selector, "most", None)
    if most is not None and most < plan.clients_required:
        faults.append(
            _fault(
                "selection",
                f"the selection takes {most} clients at the most, and {plan.clients_required} updates are required",
                "Lower clients_required, or let the selection take more clients.",
            )
        )
    if faults:
        raise InvalidSettings(faults, what="The plan")
    return plan


def _rule_faults(rule: Any, plan: SessionPlan) -> Iterator[FednError]:
    """What of the plan the rule makes nothing of."""
    if plan.reducer_mean == "plain" and rule.weighted_only:
        yield _fault(
            "reducer_mean",
            f"the rule {rule.name} is one over all clients, and a plain mean counts combiners",
            "Leave reducer_mean at weighted.",
        )
    if rule.lineage and plan.sum_dtype != "float64":
        yield _fault(
            "sum_dtype",
            f"the rule {rule.name} takes updates out of its sums again, and {plan.sum_dtype} is too coarse for that",
            "Leave sum_dtype at float64.",
        )
    if getattr(rule, "scope", "combiner") == "global":
        yield from _global_faults(rule, plan)
    if plan.combiner_optimizer is not None and not rule.encrypts:
        yield from _combiner_optimizer_faults(rule, plan)
    if rule.extras:
        yield from _extra_faults(rule, plan)
    if not rule.is_numeric:
        yield from _structure_faults(rule, plan)
    if not rule.takes_sparse and any(choice.name in sparse_codecs() for choice in plan.update_chain):
        yield _fault(
            "update_chain",
            f"the rule {rule.name} compares updates value by value, and most of theirs would be left out",
            "Leave topk out of update_chain.",
        )


def _extra_faults(rule: Any, plan: SessionPlan) -> Iterator[FednError]:
    """Of a rule that carries extra state."""
    beside = f"the rule {rule.name} carries {', '.join(extra.name for extra in rule.extras)} beside the model"
    why = "what a codec changed of it would add up over the rounds, and nothing would make up for it"
    for field in ("update_chain", "model_chain"):
        if getattr(plan, field):
            yield _fault(field, f"{beside}: {why}", f"Leave {field} out, or choose a rule without extra state.")
    if plan.keep_combiner_models:
        yield _fault(
            "keep_combiner_models",
            f"{beside}, and combiners return both as one object",
            "Leave keep_combiner_models out.",
        )


def _combiner_optimizer_faults(rule: Any, plan: SessionPlan) -> Iterator[FednError]:
    field = "combiner_optimizer"
    if rule.weighted_only or rule.lineage:
        yield _fault(
            field,
            f"the rule {rule.name} is one over all clients, and what a combiner has of theirs alone is no step's end",
            "Use server_optimizer instead, or choose a rule whose combiner models are means of their own.",
        )
    if plan.keep_combiner_models:
        yield _fault(
            "keep_combiner_models",
            "combiners return their model and the state of their optimizer as one object",
            "Leave keep_combiner_models out, or use server_optimizer instead of combiner_optimizer.",
        )


def _structure_faults(rule: Any, plan: SessionPlan) -> Iterator[FednError]:
    """Of a rule whose models are no numbers to calculate with."""
    what = f"models of the rule {rule.name} are no numbers to calculate with"
    for field in ("server_optimizer", "combiner_optimizer"):
        if getattr(plan, field) is not None:
            yield _fault(field, f"{what}: there is nothing to step along", f"Leave {field} out.")
    for field in ("update_chain", "model_chain"):
        if any(choice.name != "zstd" for choice in getattr(plan, field)):
            yield _fault(field, f"{what}: they stay as they are", f"Let {field} be zstd alone, or leave it out.")


def _global_faults(rule: Any, plan: SessionPlan) -> Iterator[FednError]:
    """Of a rule over the updates of all clients, which combiners forward."""
    if plan.keep_combiner_models:
        yield _fault(
            "keep_combiner_models",
            f"with the rule {rule.name} of scope global there are no combiner models, only the updates of clients",
            "Leave keep_combiner_models out, or choose the scope combiner.",
        )
    if plan.clients_required < rule.min_updates:
        yield _fault(
            "clients_required",
            f"the rule {rule.name} needs {rule.min_updates} updates, and {plan.clients_required} may close a round",
            f"Set clients_required to {rule.min_updates} at least.",
        )
    if not rule.weighs and plan.scaling_factor != Choice(name="NumTrainingExamples"):
        yield _fault(
            "scaling_factor",
            f"the rule {rule.name} of scope global counts every update the same",
            "Leave scaling_factor out.",
        )


def _made(group: str, field: str, choice: Choice, faults: list[FednError]) -> Any:
    """The option, made; None where it cannot be, and why goes to `faults`."""
    try:
        return load_option(group, choice.name)(**choice.options)
    except InvalidSettings as error:
        faults += [_in_field(field, one) if isinstance(one, InvalidInput) else one for one in error.problems]
    except InvalidInput as error:
        faults.append(_in_field(field, error))
    return None


def _in_field(field: str, error: InvalidInput) -> InvalidInput:
    # An option knows of itself only what kind of choice it is: two fields of a plan may choose among the same.
    rest = str(error.where.get("field", "")).partition(".")[2]
    where: Mapping[str, object] = {**error.where, "field": f"{field}.{rest}" if rest else field}
    return InvalidInput(error.code, error.message, fix=error.fix, where=where)


def _fault(field: str, message: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_plan", message, fix=fix, where={"field": field})
