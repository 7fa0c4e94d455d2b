"""`fedn explain`: what an error code means. Needs no reducer and no network."""

import click

from fedn.cli.connection import json_option
from fedn.cli.output import Output
from fedn.protocol.explain import Explanation, explain, explanations


@click.command("explain")
@click.argument("code", required=False)
@json_option
def explain_code(code: str | None, out: Output) -> None:
    """What an error code means, and what to do. Without CODE: all codes."""
    found = list(explanations().values()) if code is None else [explain(code)]
    if out.json:
        out.data(found if code is None else found[0])
    elif code is None:
        out.table(("code", "says"), ((one.code, one.messages[0] if one.messages else "") for one in found), empty="")
    else:
        _tell(found[0], out)


def _tell(one: Explanation, out: Output) -> None:
    kinds = ", ".join(one.kinds)
    out.say(f"{one.code}" + (f" ({kinds}, HTTP {' or '.join(map(str, one.statuses))})" if kinds else ""))
    for message in one.messages:
        out.say(f"  {message}")
    if one.note:
        out.say(f"\n{one.note}")
    for fix in one.fixes:
        out.say(f"\nWhat to do: {fix}")
    out.say(f"\nRaised in: {', '.join(one.modules)}")
