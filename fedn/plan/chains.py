"""Chains of codecs from their names: made, and checked as a whole before a session starts.

Not here: what codecs do (fedn.models.codecs).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from fedn.models.codecs.base import Check, Codec, Difference, Inverse, Selection
from fedn.models.codecs.chain import ORDER, Chain, order_faults
from fedn.plan.options import CODECS, load_option, option_names
from fedn.plan.session import SessionPlan
from fedn.protocol.errors import FednError, InvalidInput, InvalidSettings
from fedn.protocol.tasks import CodecChoice

UPDATE_CHAIN = "update_chain"
MODEL_CHAIN = "model_chain"


def make_chain(choices: Sequence[CodecChoice]) -> Chain:
    """The chain of these codecs.

    Raises:
        InvalidInput: as `load_option`; (`bad_codec_option`, `unknown_option`) an option is wrong; (`bad_chain`).
    """
    return _made(json.dumps([[choice.name, choice.options] for choice in choices], sort_keys=True))


def known_codecs() -> list[str]:
    """Names of the codecs that can be used here, sorted."""
    usable = []
    for name in option_names(CODECS):
        try:
            load_option(CODECS, name)
        except InvalidInput:
            continue
        usable.append(name)
    return usable


def sparse_codecs() -> frozenset[str]:
    """Names of the codecs that leave most values out."""
    usable = known_codecs()
    return frozenset(name for name in usable if issubclass(load_option(CODECS, name), Selection))


def check_chains(plan: SessionPlan, needs: Iterable[Check] = ()) -> SessionPlan:
    """The plan with all options of its codecs filled in, so that every site reads the same chains.

    Args:
        needs: what the plan's rule looks at in single updates.

    Raises:
        InvalidSettings: with every fault of both chains, each naming its field.
    """
    faults: list[FednError] = []
    updates = _codecs(UPDATE_CHAIN, plan.update_chain, faults)
    models = _codecs(MODEL_CHAIN, plan.model_chain, faults)
    faults += _chain_faults(UPDATE_CHAIN, updates, needs)
    faults += _chain_faults(MODEL_CHAIN, models, ())
    faults += _update_faults(updates)
    faults += _model_faults(plan.model_chain, models)
    if faults:
        raise InvalidSettings(faults, what="The plan")
    # A sender of models keeps nothing of what it left out: the next model is another one, and clients come and go.
    models = [_without_feedback(codec) for codec in models]
    return plan.model_copy(update={UPDATE_CHAIN: _choices(updates), MODEL_CHAIN: _choices(models)})


@lru_cache(maxsize=64)
def _made(text: str) -> Chain:
    """Codecs have no state; to find one costs more than a small update."""
    return Chain([_make(name, options) for name, options in json.loads(text)])


def _make(name: str, options: Mapping[str, Any]) -> Codec:
    return cast(type[Codec], load_option(CODECS, name))(**options)


def _codecs(field: str, choices: Sequence[CodecChoice], faults: list[FednError]) -> list[Codec]:
    """The codecs that can be made; why others cannot goes to `faults`."""
    made = []
    for position, choice in enumerate(choices):
        try:
            made.append(_make(choice.name, choice.options))
        except InvalidInput as error:
            where = {**error.where, "field": f"{field}.{position}"}
            faults.append(InvalidInput(error.code, error.message, fix=error.fix, where=where))
    return made


def _chain_faults(field: str, codecs: Sequence[Codec], needs: Iterable[Check]) -> list[FednError]:
    """What holds for every chain: the order, how steps are undone, and what must stay visible."""
    faults: list[FednError] = [_fault(field, fault, ORDER) for fault in order_faults(codecs)]
    for outer in range(len(codecs)):
        # One that hides nothing, as a difference does, may just as well be undone for each update.
        inside = [codec.name for codec in codecs[:outer] if codec.inverse is Inverse.PER_UPDATE]
        if codecs[outer].inverse is Inverse.ON_SUM and codecs[outer].hides and inside:
            faults.append(
                _fault(
                    field,
                    f"{codecs[outer].name} is undone on the sum of all updates alone, and {', '.join(inside)} within "
                    "it for each update, which is then no longer to be had",
                    f"Put {codecs[outer].name} before what is undone for each update, or leave it out.",
                )
            )
    # What is undone before the fold hides nothing from it.
    hiding = [codec for codec in codecs if codec.inverse is not Inverse.PER_UPDATE]
    wanted = {Check.FINITE, *needs}
    for codec in hiding:
        if hidden := sorted(codec.hides & wanted):
            faults.append(
                _fault(
                    field,
                    f"{codec.name} hides from the server what it must look at in each update: {', '.join(hidden)}",
                    "Choose a rule that does not look at single updates, or leave the codec out.",
                )
            )
    return faults


def _update_faults(codecs: Sequence[Codec]) -> list[FednError]:
    selecting = [codec.name for codec in codecs if isinstance(codec, Selection)]
    if selecting and not any(isinstance(codec, Difference) for codec in codecs):
        return [
            _fault(
                UPDATE_CHAIN,
                f"{selecting[0]} without delta would set the weights that it leaves out to 0",
                "Let the chain begin with delta.",
            )
        ]
    return []


def _model_faults(choices: Sequence[CodecChoice], codecs: Sequence[Codec]) -> list[FednError]:
    faults: list[FednError] = []
    for codec in codecs:
        if isinstance(codec, Difference):
            why = "clients that were away, or came later, do not have the model that it would be a difference to"
            faults.append(_fault(MODEL_CHAIN, f"{codec.name} cannot be used for models: {why}", _MODELS))
        elif isinstance(codec, Selection):
            why = "the weights that it leaves out would be 0"
            faults.append(_fault(MODEL_CHAIN, f"{codec.name} cannot be used for models: {why}", _MODELS))
    for position, choice in enumerate(choices):
        if choice.options.get("error_feedback"):
            faults.append(
                _fault(
                    f"{MODEL_CHAIN}.{position}",
                    f"{choice.name} cannot have error feedback here: each model is sent once, to clients that change",
                    "Leave error_feedback out.",
                )
            )
    return faults


_MODELS = "Models go through one of float16, bfloat16 and int8, and through zstd."


def _without_feedback(codec: Codec) -> Codec:
    return type(codec)(**{**codec.options, "error_feedback": False}) if codec.error_feedback else codec


def _choices(codecs: Sequence[Codec]) -> tuple[CodecChoice, ...]:
    return tuple(CodecChoice(name=codec.name, options=codec.options) for codec in codecs)


def _fault(field: str, message: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_chain", message, fix=fix, where={"field": field})
