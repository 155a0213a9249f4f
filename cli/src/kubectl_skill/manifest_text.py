"""Write YAML for Git that every reader of YAML 1.1 and 1.2 reads alike: equal values give equal bytes."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

WIDTH: Final = 110
_AMBIGUOUS = re.compile(r"[-+.]?[0-9]|[-+]?\.|[yYnN]\Z|[=<~]")
"""Texts that some parser takes for a number, a boolean, a date or something of its own unless they are quoted."""


class _ManifestDumper(yaml.SafeDumper):
    """_ManifestDumper indents lists below their key, uses no aliases, and writes texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        """Allow literal style for code with blanks at the end of its lines, which PyYAML would put into quotes."""
        analysis = super().analyze_scalar(scalar)
        analysis.allow_block = analysis.multiline and _fits_literal(scalar)
        return analysis


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _is_hidden(text):
        style = '"'
    elif "\n" in text and _fits_literal(text):
        style = "|"
    elif _AMBIGUOUS.match(text):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _fits_literal(text: str) -> bool:
    """Return whether PyYAML writes the text in literal style so that it is read back equal."""
    return not _is_hidden(text) and not text.startswith((" ", "\n", "\t")) and bool(text.strip())


def _is_hidden(text: str) -> bool:
    """Return whether the text has characters that no reader sees, such as bidirectional overrides."""
    return not text.replace("\n", "").replace("\t", "").isprintable()


def _escape_hidden(text: str) -> str:
    """Escape hidden characters of YAML text. They stand in double quotes alone, where the escapes mean the same."""
    if not _is_hidden(text):
        return text
    return "".join(
        character if character in "\n\t" or character.isprintable() else f"\\U{ord(character):08X}"
        for character in text
    )


class _FlowDumper(_ManifestDumper):
    """_FlowDumper writes a value on one line."""


def _represent_on_one_line(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if "\n" in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    return _represent_text(dumper, text)


_ManifestDumper.add_representer(str, _represent_text)
_FlowDumper.add_representer(str, _represent_on_one_line)


def dump_yaml(value: Any) -> str:
    """Return a value of JSON as YAML, its keys in the order they have."""
    return _escape_hidden(
        yaml.dump(
            value, Dumper=_ManifestDumper, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=False
        )
    )


def dump_flow(value: Any) -> str:
    """Return a value of JSON on one line, such as `{total: 3.0}`."""
    text = yaml.dump(
        value, Dumper=_FlowDumper, sort_keys=False, allow_unicode=True, width=2**30, default_flow_style=True
    )
    return _escape_hidden(text.removesuffix("\n").removesuffix("\n...").strip())
