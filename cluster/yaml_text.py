"""YAML as people write it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def show_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents as one text, keys in their order: a text of several lines is a block, and nothing is an alias."""
    # No line is folded: most long ones are commands.
    return "---\n".join(
        yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        for document in documents
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
