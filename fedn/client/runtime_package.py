"""Runs tasks with a compute package: each by the package's command for it, else by the package's Learner.

Commands get files: `train IN OUT`, `validate IN OUT.json`, `predict IN OUT`, `build OUT`, and once `startup`.
FEDN_TASK_FILE names a JSON file with the task and its hyper-parameters; FEDN_RESULT_FILE a JSON file that `train` may
write (FEDn's `OUT-metadata` is read too): num_examples, which is required, what else of TrainResult is known, metrics.
What a rule carries beside the model is in files that the task names (fedn.client.step_extras).
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedn.client.calls import ProgressSink, TaskCall, TaskOutcome
from fedn.client.coding import FreshMemory, TaskCoding, request_of
from fedn.client.command import Limits
from fedn.client.isolation.places import Place
from fedn.client.runtime_learner import LearnerRuntime
from fedn.client.seeds import task_seed
from fedn.client.slots import HeldFile
from fedn.client.step_extras import ExtraFiles, check_known, extra_files, provide_extras, take_extras, told_of
from fedn.client.step_files import provide_model, read_metrics, read_training, take_model
from fedn.client.usage import children_ms
from fedn.plan.package import EntryPointName, PackageManifest
from fedn.protocol.errors import TaskFailed
from fedn.protocol.tasks import TaskKind

_STEPS: Mapping[TaskKind, EntryPointName] = {
    TaskKind.INIT: "build",
    TaskKind.TRAIN: "train",
    TaskKind.VALIDATE: "validate",
    TaskKind.PREDICT: "predict",
}


class _OnlyRead(FreshMemory):
    """For models that are only read: the command's own copy is the file that it is given."""

    def copy(self, file: HeldFile) -> memoryview:
        return file.mapped()


