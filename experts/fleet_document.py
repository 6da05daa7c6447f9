"""YAML text as data, with the line of every key. Duplicate keys, which PyYAML passes over in silence, are mistakes."""

from dataclasses import dataclass, field
from typing import Any

import yaml

from experts.fleet_mistake import KeyPath, Mistake, shorten

# A fleet file has a few hundred values; more comes from anchors that contain each other.
_MOST_VALUES = 100_000
_DEEPEST = 40

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Document:
    """`data` is None when the text is not YAML; `lines` counts from 1."""

    data: Any
    lines: dict[KeyPath, int]
    mistakes: tuple[Mistake, ...]

    def line_of(self, key: KeyPath) -> int | None:
        """The line of a key, or of the nearest key above it that the file has."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)


def parse_document(text: str) -> Document:
    """The data of a YAML text; a syntax error is the only mistake then."""
    try:
        builder = _Builder(_Loader(text))
        node = builder.loader.get_single_node()
        data = None if node is None else builder.build(node, ())
    except yaml.MarkedYAMLError as error:
        return Document(None, {}, (_syntax_mistake(error),))
    except yaml.reader.ReaderError as error:
        found = f"the character {error.character!r} at position {error.position}"
        return Document(None, {}, (Mistake((), found, "YAML is printable text", "remove that character"),))
    except RecursionError:
        found = f"more than {_DEEPEST} levels or {_MOST_VALUES} values"
        next_step = "write the values out instead of using anchors that contain each other"
        return Document(None, {}, (Mistake((), found, "a fleet file has 6 levels", next_step),))
    return Document(data, builder.lines, tuple(builder.mistakes))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which an unquoted date stays text: no value of a fleet file is a date."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it without ClassVar
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(slots=True)
class _Builder:
    loader: _Loader
    lines: dict[KeyPath, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    values: int = 0
    checked: set[int] = field(default_factory=set)

    def build(self, node: yaml.Node, key: KeyPath) -> Any:
        self.values += 1
        if self.values > _MOST_VALUES or len(key) > _DEEPEST:
            raise RecursionError
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*key, str(place))) for place, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # for example an underscore alone, which YAML 1.1 takes for a number
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error

    def _build_mapping(self, node: yaml.MappingNode, key: KeyPath) -> dict[str, Any]:
        # An alias leads to the same node again, whose merged keys would then look like duplicates.
        if id(node) not in self.checked:
            self.checked.add(id(node))
            self._check_keys(node, key)
            self.loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            # The key's own text: YAML 1.1 reads `no` and `on` as truth values and 1 as a number, names are text.
            inner = (*key, str(key_node.value))
            self.lines[inner] = key_node.start_mark.line + 1
            data[str(key_node.value)] = self.build(value_node, inner)
        return data

    def _check_keys(self, node: yaml.MappingNode, key: KeyPath) -> None:
        first_lines: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "found a list or mapping as a key", key_node.start_mark
                )
            name = str(key_node.value)
            if key_node.tag != _MERGE and name in first_lines:
                found = f"the key '{shorten(name)}' again"
                known = f"it stands first in line {first_lines[name]}, and the later one would win in silence"
                self.mistakes.append(Mistake((*key, name), found, known, "keep one of the two", line))
            first_lines.setdefault(name, line)


def _syntax_mistake(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    column = f" at column {mark.column + 1}" if mark else ""
    problem = (error.problem or error.context or "unreadable text").removeprefix("found ")
    known = "this is no YAML" + (f" ({error.context})" if error.context and error.problem else "")
    return Mistake((), f"{problem}{column}", known, _plan_syntax_repair(problem), line)


def _plan_syntax_repair(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces instead of tabs"
    if "document" in problem:
        return "keep one fleet per file and remove the second ---"
    if "mapping values" in problem:
        return "put a value that contains ': ' in quotes, or mend the indentation"
    if "tag" in problem:
        return "remove the tag that starts with !"
    return "mend the line or put its value in quotes"
