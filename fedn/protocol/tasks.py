"""Tasks, and what clients say of their work."""

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of everything that is said: immutable, and unknown fields are an error.

    Its JSON text says "NaN", "Infinity" and "-Infinity" where JSON has no number for it (see `fedn.protocol.rest`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TaskKind(StrEnum):
    INIT = "init"
    TRAIN = "train"
    VALIDATE = "validate"
    PREDICT = "predict"


class RoundName(Frozen):
    """The name of one attempt at one round. `epoch` is the writer epoch of the reducer that started it."""

    session: str
    index: int = Field(ge=0)
    attempt: int = Field(ge=0)
    epoch: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.session}/{self.index}.{self.attempt}@{self.epoch}"


class CodecChoice(Frozen):
    """A codec by its name (`fedn plan options`), with its options."""

    name: str = Field(min_length=1, max_length=64)
    options: dict[str, Any] = Field(default_factory=dict)


CodecChain = Annotated[tuple[CodecChoice, ...], Field(max_length=8)]


class Encryption(Frozen):
    """How clients encrypt their updates, so that servers can add them and cannot read them (CKKS)."""

    key_id: str = Field(min_length=1, max_length=80)
    """Of the key that the data owners share."""
    degree: int = Field(gt=0)
    """Of the polynomials (fedn.models.encrypted.RINGS)."""
    scale_bits: int = Field(ge=1, le=60)
    max_value: float = Field(gt=0)
    """A model with larger values is not encrypted: their sum could overflow."""
    min_weight: float = Field(gt=0)
    max_weight: float = Field(gt=0)
    """An update of less or more weight is not encrypted."""
    scaling_factor: str = "NumTrainingExamples"
    scaling_options: dict[str, Any] = Field(default_factory=dict)
    """What an update weighs: the client multiplies by it."""


"""What happens to tensors on their way, in the order in which the sender applies it; empty: nothing."""


class Section(Frozen):
    """Bytes of one name behind others in an object: safetensors of their own."""

    name: str = Field(min_length=1, max_length=64)
    size_bytes: int = Field(gt=0, lt=1 << 63)


Sections = Annotated[tuple[Section, ...], Field(max_length=8)]
"""What follows a model's bytes in an object, in this order: extra state that a rule carries beside the model."""


class TaskSpec(Frozen):
    """What one client is asked to do in a round."""

    task_id: str
    """The same for each attempt at the same work, so that a client may answer from its spool."""
    client: str
    kind: TaskKind
    model_id: str = ""
    """Digest of the model to work on; empty for `init`."""
    validate_incoming: bool = False
    """A train task that also reports metrics of the model that it starts from."""
    step_budget: int | None = Field(default=None, gt=0)
    """Optimizer steps to make, more or fewer than an epoch; None: as the learner decides."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    package_id: str = ""
    helper: str = ""
    update_chain: CodecChain = ()
    """What the update is asked to go through; a client may also return it as it is."""
    model_chain: CodecChain = ()
    """What the model went through, where `encoded_model_id` is given."""
    encoded_model_id: str = ""
    """Digest of the encoded model, which stands for `model_id`; set by the combiner that encoded it."""
    encryption: Encryption | None = None
    """How the answer's tensors are to be encrypted; None: not at all."""
    input_id: str = ""
    """Digest of the object that brings the model with `extras` behind it; empty: the model comes alone."""
    extras: Sections = ()
    """Extra state that the rule carries; a train task is answered with a section for each."""
    required_metadata: dict[str, str] = Field(default_factory=dict)
    """Fields of a training's metadata that must be above 0, each with who needs it; set by the combiner that asks."""
    last_counted: int | None = Field(default=None, ge=0)
    """Index of the session's last round whose model counts an update of this client; None: there is none."""

    @property
    def brings_model(self) -> str:
        """Digest of the object that brings the task's model, but for an encoded one; empty for `init`."""
        return self.input_id or self.model_id


def _all_numbers(metrics: dict[str, float]) -> dict[str, float]:
    for name in metrics:
        if not 1 <= len(name) <= 128:
            raise ValueError(f"metric name {name[:40]!r}… must have 1 to 128 characters")
    if len(metrics) > 1024:
        raise ValueError(f"{len(metrics)} metrics; at most 1024 are allowed")
    return metrics


Metrics = Annotated[dict[str, float], AfterValidator(_all_numbers)]
"""Free names to numbers. A metric may be NaN (a diverged loss is worth seeing); a model may not."""


class UpdateMetadata(Frozen):
    """What a client says of its work. Times in milliseconds, 0 where not measured."""

    task_id: str
    client: str
    round: RoundName
    base_model_id: str = ""
    form: str = Field(default="model", pattern="^(model|delta)$")
    """Whether the tensors are the model itself or its difference to the base model."""
    num_examples: int = Field(default=0, ge=0)
    num_steps: int = Field(default=0, ge=0)
    ms_per_step: float = Field(default=0.0, ge=0)
    ms_per_epoch: float = Field(default=0.0, ge=0)
    task_ms: float = Field(default=0.0, ge=0)
    """Of the whole task at the client, from the search for its model to the digest of its result."""
    train_ms: float = Field(default=0.0, ge=0)
    """Of the task, the site's own training."""
    validate_ms: float = Field(default=0.0, ge=0)
    """Of the task, the site's own validation of the model that came."""
    metrics: Metrics = Field(default_factory=dict)
    validation: Metrics = Field(default_factory=dict)
    """Metrics of the incoming model, for a train task with `validate_incoming`."""
    num_validation_examples: int = Field(default=0, ge=0)
    update_chain: CodecChain = ()
    """What the update went through: what the task asked for, or nothing."""
    decoded_bytes: int = Field(default=0, ge=0)
    """Size of the update before that; 0 where there is none."""
    model_chain: CodecChain = ()
    """What the model went through that the client worked on."""
    model_bytes: int = Field(default=0, ge=0)
    """Size of that model as it came to the client; 0 where there is none."""
    key_id: str = Field(default="", max_length=80)
    """Of the key that the tensors are encrypted with; empty: they are not encrypted."""
    cpu_ms: float = Field(default=0.0, ge=0)
    """Processor time of the step, over all its threads."""
    memory_bytes: int = Field(default=0, ge=0)
    """The most memory that the process of the step has held up to then; 0 where not measured."""
    extras: Sections = ()
    """What follows the update's own tensors in its bytes."""


def weighted_mean(metrics: list[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Mean of each metric over (weight, metrics) pairs that report it, finite, with a weight > 0."""
    totals: dict[str, tuple[float, float]] = {}
    for weight, values in metrics:
        for name, value in values.items():
            if weight > 0 and math.isfinite(value):
                total, weights = totals.get(name, (0.0, 0.0))
                totals[name] = (total + weight * value, weights + weight)
    return {name: total / weights for name, (total, weights) in sorted(totals.items())}


def mean_by_examples(found: Iterable[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Mean of each metric over (examples, metrics) pairs; each counts the same where none says how many it has."""
    pairs = list(found)
    told = any(count for count, _ in pairs)
    return weighted_mean([(count if told else 1, metrics) for count, metrics in pairs])
