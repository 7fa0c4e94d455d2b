"""`fedn project`: uploads what a project's folder has for a federation."""

from pathlib import Path

import click

from fedn.api.client import APIClient
from fedn.cli.connection import reducer_options
from fedn.cli.output import Output


@click.group()
def project() -> None:
    """Projects: folders with a compute package, and perhaps a seed model and a plan, as `fedn new` makes them."""


@project.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Leave alone a federation that has a compute package already.")
@reducer_options
def upload(folder: Path, once: bool, api: APIClient, out: Output) -> None:
    """Upload a project's compute package and, where the federation has no model yet, its seed model.

    \b
    Then: fedn session start --plan FOLDER/plan.yaml
    """
    from fedn.sandbox.project import read_project  # heavy: reads the project with what packing needs

    found = read_project(folder)
    active = next((view for view in api.packages() if view.active), None)
    if active is not None and once:
        package_id, left_alone = active.package_id, True
    else:
        package_id, left_alone = api.upload_package(found.package).package_id, False
    seed = None
    if found.seed is not None and not left_alone and api.status().trail_length == 0:
        seed = api.seed(found.seed).model_id
    if out.json:
        out.data({"package_id": package_id, "uploaded": not left_alone, "seed_model_id": seed})
        return
    if left_alone and active is not None:
        out.say(f"The federation has the package {active.name or active.package_id} already: left as it is.")
        return
    out.say(f"Package {package_id} is active.")
    if seed is not None:
        out.say(f"Seed model {seed} begins the trail.")
    elif found.seed is None:
        out.say("The project has no seed model: its first session needs `seed_from_client: true` in the plan.")
    else:
        out.say("The trail has begun already: the seed model was not sent.")