class PackageRuntime:
    """See the module, and `fedn.client.calls.Runtime`.

    Args:
        manifest: of the package.
        folder: where its manifest lies; the working directory of its commands.
        root: the package's outermost folder; FEDn's `build` puts its seed there.
        scratch: where each task gets a folder of its own while it runs.
        learner: the package's Learner, not started; None where it has none.
        place: where the commands run.
        client, data_path, work_dir: what commands are told.
        limits: of each command; a task's own time limit counts too.
    """

    def __init__(
        self,
        manifest: PackageManifest,
        folder: Path,
        *,
        root: Path,
        scratch: Path,
        learner: LearnerRuntime | None,
        place: Place,
        client: str,
        data_path: Path | None,
        work_dir: Path,
        limits: Limits,
    ) -> None:
        self._manifest = manifest
        self._folder = folder
        self._root = root
        self._scratch = scratch
        self._learner = learner
        self._place = place
        self._client = client
        self._data_path = data_path
        self._work_dir = work_dir
        self._limits = limits
        self._command: asyncio.Task[None] | None = None
        self._running: str | None = None
        self._cancelled = False
        self._started = False

    @property
    def kinds(self) -> frozenset[TaskKind]:
        own = frozenset(kind for kind in TaskKind if self._argv(kind) is not None)
        return own if self._learner is None else own | self._learner.kinds

    async def start(self) -> None:
        if self._started:
            return
        if self._scratch.exists():
            shutil.rmtree(self._scratch)  # of a process that was killed
        startup = self._manifest.command("startup")
        if startup is not None:
            await self._run("startup", startup, {}, self._limits, None)
        if self._learner is not None:
            await self._learner.start()
        self._started = True

    async def run(self, call: TaskCall, progress: ProgressSink) -> TaskOutcome:
        call = replace(call, parameters=self._manifest.parameters | call.parameters)
        argv = self._argv(call.kind)
        if argv is None:
            if self._learner is None or call.kind not in self._learner.kinds:
                raise TaskFailed(
                    "step_missing",
                    f"the compute package can do no {call.kind} task",
                    fix="Give it such an entry point, or a learner, in fedn.yaml.",
                )
            return await self._learner.run(call, progress)
        check_known(call, self._manifest.extras)
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._running, self._cancelled = call.task_id, False
        try:
            with tempfile.TemporaryDirectory(prefix="task-", dir=self._scratch) as name:
                self._place.hand_over(Path(name))
                used_ms = children_ms()
                outcome = await self._do(call, argv, Path(name))
                return replace(outcome, cpu_ms=children_ms() - used_ms)
        finally:
            self._running = None

    async def cancel(self, task_id: str) -> None:
        if self._learner is not None:
            await self._learner.cancel(task_id)
        if self._running == task_id:
            self._cancelled = True
            if self._command is not None:
                self._command.cancel()

    async def close(self) -> None:
        if self._command is not None:
            self._command.cancel()
        if self._learner is not None:
            await self._learner.close()

    def _argv(self, kind: TaskKind) -> list[str] | None:
        return self._manifest.command(_STEPS[kind])

    async def _do(self, call: TaskCall, argv: list[str], folder: Path) -> TaskOutcome:
        suffix = f".{self._manifest.format}"
        extras = extra_files(call, folder, suffix)
        environment = self._describe(call, folder, extras)
        given = folder / f"in{suffix}"
        made = folder / f"out{suffix}"
        limits = replace(self._limits, timeout_s=call.timeout_s or self._limits.timeout_s)
        coding = TaskCoding(request_of(call), call.model, _OnlyRead())
        spec = await asyncio.to_thread(provide_model, coding, given)
        await asyncio.to_thread(provide_extras, extras, coding)
        if call.kind is TaskKind.VALIDATE:
            started = time.perf_counter()
            metrics, num_examples = await self._validate(argv, given, environment, limits)
            return TaskOutcome(metrics=metrics, num_examples=num_examples, validate_ms=_ms_since(started))
        outcome = TaskOutcome()
        if call.kind is TaskKind.TRAIN and call.validate_incoming:
            validate = self._manifest.command("validate")
            if validate is not None:
                started = time.perf_counter()
                metrics, count = await self._validate(validate, given, environment, limits)
                outcome = replace(
                    outcome, validation=metrics, num_validation_examples=count, validate_ms=_ms_since(started)
                )
        paths = [made] if call.model is None else [given, made]
        started = time.perf_counter()
        await self._run(call.kind, [*argv, *map(str, paths)], environment, limits, folder)
        if call.kind is TaskKind.TRAIN:
            train_ms = _ms_since(started)
            outcome = replace(outcome, **read_training(Path(environment["FEDN_RESULT_FILE"]), made), train_ms=train_ms)
        elif call.kind is TaskKind.INIT and not made.exists():
            made = self._seed_elsewhere(made)
        changes = await asyncio.to_thread(take_extras, extras, coding)
        return await asyncio.to_thread(take_model, made, call, coding, spec, outcome, changes)

    async def _validate(
        self, argv: list[str], given: Path, environment: Mapping[str, str], limits: Limits
    ) -> tuple[dict[str, float], int]:
        made = given.with_name("metrics.json")
        await self._run("validate", [*argv, str(given), str(made)], environment, limits, made.parent)
        return read_metrics(made)

    async def _run(
        self, what: str, argv: list[str], extra: Mapping[str, str], limits: Limits, task_folder: Path | None
    ) -> None:
        if self._cancelled:
            raise _cancelled()
        self._command = asyncio.create_task(
            self._place.run_command(
                what,
                argv,
                folder=self._folder,
                environment=self._common() | dict(extra),
                limits=limits,
                task_folder=task_folder,
            )
        )
        try:
            await self._command
        except asyncio.CancelledError:
            if self._cancelled:
                raise _cancelled() from None
            self._command.cancel()
            await asyncio.wait({self._command})
            raise
        finally:
            self._command = None

    def _common(self) -> dict[str, str]:
        values = {"FEDN_CLIENT": self._client, "FEDN_WORK_DIR": str(self._work_dir)}
        return values if self._data_path is None else values | {"FEDN_DATA_PATH": str(self._data_path)}

    def _describe(self, call: TaskCall, folder: Path, extras: Sequence[ExtraFiles]) -> dict[str, str]:
        plan_seed = call.parameters.get("seed", 0)
        task: dict[str, Any] = {
            "task_id": call.task_id,
            "kind": call.kind,
            "session": call.session,
            "round": call.round,
            "client": call.client,
            "parameters": call.parameters,
            "step_budget": call.step_budget,
            "seed": task_seed(plan_seed if isinstance(plan_seed, int) else 0, call.client, call.round),
            "helper": call.helper or self._manifest.helper or "",
            "extras": told_of(extras),
            "last_counted": call.last_counted,
        }
        path = folder / "task.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        return {"FEDN_TASK_FILE": str(path), "FEDN_RESULT_FILE": str(folder / "result.json")}

    def _seed_elsewhere(self, made: Path) -> Path:
        """FEDn's packages write their seed beside or above the code, whatever they are told."""
        for folder in (self._folder, self._root, self._folder.parent):
            found = folder / "seed.npz"
            if found.is_file() and found.resolve().is_relative_to(self._root):
                return found
        return made


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def _cancelled() -> TaskFailed:
    return TaskFailed("task_cancelled", "the task was cancelled")
