"""Writes the parts of the reference that follow from the code: CLI, settings, plans, REST routes, error codes.

`python docs/generate.py` rewrites what stands between the marks `<!-- generated NAME -->` and `<!-- end -->` in
docs/reference/*.md; with --check it only says whether that is up to date.
"""

import argparse
import ast
import importlib.util
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from fedn.cli.main import root
from fedn.cli.plan import plan_fields
from fedn.driver.config import FederationConfig, LocalTiers, RunningTiers
from fedn.driver.metisfl_keys import KEYS as METISFL_KEYS
from fedn.network.access import ROUTE_ACCESS
from fedn.plan.settings import ClientSettings, CombinerSettings, ReducerSettings, Settings
from fedn.plan.settings_load import environment_names
from fedn.protocol import errors

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "fedn"
MARKED = re.compile(r"<!-- generated (?P<name>\S+) -->\n.*?<!-- end -->\n", re.DOTALL)
GLOBAL_OPTIONS = {"url", "token", "admin_secret", "ca", "context", "as_json"}
"""Explained once, above the list of commands."""


# Error codes


@dataclass
class Code:
    """One error code, as the source has it."""

    name: str
    classes: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    fixes: list[str] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)


CLASSES = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
OTHER_CALLS = {"PydanticCustomError": 0, "Fault": 1}
"""Other calls whose argument at this position is a code."""
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|replaced|cancelled|missing|stopped")


def error_codes() -> dict[str, Code]:
    """Every code that some module of fedn raises or reports, by name."""
    found: dict[str, Code] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if "generated" in path.parts:
            continue
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wrappers = _wrappers(tree)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            _take(call, module, wrappers, found)
    return dict(sorted(found.items()))


def _wrappers(tree: ast.Module) -> dict[str, tuple[int, str]]:
    """Functions with a parameter `code`: its position, and the error class that they make."""
    found = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [argument.arg for argument in function.args.args if argument.arg not in {"self", "cls"}]
        if "code" in names:
            made = [_called(node) for node in ast.walk(function) if isinstance(node, ast.Call)]
            found[function.name] = (names.index("code"), next((name for name in made if name in CLASSES), ""))
    return found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _take(call: ast.Call, module: str, wrappers: dict[str, tuple[int, str]], found: dict[str, Code]) -> None:
    name = _called(call)
    if name in CLASSES:
        position, kind = 0, name
    elif name in OTHER_CALLS:
        position, kind = OTHER_CALLS[name], "InvalidInput"
    elif name in wrappers:
        position, kind = wrappers[name]
    else:
        position, kind = -1, ""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    code = keywords.get("code") or (call.args[position] if 0 <= position < len(call.args) else None)
    for literal in _literals(code):
        entry = found.setdefault(literal, Code(literal))
        entry.modules.add(module)
        if kind:
            entry.classes.add(kind)
        message = keywords.get("message") or keywords.get("title")
        if message is None and position >= 0 and len(call.args) > position + 1:
            message = call.args[position + 1]
        fix = keywords.get("fix")
        if fix is None and name == "Fault" and len(call.args) > 3:
            fix = call.args[3]
        for texts, node in ((entry.messages, message), (entry.fixes, fix)):
            text = _text(node)
            if text and text not in texts:
                texts.append(text)


def _literals(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)


