"""`fedn model`: global models, and the seed that the first one is."""

import tempfile
from pathlib import Path
from typing import Literal

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.model_encryption import decrypt, decrypt_file, encrypt
from fedn.cli.output import Output, metrics, short_id, size, when
from fedn.protocol.errors import NotFound
from fedn.protocol.rest import ModelView


@click.group()
def model() -> None:
    """Global models. MODEL is an id, its first characters, or an index of the trail; left out, the newest."""


@model.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--helper", help="Read FILE as this framework writes it (numpy, pytorch, keras, sklearn), on this machine."
)
@reducer_options
def seed(file: Path, helper: str | None, api: APIClient, out: Output) -> None:
    """Upload the model to start from: safetensors or npz.

    With --helper, a framework's own file is converted here first, so that the reducer needs no framework:

    \b
        fedn model seed model.safetensors
        fedn model seed model.weights.h5 --helper keras

    Pickled files (.pt, .pkl, .joblib) are refused: reading one runs whatever code is in it.
    """
    if helper is None:
        view = api.seed(file)
    else:
        from fedn.models.files import write_tensors  # heavy: only a conversion needs them
        from fedn.models.helpers.registry import get_helper

        tensors = get_helper(helper).read_file(file)
        with tempfile.TemporaryDirectory(prefix="fedn-seed-") as folder:
            converted = Path(folder) / "seed.safetensors"
            write_tensors(converted, tensors)
            view = api.seed(converted)
    out.data(view) if out.json else out.say(f"Seed model {view.model_id} is entry {view.index} of the trail.")


@model.command("list")
@reducer_options
def list_models(api: APIClient, out: Output) -> None:
    """All global models, the oldest first."""
    found = sorted(api.models(), key=lambda view: view.index)
    if out.json:
        out.data(found)
        return
    out.table(
        ("index", "model", "kind", "session", "round", "clients", "training", "made"),
        (
            (
                view.index,
                short_id(view.model_id),
                view.kind + (" (head)" if view.head else ""),
                view.session,
                "" if view.round is None else view.round + 1,
                view.contributions or "",
                metrics(view.metrics),
                when(view.time),
            )
            for view in found
        ),
        empty="No model yet. Upload one: fedn model seed FILE",
    )


@model.command()
@click.argument("name", metavar="[MODEL]", required=False)
@reducer_options
def show(name: str | None, api: APIClient, out: Output) -> None:
    """A model: where it comes from, its tensors, its metrics."""
    view = api.model(_find(api, name).model_id)
    if out.json:
        out.data(view)
        return
    out.pairs(
        {
            "model": view.model_id,
            "trail entry": f"{view.index} ({view.kind})" + (", the head" if view.head else ""),
            "parent": view.parent,
            "session": view.session,
            "round": "" if view.round is None else view.round + 1,
            "made": when(view.time),
            "size": size(view.size_bytes),
            "clients": view.contributions or "",
            "encrypted with": view.encrypted_with,
            "training": metrics(view.metrics),
            "validation": f"{metrics(view.validation)} ({view.num_validations} clients)" if view.validation else "",
        }
    )
    click.echo()
    out.table(
        ("tensor", "dtype", "shape"),
        ((tensor.name, tensor.dtype, "×".join(map(str, tensor.shape)) or "scalar") for tensor in view.tensors),
        empty="Its bytes are not in the store any more.",
    )


@model.command()
@click.argument("name", metavar="[MODEL]", required=False)
@click.option("--out", "target", type=click.Path(path_type=Path), help="File to write; .npz writes npz.")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), help="Decrypt it with this key's file."
)
@reducer_options
def download(name: str | None, target: Path | None, key_file: Path | None, api: APIClient, out: Output) -> None:
    """Write a model to a file, checked by its digest."""
    view = _find(api, name)
    target = target or Path(f"model-{view.index}.safetensors")
    if key_file is None:
        kind: Literal["npz", "safetensors"] = "npz" if target.suffix == ".npz" else "safetensors"
        written = api.download_model(view.model_id, target, format=kind)
    else:
        with tempfile.TemporaryDirectory(prefix="fedn-model-") as folder:
            encrypted = Path(folder) / "encrypted.safetensors"
            api.download_model(view.model_id, encrypted)
            decrypt_file(encrypted, target, key_file)
        written = target.stat().st_size
    if out.json:
        out.data({"model_id": view.model_id, "file": str(target), "size_bytes": written})
    else:
        out.say(f"Wrote {target} ({size(written)}), model {view.model_id}.")


for _command in (encrypt, decrypt):
    model.add_command(_command)


def _find(api: APIClient, name: str | None) -> ModelView:
    models = api.models()
    if name is None:
        found = [view for view in models if view.head]
    elif name.isdecimal() and len(name) < 9:
        found = [view for view in models if view.index == int(name)]
    else:
        start = name.removesuffix("…")
        found = [view for view in models if view.model_id.startswith(start) or f":{start}" in view.model_id]
    if len({view.model_id for view in found}) != 1:
        what = "several models begin like this" if found else "there is no such model"
        raise NotFound("no_such_model", what, fix="List them: fedn model list", where={"model": name or "(newest)"})
    return found[-1]
