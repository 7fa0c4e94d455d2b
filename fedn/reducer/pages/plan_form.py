"""The form that starts a session: its fields with their help, what was typed as a plan, faults beside their fields."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedn.plan.options import (
    HELPERS,
    OPTIMIZERS,
    RULES,
    SCALING_FACTORS,
    SCHEDULERS,
    SELECTORS,
    list_options,
)
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings
from fedn.protocol.rest import PackageView, SessionStart

Kind = Literal["text", "number", "decimal", "choice", "json", "check"]


@dataclass(frozen=True)
class Field:
    """One field. What is left empty has the plan's default."""

    name: str
    label: str
    help: str
    kind: Kind = "text"
    default: str = ""
    """Shown where it is empty."""
    least: int = 0
    across: bool = False


@dataclass(frozen=True)
class Group:
    title: str
    fields: tuple[Field, ...]
    open: bool = False


def _default(name: str) -> str:
    found = next(
        field.get_default(call_default_factory=True)
        for key, field in SessionPlan.model_fields.items()
        if name in {key, field.alias}
    )
    if found is None:
        return ""
    return f"{found:g}" if isinstance(found, float) else str(getattr(found, "name", found))


def _number(name: str, label: str, text: str, *, least: int = 0, decimal: bool = False) -> Field:
    return Field(name, label, text, "decimal" if decimal else "number", _default(name), least)


FIELDS: tuple[Group, ...] = (
    Group(
        "What to train",
        (
            Field("name", "Name", "For people; letters, digits, spaces. Left empty, the session is named by its id."),
            _number("rounds", "Rounds", "Global models to make, one after the other.", least=1),
            _number(
                "clients_required",
                "Clients required",
                "Updates without which a round does not count. Fewer than all, and one slow site stops nobody.",
                least=1,
            ),
            Field(
                "clients_requested",
                "Clients requested",
                "Clients asked in a round at the most. Left empty: every attached one.",
                "number",
                "all",
                1,
            ),
            _number(
                "round_timeout_s",
                "Round timeout, seconds",
                "Then a round closes with the updates that are in.",
                least=1,
                decimal=True,
            ),
            _number(
                "stop_after_s",
                "Time limit, seconds",
                "Then the training ends, however many rounds are done. Left empty: no limit.",
                least=1,
                decimal=True,
            ),
            Field(
                "stop_at",
                "Good enough",
                'A JSON object, for example {"metric": "accuracy", "cutoff": 0.9}; with "mode": "min" for a loss.',
                "json",
            ),
            Field("validate", "Clients validate each global model", "Their metrics are what Metrics shows.", "check"),
            Field(
                "seed_from_client",
                "Let a client make the first model",
                "Only where the federation has none yet.",
                "check",
            ),
            Field(
                "parameters",
                "Parameters for the clients' code",
                'A JSON object, for example {"epochs": 1, "learning_rate": 0.1}.',
                "json",
                "{}",
                across=True,
            ),
        ),
        open=True,
    ),
    Group(
        "How to aggregate",
        (
            Field("rule", "Aggregation rule", "How updates become one model.", "choice", _default("rule")),
            Field("scaling_factor", "Weight of an update", "What it counts by.", "choice", _default("scaling_factor")),
            Field("server_optimizer", "Server optimizer", "What is made of the mean.", "choice"),
            Field("combiner_optimizer", "Combiner optimizer", "What each combiner makes of its own mean.", "choice"),
            Field("scheduler", "Scheduler", "When a round closes.", "choice", _default("scheduler")),
            Field("selection", "Selection", "Who of the attached clients is asked.", "choice", _default("selection")),
            Field("helper", "Helper", "Turns the framework's model into tensors and back.", "choice"),
            Field("package_id", "Compute package", "The code that clients run.", "choice"),
        ),
    ),
    Group(
        "Patience",
        (
            _number(
                "wait_for_clients_s",
                "Wait for clients, seconds",
                "So long a round waits until as many as required are attached; then the session fails.",
                decimal=True,
            ),
            _number(
                "disconnect_grace_s",
                "Wait for lost clients, seconds",
                "So long a round waits for a client that lost its connection.",
                decimal=True,
            ),
            _number(
                "upload_grace_s",
                "Grace for uploads, seconds",
                "An upload that makes progress at the deadline gets so much more.",
                decimal=True,
            ),
            _number("max_attempts", "Attempts", "Times that one round is tried before the session fails.", least=1),
        ),
    ),
    Group(
        "Everything else",
        (
            _number("seed", "Seed", "Of every random choice; clients get it too."),
            Field("deterministic", "Repeat to the bit", "Fixed orders; every client asked must answer.", "check"),
            Field(
                "more",
                "More of the plan",
                'A JSON object with any other field of a plan, for example {"update_chain": ["zstd"]}, or the '
                'options of a choice above: {"rule": {"name": "…", "options": {…}}}. See `fedn plan fields`.',
                "json",
                "{}",
                across=True,
            ),
        ),
    ),
)