def _text(node: ast.expr | None) -> str:
    """A message as the source writes it, with … for what is filled in; "" where it is not written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        # Some are templates, that others fill in.
        text = re.sub(r"\{\w+\}", "…", node.value)
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.BinOp):
        text = _text(node.left) + (_text(node.right) or "…")
    else:
        return ""
    words = re.sub(r"(… ?)+", "… ", " ".join(text.split())).replace("… ", "… ").strip()
    return "" if words in {"", "…"} else re.sub(r"… ([.,;:)'])", r"…\1", words)


def error_reference() -> str:
    notes: dict[str, str] = yaml.safe_load((HERE / "reference" / "error-notes.yaml").read_text(encoding="utf-8"))
    codes = error_codes()
    unknown = sorted(set(notes) - set(codes))
    if unknown:
        raise SystemExit(f"docs/reference/error-notes.yaml explains codes that nothing raises: {', '.join(unknown)}")
    lines = []
    for name, code in codes.items():
        lines += [f"### {name} {{ #{name} }}", ""]
        statuses = sorted({getattr(errors, kind).http_status for kind in code.classes if kind != "InvalidSettings"})
        if statuses:
            lines += [f"*{', '.join(sorted(code.classes))}, HTTP {' or '.join(map(str, statuses))}*", ""]
        lines += [f"> {_markdown(_sentence(message))}" for message in code.messages[:3]]
        lines += [""] * bool(code.messages)
        if name in notes:
            lines += [" ".join(notes[name].split()), ""]
        for fix in code.fixes[:3]:
            lines += [f"**What to do:** {_markdown(_sentence(fix))}", ""]
        lines += [f"Raised in: {', '.join(f'`{module}`' for module in sorted(code.modules))}", ""]
    return "\n".join(lines)


def error_file() -> str:
    """The same for `fedn explain` and the reducer's own pages, as JSON."""
    notes: dict[str, str] = yaml.safe_load((HERE / "reference" / "error-notes.yaml").read_text(encoding="utf-8"))
    found = []
    for name, code in error_codes().items():
        kinds = sorted(code.classes)
        statuses = sorted({getattr(errors, kind).http_status for kind in kinds if kind != "InvalidSettings"})
        one = {
            "code": name,
            "kinds": kinds,
            "statuses": statuses,
            "messages": code.messages[:3],
            "note": " ".join(notes.get(name, "").split()),
            "fixes": code.fixes[:3],
            "modules": sorted(code.modules),
        }
        found.append({key: value for key, value in one.items() if value})
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in found)
    return f"[\n{lines}\n]\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _markdown(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*").replace("|", r"\|")


# Commands


def command_reference() -> str:
    lines: list[str] = []
    _describe(root, "fedn", lines)
    return "\n".join(lines)


def _describe(command: click.Command, path: str, lines: list[str]) -> None:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and path != "fedn run":
                _describe(inner, f"{path} {name}", lines)
        return
    lines += [f"### {path}", "", _help(command.help or ""), ""]
    arguments = [item for item in command.params if isinstance(item, click.Argument)]
    if arguments:
        words = " ".join(
            str(
                item.metavar
                or f"{'' if item.required else '['}{(item.name or '').upper()}{'' if item.required else ']'}"
            )
            for item in arguments
        )
        lines += [f"Arguments: `{words}`", ""]
    options = [item for item in command.params if isinstance(item, click.Option)]
    if any((item.name or "").startswith("setting_") for item in options):
        program = path.split()[1]
        lines += [f"Flags: one for each [setting of the {program}](settings.md#{program}), and `--config FILE`.", ""]
    rows = [
        item
        for item in options
        if item.name not in GLOBAL_OPTIONS and not (item.name or "").startswith("setting_") and item.name != "config"
    ]
    if rows:
        lines += ["| flag | what it does |", "|---|---|"]
        for item in rows:
            flags = ", ".join(f"`{flag}`" for flag in [*item.opts, *item.secondary_opts])
            choices = f" One of {', '.join(item.type.choices)}." if isinstance(item.type, click.Choice) else ""
            about = " ".join((item.help or "").split()) + choices
            lines.append(f"| {flags} | {_markdown(about.strip())} |")
        lines.append("")
    if any(item.name == "url" for item in options):
        lines += ["Talks to a reducer.", ""]


def _help(text: str) -> str:
    blocks = []
    for block in text.split("\n\n"):
        if "\b" in block:
            kept = "\n".join(line for line in block.splitlines() if line.strip() != "\b")
            blocks.append("```text\n" + textwrap.dedent(kept).rstrip() + "\n```")
        else:
            blocks.append(_markdown(" ".join(block.split())))
    return "\n\n".join(blocks)


# Settings and plans


def settings_reference(cls: type[Settings]) -> Callable[[], str]:
    def write() -> str:
        lines = ["| setting | flag | environment | default | what it is |", "|---|---|---|---|---|"]
        names = environment_names(cls)
        for path, environment in names.items():
            info = _field(cls, path)
            flag = "--" + path.replace("_", "-").replace(".", "-")
            shown = "<br>".join(f"`{name}`" for name in environment)
            about = _markdown(" ".join((info.description or "").split()))
            lines.append(f"| `{path}` | `{flag}` | {shown} | {_default(info)} | {about} |")
        return "\n".join(lines) + "\n"

    return write


