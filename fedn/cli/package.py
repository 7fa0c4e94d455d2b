"""`fedn package`: compute packages, the code that clients run."""

from pathlib import Path

import click

from fedn.api.client import APIClient
from fedn.cli.connection import json_option, reducer_options
from fedn.cli.output import Output, short_id, size, when
from fedn.protocol.errors import FednError, InvalidInput


@click.group()
def package() -> None:
    """Compute packages: a folder with fedn.yaml and the code, packed. Its digest is its id; sites may pin it."""


@package.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path())
@click.option("--out", "target", type=click.Path(path_type=Path), help="File to write.  [default: <folder>.tar.gz]")
@json_option
def create(folder: Path, target: Path | None, out: Output) -> None:
    """Check FOLDER and pack it; equal files give an equal package.

    Files that .fednignore names (as a .gitignore does) stay out.
    """
    from fedn.models.digest import digest  # heavy: only packing needs them
    from fedn.plan.package import build_package, inspect_package

    data = build_package(folder)
    manifest = inspect_package(data)
    target = target or Path(f"{folder.resolve().name}.tar.gz")
    try:
        target.write_bytes(data)
    except OSError as error:
        raise FednError(
            "cannot_write_file",
            f"the package cannot be written: {error.strerror}",
            fix="Choose another place with --out.",
            where={"file": target},
        ) from error
    package_id = digest(data)
    if out.json:
        out.data({"file": str(target), "package_id": package_id, "size_bytes": len(data), "manifest": manifest})
        return
    what = [f"learner {manifest.learner}"] if manifest.learner else []
    what += [f"entry points {', '.join(manifest.entry_points)}"] if manifest.entry_points else []
    out.say(f"Wrote {target} ({size(len(data))}): {' and '.join(what)}.")
    out.say(f"Its id: {package_id}")
    out.say(f"Next: fedn package upload {target}")


@package.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), default=Path())
@reducer_options
def upload(source: Path, api: APIClient, out: Output) -> None:
    """Upload a package (or a folder, which is packed first) and make it the one that clients run."""
    if source.is_dir():
        from fedn.plan.package import build_package  # heavy: only packing needs it

        data = build_package(source)
    else:
        data = source.read_bytes()
    if not data:
        raise InvalidInput(
            "bad_archive", "the package is empty", fix="Make one: fedn package create FOLDER", where={"file": source}
        )
    view = api.upload_package(data)
    out.data(view) if out.json else out.say(f"Package {view.package_id} ({size(view.size_bytes)}) is active.")


@package.command("list")
@reducer_options
def list_packages(api: APIClient, out: Output) -> None:
    """Packages that the federation has; new sessions use the active one."""
    found = api.packages()
    if out.json:
        out.data(found)
        return
    out.table(
        ("package", "name", "active", "size", "runs", "uploaded"),
        (
            (
                short_id(view.package_id),
                view.name,
                view.active,
                size(view.size_bytes),
                view.learner or ", ".join(view.entry_points),
                when(view.uploaded_at),
            )
            for view in found
        ),
        empty="No package yet. Upload one: fedn package upload FOLDER",
    )


@package.command()
@click.argument("package_id")
@click.option("--out", "target", type=click.Path(path_type=Path), required=True, help="File to write.")
@reducer_options
def download(package_id: str, target: Path, api: APIClient, out: Output) -> None:
    """Write a package to a file, checked by its digest: read what would run at your site."""
    written = api.download_package(package_id, target)
    out.data({"file": str(target), "size_bytes": written}) if out.json else out.say(
        f"Wrote {target} ({size(written)})."
    )


@package.command()
@click.argument("package_id", required=False)
@click.option("--none", "nothing", is_flag=True, help="No package: clients bring their own Learner.")
@reducer_options
def activate(package_id: str | None, nothing: bool, api: APIClient, out: Output) -> None:
    """Make a package the one that new sessions use."""
    if nothing == (package_id is not None):
        raise click.UsageError("Give either the id of a package or --none.")
    api.activate_package(package_id)
    out.say("Clients bring their own Learner now." if nothing else f"Package {package_id} is active.")