_GROUPS = {
    "rule": RULES,
    "scaling_factor": SCALING_FACTORS,
    "server_optimizer": OPTIMIZERS,
    "combiner_optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
    "selection": SELECTORS,
    "helper": HELPERS,
}
_BY_NAME = {field.name: field for group in FIELDS for field in group.fields}


def choices(packages: Sequence[PackageView]) -> dict[str, list[tuple[str, str]]]:
    """Of each field with choices: (value, how it reads), the default first."""
    found = {
        name: [(option, _reads(option, about)) for option, about in list_options(group).items()]
        for name, group in _GROUPS.items()
    }
    found["server_optimizer"].insert(0, ("", "None: the mean is the global model"))
    found["combiner_optimizer"].insert(0, ("", "None: the mean is the combiner model"))
    found["helper"].insert(0, ("", "As the compute package says, else numpy"))
    active = next((package for package in packages if package.active), None)
    first = f"The active one: {_package(active)}" if active else "None: clients bring their own Learner"
    found["package_id"] = [("", first)]
    found["package_id"] += [(view.package_id, _package(view)) for view in packages if not view.active]
    return found


def _reads(name: str, about: str) -> str:
    return f"{name}: {about.rstrip('.')}" if about and len(about) < 70 else name


def _package(view: PackageView) -> str:
    return f"{view.name or 'package'} {view.package_id.rpartition(':')[2][:12]}"


def plan_from_form(typed: Mapping[str, str]) -> SessionStart:
    """What the form asks for.

    Raises:
        InvalidSettings: a field of JSON that is none, each with its name.
    """
    plan: dict[str, Any] = {}
    faults: list[FednError] = []
    for name, field in _BY_NAME.items():
        text = typed.get(name, "").strip()
        match field.kind:
            case "check":
                if text:
                    plan[name] = text == "true"
            case "json":
                value = _json_object(name, text, faults) if text else {}
                if name == "more":
                    plan |= value
                elif value:
                    plan[name] = value
            case _ if text and name != "name":
                plan[name] = text
            case _:
                pass
    # FEDn's own form has these.
    if old := typed.get("round_timeout", "").strip() or typed.get("timeout", "").strip():
        plan.setdefault("round_timeout_s", old)
    if task := typed.get("task", "").strip():
        plan["parameters"] = {**plan.get("parameters", {}), "task": task}
    if faults:
        raise InvalidSettings(faults, what="the form")
    return SessionStart(name=typed.get("name", "").strip() or None, plan=plan)


def _json_object(name: str, text: str, faults: list[FednError]) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        faults.append(
            InvalidInput(
                "bad_json",
                f"this is no JSON object: {error}",
                fix='Write {"name": value, …}, or leave it empty.',
                where={"field": name},
            )
        )
        return {}
    return value


def faults_by_field(error: FednError | None) -> tuple[dict[str, str], list[tuple[str, FednError]]]:
    """(field to what is wrong with it, every fault with the field that it stands beside, which may be none)."""
    if error is None:
        return {}, []
    faults = error.problems if isinstance(error, InvalidSettings) else [error]
    placed = [(_place(fault), fault) for fault in faults]
    by_field: dict[str, str] = {}
    for field, fault in placed:
        if field:
            by_field[field] = f"{by_field[field]}; {fault.message}" if field in by_field else fault.message
    return by_field, placed if by_field or isinstance(error, InvalidSettings) else []


def _place(fault: FednError) -> str:
    """The field of the form beside which a fault is shown; empty for the form as a whole."""
    path = fault.where.get("field", "")
    field = path.partition(".")[0]
    if field in _BY_NAME:
        return field
    if fault.code == "bad_name" and "session" in fault.where:
        return "name"
    if path.startswith("(whole)") and "clients_requested" in fault.message:
        return "clients_requested"
    if fault.code in {"unknown_option", "broken_option", "ambiguous_option"}:
        return next((name for name in _GROUPS if name.rpartition("_")[2] in fault.message), "")
    return "more" if field and field != "(whole)" else ""
