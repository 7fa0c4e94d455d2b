"""YAML as it is read everywhere in fedn: one mapping, no tags, no aliases, no key twice, no surprise in size."""

from collections.abc import Hashable
from typing import Any, cast

import yaml

from fedn.protocol.errors import InvalidInput, LimitExceeded

MAX_BYTES = 256 * 1024


class _Loader(yaml.SafeLoader):
    """Refuses what nobody expects: a later key that silently wins, and aliases, which can grow without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = cast(Any, self.peek_event()).start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in seen:
                problem = "a key must be a plain text" if key is None else f"the key {key!r} is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(text: str | bytes, *, name: str) -> dict[str, Any]:
    """The mapping that a YAML document holds; empty for an empty document.

    Args:
        text: the document, UTF-8.
        name: of the file, for messages.

    Raises:
        InvalidInput: (`bad_yaml`) with the line.
        LimitExceeded: (`yaml_too_large`) more than 256 KiB.
    """
    if len(text) > MAX_BYTES:
        raise LimitExceeded("yaml_too_large", f"{name} is larger than {MAX_BYTES} bytes", where={"file": name})
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - the loader is a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = {"line": mark.line + 1} if mark is not None else {}
        raise _bad(name, error.problem or "it cannot be read", **line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _bad(name, "it cannot be read as UTF-8 text in YAML") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _bad(name, "it is not a mapping of names to values")
    return content


def _bad(name: str, why: str, **where: object) -> InvalidInput:
    return InvalidInput(
        "bad_yaml",
        f"{name} is no good YAML: {why}",
        fix="Write `name: value` lines, each name once, indented by spaces.",
        where={"file": name, **where},
    )
