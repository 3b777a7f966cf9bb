"""Read cases from YAML; whatever is wrong is named with its file and line.

Stricter than YAML: a key stands once, only `true` and `false` are booleans,
a date is text, and one file holds one case.
"""

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from testserver.case import Case, Path
from testserver.checks import Problem, problems_of

Lines = dict[Path, int]


class CaseInvalid(Exception):
    """The case cannot be run; each problem reads `file:line: what is wrong`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Catalogue(NamedTuple):
    """All cases of a folder, and the problems of those that could not be read."""

    cases: dict[str, Case]
    broken: dict[str, list[str]]


def load_folder(folder: FilePath) -> Catalogue:
    """Read every case of a folder; a broken one hides no other."""
    found = Catalogue({}, {})
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            found.cases[file.stem] = load_file(file)
        except CaseInvalid as exc:
            found.broken[file.stem] = exc.problems
    return found


def load_file(file: FilePath) -> Case:
    """Read one case.

    Raises:
        CaseInvalid: the file is no case, or one that could prove nothing.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CaseInvalid([f"{file}:1: cannot be read: {exc}"]) from exc
    case = load_text(text, str(file))
    if case.name != file.stem:
        raise CaseInvalid([f"{file}:1: the case is named {case.name!r}, but its file {file.stem!r}"])
    return case


def load_text(text: str, origin: str) -> Case:
    """Read one case from YAML text that came from `origin`.

    Raises:
        CaseInvalid: the text is no case, or one that could prove nothing.
    """
    document, lines = _parse(text, origin)
    try:
        case = Case.model_validate(document)
    except ValidationError as exc:
        problems = [Problem(_path_of(error), _message_of(error)) for error in exc.errors(include_url=False)]
        raise CaseInvalid(_located(problems, lines, origin)) from exc
    if problems := list(problems_of(case)):
        raise CaseInvalid(_located(problems, lines, origin))
    return case


class _Loader(yaml.SafeLoader):
    """YAML without the guesses: `no`, `on` and 2024-01-01 are texts."""


_GUESSED = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _GUESSED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def _parse(text: str, origin: str) -> tuple[Any, Lines]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise CaseInvalid([f"{origin}:1: the file is empty"])
        lines = dict(_lines_of(node, (), frozenset()))
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        raise CaseInvalid([f"{origin}:{line}: {exc.problem or exc.context}"]) from exc
    except yaml.YAMLError as exc:
        raise CaseInvalid([f"{origin}:1: {exc}"]) from exc
    finally:
        loader.dispose()


def _lines_of(node: yaml.Node, path: Path, above: frozenset[int]) -> Iterator[tuple[Path, int]]:
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "an anchor that contains itself", node.start_mark)
    above |= {id(node)}
    if not path:
        yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is here twice", key.start_mark
                )
            seen.add(key.value)
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines_of(value, (*path, key.value), above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines_of(item, (*path, index), above)


def _located(problems: list[Problem], lines: Lines, origin: str) -> list[str]:
    found = sorted({(_line(problem.path, lines), _words(problem)) for problem in problems})
    return [f"{origin}:{line}: {message}" for line, message in found]


def _line(path: Path, lines: Lines) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _words(problem: Problem) -> str:
    place = ".".join(map(str, problem.path))
    return f"{place}: {problem.message}" if place else problem.message


def _path_of(error: ErrorDetails) -> Path:
    return error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]


def _message_of(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    if error["type"] == "missing":
        return "this key is missing"
    return error["msg"].removeprefix("Value error, ")
