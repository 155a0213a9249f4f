"""The reference of the chart's values says what values.yaml and its schema say."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from hack.docs import chart_values
from hack.docs.__main__ import CHART
from hack.docs.chart_values import ChartValue

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
SMALL = dedent("""\
    # Every value.

    # words of the name
    # on two lines
    name: ""
    # Entries:
    #   - a: 1   # one
    list: []
    # A part.
    part:
      # not a part's own
      # but the first's,
      first: 1
      enabled: true
      resources:
        limits: {cpu: 1}
      # A map.
      labels: {}

      loose:
        # Deep.
        deep: x
    """)
SMALL_SCHEMA = {
    "$defs": {"count": {"type": "integer", "minimum": 1}},
    "properties": {
        "name": {"type": "string", "pattern": "x", "description": "a <name>"},
        "list": {"type": "array"},
        "part": {
            "properties": {
                "first": {"$ref": "#/$defs/count", "maximum": 3},
                "enabled": {"type": "boolean"},
                "resources": {"type": "object"},
                "labels": {"type": ["object", "null"]},
                "loose": {"properties": {"deep": {"enum": ["x", "y"]}}},
            }
        },
    },
}


def test_values_are_read_with_the_comments_above_them() -> None:
    assert chart_values.read_values(SMALL) == [
        ChartValue("name", '""', " words of the name\n on two lines"),
        ChartValue("list", "[]", " Entries:\n   - a: 1   # one"),
        ChartValue("part", None, " A part."),
        ChartValue("part.first", "1", " not a part's own\n but the first's,"),
        ChartValue("part.enabled", "true", ""),
        ChartValue("part.resources", '{"limits": {"cpu": 1}}', ""),
        ChartValue("part.labels", "{}", " A map."),
        ChartValue("part.loose", None, ""),
        ChartValue("part.loose.deep", '"x"', " Deep."),
    ]


def test_the_page_of_a_small_chart() -> None:
    lines = chart_values.render(SMALL, SMALL_SCHEMA).splitlines()
    for line in (
        '| `name` | `""` | a &lt;name&gt; | Words of the name on two lines. |',
        "| `list` | `[]` | list | Entries: |",
        "- a: 1   # one",
        "## part",
        "| `part.first` | `1` | integer: 1 to 3 | Not a part's own but the first's. |",
        "| `part.enabled` | `true` | boolean | Whether the chart makes it. |",
        '| `part.loose.deep` | `"x"` | `x` or `y` | Deep. |',
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("| `part.loose` |")]


@pytest.mark.parametrize("value", chart_values.read_values(VALUES), ids=lambda value: value.path)
def test_every_value_of_the_chart_is_in_the_schema_and_described(value: ChartValue) -> None:
    assert chart_values.lookup(SCHEMA, value.path)
    assert value.group or chart_values.describe(value)


def test_every_value_of_the_schema_is_in_the_chart() -> None:
    known = {value.path for value in chart_values.read_values(VALUES)}
    assert {*SCHEMA["properties"]} - {"global"} == {path for path in known if "." not in path}
