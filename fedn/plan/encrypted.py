"""What of a plan would have to read updates or models that its rule has encrypted. Each is refused with its reason."""

from collections.abc import Iterator
from typing import Any

from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, InvalidInput


def encrypted_faults(rule: Any, scheduler: Any, plan: SessionPlan) -> Iterator[FednError]:
    """The faults of a plan whose rule encrypts.

    Args:
        rule: with `encrypts` and `max_clients`.
        scheduler: of the plan; None where it could not be made.
    """
    if plan.update_chain:
        yield _fault("update_chain", "codecs of updates are undone by servers, which cannot read the encrypted ones")
    if plan.model_chain:
        yield _fault("model_chain", "codecs of models are applied by servers, which cannot read the encrypted ones")
    if plan.server_optimizer is not None:
        yield _fault("server_optimizer", "a server optimizer computes with the mean, which no server can read")
    if plan.combiner_optimizer is not None:
        yield _fault("combiner_optimizer", "an optimizer of combiners computes with means, which no server can read")
    if plan.sum_dtype != "float64":
        yield _fault("sum_dtype", "encrypted updates are summed as integers, not in floating point")
    if plan.deterministic:
        yield _fault("deterministic", "encryption is random, and so no two runs are equal to the bit")
    if scheduler is not None and scheduler.carries_over:
        yield _fault("scheduler", "weights of staleness would be multiplied into updates that no server can read")
    for field in ("clients_required", "clients_requested"):
        count = getattr(plan, field)
        if count is not None and count > rule.max_clients:
            yield InvalidInput(
                "bad_plan",
                f"the sum of encrypted updates has room for {rule.max_clients} clients, and {count} may take part",
                fix="Raise max_clients in the options of the rule, or lower this.",
                where={"field": field},
            )


def _fault(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        "not_on_ciphertext",
        message,
        fix=f"Leave {field} out, or choose another rule than one that encrypts.",
        where={"field": field},
    )
