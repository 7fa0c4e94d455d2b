"""The plan of a session: every choice of a training run, validated as a whole before anything starts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fedn.plan.stopping import MetricCutoff
from fedn.protocol.tasks import CodecChain
from fedn.protocol.trail import digest_json


class Choice(BaseModel):
    """An option by its name (`fedn plan options`), with its own options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    options: dict[str, Any] = Field(default_factory=dict)


def _by_name(choice: Any) -> Any:
    """It may be given by its name alone."""
    return {"name": choice} if isinstance(choice, str) else choice


OneChoice = Annotated[Choice, BeforeValidator(_by_name)]


def _named(codecs: Any) -> Any:
    """A codec may be given by its name alone."""
    return [{"name": one} if isinstance(one, str) else one for one in codecs] if isinstance(codecs, list) else codecs


Codecs = Annotated[CodecChain, BeforeValidator(_named)]


class SessionPlan(BaseModel):
    """The validated configuration of a session. Everything in it acts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=5, ge=1, le=1_000_000)
    stop_after_s: float | None = Field(default=None, gt=0, le=366 * 86400)
    """Seconds from the session's start until its training ends, however many rounds are done: a round that runs then is
    given up. None: no limit."""
    stop_at: MetricCutoff | None = None
    """metric, cutoff and mode (max or min): the training ends with the round that finds the model before it good enough
    (mean of its validations by examples). None: all rounds are done."""
    round_timeout_s: float = Field(default=180.0, gt=0, le=30 * 86400)
    """Seconds from dispatch until a round closes with the updates that are in."""
    upload_grace_s: float = Field(default=30.0, ge=0, le=86400)
    """An upload that progresses at the deadline gets so many seconds more."""
    disconnect_grace_s: float = Field(default=30.0, ge=0, le=86400)
    """A client that went away in a round is waited for so many seconds."""
    clients_required: int = Field(default=1, ge=1)
    """The quorum: updates, counted over the whole federation, without which a round is not committed."""
    clients_requested: int | None = Field(default=None, ge=1)
    """Size of the cohort at the most, over the whole federation; None: every attached client."""
    wait_for_clients_s: float = Field(default=300.0, ge=0, le=30 * 86400)
    """Seconds that a round waits for `clients_required` attached clients before the session fails."""
    max_attempts: int = Field(default=5, ge=1, le=1000)
    """Times that one round is tried before the session fails."""
    validate_models: bool = Field(default=True, alias="validate")
    """Every global model is validated by the clients that take part next; the last one in a round of its own."""
    helper: str = Field(default="numpy", min_length=1)
    rule: OneChoice = Choice(name="fedavg")
    """How updates become one model."""
    scaling_factor: OneChoice = Choice(name="NumTrainingExamples")
    """What an update weighs: NumTrainingExamples, NumCompletedBatches, or NumParticipants."""
    server_optimizer: OneChoice | None = None
    """What the reducer makes of the mean: sgd (FedAvgM), adagrad, adam or yogi; none: the mean is the global model."""
    combiner_optimizer: OneChoice | None = None
    """What each combiner makes of the mean of its own clients, with a state of its own: as server_optimizer."""
    scheduler: OneChoice = Choice(name="synchronous")
    """When a round is over, and how many steps each client makes."""
    selection: OneChoice = Choice(name="all")
    """Who of the attached clients takes part in a round."""
    reducer_mean: Literal["weighted", "plain"] = "weighted"
    """How combiner models become one: by their weights (equal to flat FedAvg), or each counting the same."""
    sum_dtype: Literal["float64", "float32"] = "float64"
    update_chain: Codecs = ()
    """Codecs that updates go through, in this order: delta, topk, one of float16, bfloat16 and int8, zstd; or none."""
    model_chain: Codecs = ()
    """Codecs that models go through on their way to clients: one of float16, bfloat16 and int8, zstd; or none."""
    keep_combiner_models: bool = False
    """Store the combiner models too, not only their digests."""
    seed: int = Field(default=0, ge=0)
    """Of every random choice on the servers; also handed to the clients as parameter `seed`."""
    deterministic: bool = False
    """Repeat to the bit: everything in a fixed order, and all selected clients must answer."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters for the clients' code (epochs, batch_size, learning_rate, …)."""
    seed_from_client: bool = False
    """Where the federation has no model yet, one client is asked to make the first."""
    package_id: str | None = None
    """Digest of the compute package; None: the federation's active one, if it has one. Clients that bring a Learner of
    their own ignore it."""
    model_id: str | None = None
    """Model to start from; None: the head of the trail. Another one than the head is a rollback to it."""

    @model_validator(mode="after")
    def _quorum_fits_cohort(self) -> "SessionPlan":
        if self.clients_requested is not None and self.clients_requested < self.clients_required:
            raise ValueError(
                f"clients_requested ({self.clients_requested}) is smaller than clients_required "
                f"({self.clients_required}): no round could reach its quorum"
            )
        return self

    @property
    def digest(self) -> str:
        """`sha256:` digest of the plan, which trail entries name."""
        return digest_json(self.model_dump(mode="json", by_alias=True))