def _field(cls: type[Any], path: str) -> Any:
    first, _, rest = path.partition(".")
    info = cls.model_fields[first]
    return _field(info.annotation, rest) if rest else info


def _default(info: Any) -> str:
    if info.default_factory is not None:
        return "(this machine's)"
    value = info.default
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def plan_reference() -> str:
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for row in plan_fields():
        default = row["default"]
        shown = getattr(default, "name", default)
        text = "" if shown is None or shown == {} else f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"
        lines.append(f"| `{row['field']}` | {text} | {_markdown(str(row['about']))} |")
    return "\n".join(lines) + "\n"


def federation_reference() -> str:
    sections = {"": FederationConfig, "local.": LocalTiers, "attach.": RunningTiers}
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for prefix, section in sections.items():
        for name, info in section.model_fields.items():
            about = _markdown(" ".join((info.description or "").split()))
            default = "" if info.default_factory is not None else _default(info)
            lines.append(f"| `{prefix}{name}` | {default} | {about} |")
    return "\n".join(lines) + "\n"


def metisfl_reference() -> str:
    lines = ["| key | generation | here |", "|---|---|---|"]
    for key in METISFL_KEYS:
        here = key.here if key.take is not None else f"**refused**: {key.here}"
        lines.append(f"| `{key.path}` | {key.generation} | {here} |")
    return "\n".join(lines) + "\n"


# REST


def route_reference() -> str:
    lines = ["| method | route | who |", "|---|---|---|"]
    for (method, rule), who in sorted(ROUTE_ACCESS.items(), key=lambda item: (item[0][1], item[0][0])):
        allowed = ", ".join(sorted(map(str, who))) if isinstance(who, frozenset) else str(getattr(who, "value", who))
        lines.append(f"| {method} | `{_markdown(rule).replace('&lt;', '<')}` | {allowed.lower().replace('_', ' ')} |")
    return "\n".join(lines) + "\n"


# Metrics

METRIC_CLASSES = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "GaugeMetricFamily": "gauge",
    "CounterMetricFamily": "counter",
}


def metric_reference() -> str:
    lines = ["| metric | kind | labels | what it counts |", "|---|---|---|---|"]
    for path in (SOURCE / "reducer" / "metrics.py", SOURCE / "combiner" / "metrics.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            kind = METRIC_CLASSES.get(_called(call))
            words = [argument.value for argument in call.args[:2] if isinstance(argument, ast.Constant)]
            if kind is None or len(words) < 2:
                continue
            name = f"{words[0]}_total" if kind == "counter" else words[0]
            labels = [label for node in [*call.args[2:3], *call.keywords] for label in _labels(node)]
            lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {words[1]} |")
    return "\n".join(lines) + "\n"


def _labels(node: ast.expr | ast.keyword) -> list[str]:
    value = node.value if isinstance(node, ast.keyword) and node.arg in {"labelnames", "labels"} else node
    items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
    return [str(item.value) for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def _beside(module: str) -> Any:
    """A module of this folder, which is no package and not always on the path."""
    spec = importlib.util.spec_from_file_location(module, HERE / f"{module}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


PARTS: dict[str, Callable[[], str]] = {
    "errors": error_reference,
    "commands": command_reference,
    "reducer-settings": settings_reference(ReducerSettings),
    "combiner-settings": settings_reference(CombinerSettings),
    "client-settings": settings_reference(ClientSettings),
    "plan-fields": plan_reference,
    "federation-fields": federation_reference,
    "metisfl-keys": metisfl_reference,
    "plan-options": _beside("generate_options").options_reference,
    "routes": route_reference,
    "metrics": metric_reference,
}


def fresh(text: str) -> str:
    """A page with its generated parts written anew."""

    def part(match: re.Match[str]) -> str:
        return f"<!-- generated {match['name']} -->\n{PARTS[match['name']]().rstrip()}\n<!-- end -->\n"

    return MARKED.sub(part, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for page in sorted((HERE / "reference").glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = fresh(old)
        if new != old:
            stale.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    packaged = SOURCE / "protocol" / "error_codes.json"
    text = error_file()
    if not packaged.exists() or packaged.read_text(encoding="utf-8") != text:
        stale.append(packaged.name)
        if not check:
            packaged.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"not up to date: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
