"""The statistics of an experiment: the session's own, with every client of every round, and who took part.

All times are those of `fedn.protocol.rest.statistics`, in milliseconds.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fedn.api.client import APIClient
from fedn.models.files import read_tensors
from fedn.protocol.errors import FednError
from fedn.protocol.rest import ClientView, SessionStatistics, as_json
from fedn.protocol.tasks import Frozen

SCHEMA_VERSION = 1
"""Of the document; grows where a field changes its meaning."""


class TensorStatistics(Frozen):
    """One tensor of a global model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    zeros: int
    non_zeros: int


class ModelStatistics(Frozen):
    """One global model, by its tensors."""

    model_id: str
    round: int
    """That made it, from 0."""
    tensors: tuple[TensorStatistics, ...]


class ExperimentStatistics(Frozen):
    """What `Driver.run` returns and writes."""

    schema_version: int = SCHEMA_VERSION
    federation: str
    session: SessionStatistics
    """Its rounds have their clients."""
    plan: dict[str, Any]
    """With every default that acted."""
    participants: tuple[ClientView, ...]
    """Every client that the federation knew at the end."""
    model_id: str
    """The last global model."""
    model_tensors: tuple[ModelStatistics, ...] = ()
    """Of each global model, where the experiment asks for it."""

    @property
    def state(self) -> str:
        """finished, failed or stopped."""
        return self.session.state


def collect(api: APIClient, session: str, *, tensors: bool = False) -> ExperimentStatistics:
    """Everything of a session that has ended."""
    view = api.session(session)
    found = api.statistics(session)
    rounds = tuple(api.round_statistics(session, each.index) for each in found.rounds)
    models = {each.index: each.model_id for each in rounds if each.kind == "train" and each.model_id}
    return ExperimentStatistics(
        federation=api.status().federation,
        session=found.model_copy(update={"rounds": rounds}),
        plan=view.plan,
        participants=tuple(api.clients()),
        model_id=view.model_id,
        model_tensors=tuple(_of_model(api, models[index], index) for index in sorted(models)) if tensors else (),
    )


def write_statistics(found: ExperimentStatistics, file: Path) -> None:
    """Writes the document, whole or not at all. FednError (`cannot_write_file`)."""
    text = json.dumps(as_json(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FednError(
            "cannot_write_file",
            f"the statistics cannot be written: {error.strerror}",
            fix="Name another file as `statistics`, or make room.",
            where={"file": file},
        ) from error


def _of_model(api: APIClient, model_id: str, index: int) -> ModelStatistics:
    with tempfile.TemporaryDirectory(prefix="fedn-driver-") as folder:
        file = Path(folder) / "model.safetensors"
        api.download_model(model_id, file)
        tensors = read_tensors(file)
    return ModelStatistics(
        model_id=model_id,
        round=index,
        tensors=tuple(
            TensorStatistics(
                name=name,
                dtype=str(array.dtype),
                shape=array.shape,
                size_bytes=array.nbytes,
                zeros=array.size - (filled := int(np.count_nonzero(array))),
                non_zeros=filled,
            )
            for name, array in tensors.items()
        ),
    )
