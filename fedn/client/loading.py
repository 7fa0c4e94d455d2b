"""Finds the Learner class that a site or a package names, and makes its object. Runs in the worker process only."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fedn.client.learner import Learner
from fedn.protocol.errors import InvalidInput


def load_learner(name: str, folder: Path | None) -> Learner:
    """The Learner of `module:Class` or `path/file.py:Class` (without `:Class`: the only Learner defined in it).

    Instead of a class it may name a function without arguments that makes the Learner. `folder` is put in front of
    sys.path, and relative paths start there.

    Raises:
        InvalidInput: `bad_learner` where it names no class of that kind. What the module's own code raises passes
            through.
    """
    where = Path.cwd() if folder is None else folder.resolve()
    sys.path.insert(0, str(where))
    place, _, class_name = name.partition(":")
    module = _load_file(where / place) if place.endswith(".py") else importlib.import_module(place)
    made = getattr(module, class_name, None) if class_name else None
    if inspect.isfunction(made):
        return _made_by(made, name)
    return _class_of(module, class_name, name)()


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise _bad(f"there is no file {path.name}", str(path))
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _made_by(function: Callable[[], object], name: str) -> Learner:
    made = function()
    if not isinstance(made, Learner):
        raise _bad(f"{function.__name__} made {type(made).__name__}, which is no Learner", name)
    return made


def _class_of(module: ModuleType, class_name: str, name: str) -> type[Learner]:
    if class_name:
        found = getattr(module, class_name, None)
        if not (inspect.isclass(found) and issubclass(found, Learner)):
            raise _bad(f"{module.__name__} has no Learner class {class_name!r}", name)
        if inspect.isabstract(found):
            missing = ", ".join(sorted(found.__abstractmethods__))
            raise _bad(f"{class_name} does not define {missing}", name)
        return found
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Learner)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]
    if len(own) != 1:
        raise _bad(f"{module.__name__} defines {len(own)} Learner classes", name)
    return own[0]


def _bad(message: str, name: str) -> InvalidInput:
    return InvalidInput(
        "bad_learner",
        message,
        fix="Name a subclass of fedn.Learner, or a function that makes one, as module:Name or path/file.py:Name.",
        where={"learner": name},
    )
