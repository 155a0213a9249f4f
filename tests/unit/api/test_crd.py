"""The committed definition is the generated one, and what cannot be said in a structural schema is an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import ConfigDict, Field

from skill_operator.api import crd
from skill_operator.api.v1alpha1 import ApiModel, SkillSpec, SkillStatus

COMMITTED = Path(__file__).parents[3] / "crds"
JUNCTORS = ("anyOf", "oneOf", "allOf", "not")


def schemas(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a structural schema, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    if "items" in node:
        yield from schemas(node["items"], f"{path}[]")


@pytest.fixture(scope="module")
def schema():
    return crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_committed_file_is_the_generated_one():
    assert (COMMITTED / crd.FILE_NAME).read_text(encoding="utf-8") == crd.render()


def test_the_file_says_what_the_object_says():
    assert yaml.safe_load(crd.render()) == crd.definition()


def test_names_and_columns():
    definition = crd.definition()
    assert definition["metadata"]["name"] == "skills.skill-operator.dev"
    assert definition["spec"]["names"]["categories"] == ["ai"]
    version = definition["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Ready", "Status", "Attempts", "Tokens", "Maker", "Age",
    ]  # fmt: skip
    assert [column["name"] for column in columns if column.get("priority") == 1] == ["Verified", "Image", "URL"]


def test_unknown_fields_are_kept_only_in_schemas_and_examples(schema):
    kept = {path for path, node in schemas(schema) if node.get("x-kubernetes-preserve-unknown-fields")}
    quantities = {
        f".spec.resources.{kind}.{name}"
        for kind, names in (("requests", ("cpu", "memory")), ("limits", ("cpu", "memory", "ephemeral-storage")))
        for name in names
    }
    free = {".spec.input", ".spec.output", ".spec.examples[].input", ".spec.examples[].output"}
    assert kept == free | quantities | {".status.serving.input", ".status.serving.output"}


def test_a_quantity_is_a_number_or_a_text(schema):
    (found,) = {str(sorted(node.items())) for path, node in schemas(schema) if path.endswith("requests.cpu")}
    assert "'maxItems', 0" in found
    assert "'maxProperties', 0" in found


def test_everything_is_bounded(schema):
    for path, node in schemas(schema["properties"]["spec"]):
        if node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path


def test_it_is_structural(schema):
    for path, node in schemas(schema):
        typeless = node.get("x-kubernetes-preserve-unknown-fields")
        assert node.get("type") in {"object", "array", "string", "integer", "boolean"} or typeless, path
        assert not node.keys() & {"$ref", "$defs", "title", "const", "definitions"}, path
        assert node.get("additionalProperties") is not False, path
        for junctor in JUNCTORS:
            for branch in node.get(junctor, []):
                assert not branch.keys() & {"default", "nullable", "properties", "additionalProperties", "description"}
        for required in node.get("required", []):
            assert required in node["properties"], path
            assert "default" not in node["properties"][required], path


def test_list_maps_require_their_keys(schema):
    for path, node in schemas(schema):
        for key in node.get("x-kubernetes-list-map-keys", []):
            assert key in node["items"]["required"], path


def test_defaults_are_those_of_the_types(schema):
    """What the API server fills in is what pydantic fills in."""
    smallest = SkillSpec(description="x", input={}, output={}).model_dump(by_alias=True)
    properties = schema["properties"]["spec"]["properties"]
    assert {name: node["default"] for name, node in properties.items() if "default" in node} == {
        name: value
        for name, value in smallest.items()
        if name not in {"description", "input", "output", "examples", "egress", "secrets", "source"}
    }


def test_no_default_is_inside_a_list(schema):
    """Tools that compare a manifest with what the API server has compare lists whole: it would be drift for ever."""
    inside = [(path, node["default"]) for path, node in schemas(schema) if "[]" in path and "default" in node]
    assert inside == []
    assert any("[]" in path for path, _ in schemas(schema))


def test_a_manifest_of_every_list_is_stored_as_it_is(schema):
    spec = {
        "secrets": [{"name": "t", "secretKeyRef": {"name": "k", "key": "t"}}],
        "egress": [{"cidr": "203.0.113.0/24", "ports": [443]}, {"host": "api.example.com", "ports": [443]}],
        "examples": [{"name": "one", "input": {}, "output": None}, {"name": "two", "input": {}, "error": "ValueError"}],
    }
    lists = {name for name, node in schema["properties"]["spec"]["properties"].items() if node["type"] == "array"}
    assert spec.keys() == lists, "a new list of the spec belongs here"
    assert defaulted(schema["properties"]["spec"], spec) | spec == defaulted(schema["properties"]["spec"], spec)


def defaulted(schema, value):
    """The value with the defaults that the API server fills in."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    missing = {k: s["default"] for k, s in schema["properties"].items() if "default" in s and k not in value}
    whole = value | missing
    return {k: defaulted(schema["properties"].get(k, {}), v) for k, v in whole.items()}


def test_an_object_that_is_given_in_part_is_filled_as_one_that_is_not(schema):
    for path, node in schemas(schema["properties"]["spec"]):
        for name, value in node.get("default", {}).items() if node.get("type") == "object" else ():
            assert node["properties"][name]["default"] == value, f"{path}.{name}"


def test_a_skill_that_nobody_has_looked_at_is_in_progress(schema):
    """By kstatus: an object without any status is taken for one that is done."""
    assert schema["properties"]["status"]["default"] == {"observedGeneration": -1}
    assert SkillStatus.model_validate(schema["properties"]["status"]["default"]).observed_generation == -1


def test_status_has_no_defaults():
    assert not [path for path, node in schemas(crd.structural(SkillStatus, defaults=False)) if "default" in node]


class Line(ApiModel):
    """Documented."""

    qty: int = Field(default=1, ge=0)


def made(annotation: Any, **field: Any) -> dict[str, Any]:
    """The structural schema of a field of this type."""

    class Holder(ApiModel):
        held: annotation = Field(**field)

    return crd.structural(Holder)["properties"]["held"]


def test_references_are_replaced_and_descriptions_next_to_them_win():
    expected = {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 0, "default": 1}}}
    assert made(Line) == expected | {"description": "Documented."}
    assert made(Line, description="Here.") == expected | {"description": "Here."}
    assert made(Line, default=Line(qty=2))["default"] == {"qty": 2}


def test_optional_is_absent():
    assert made(Annotated[str, Field(max_length=3)] | None, default=None) == {"type": "string", "maxLength": 3}
    assert made(Line | None, default=None)["type"] == "object"


def test_maps():
    short = Annotated[str, Field(max_length=3)]
    expected = {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "string", "maxLength": 3}}
    assert made(Annotated[dict[str, short], Field(max_length=2)]) == expected


class Node(ApiModel):
    """A tree."""

    child: "Node | None" = None


class Closed(ApiModel):
    """Refuses what it does not know, which is the API server's to do."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=3)


def test_unknown_fields_are_the_business_of_the_api_server():
    assert "additionalProperties" not in crd.structural(Closed)


class EitherOr(ApiModel):
    """Says more than which fields are required."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"properties": {"a": {"type": "integer"}}}]})

    name: str = Field(max_length=3)


ATOMIC = {"x-kubernetes-list-type": "atomic"}


@pytest.mark.parametrize(
    ("annotation", "field", "message"),
    [
        (str, {}, "Holder.held: maxLength is missing"),
        (str | None, {}, "Holder.held: maxLength is missing"),
        (list[int], {"json_schema_extra": ATOMIC}, "Holder.held: maxItems is missing"),
        (list[int], {"max_length": 3}, "Holder.held: x-kubernetes-list-type is missing"),
        (list[str], {"max_length": 3, "json_schema_extra": ATOMIC}, r"Holder.held\[\]: maxLength is missing"),
        (dict[str, int], {}, "Holder.held: maxProperties is missing"),
        (dict[str, Any], {"max_length": 3}, "Holder.held: x-kubernetes-preserve-unknown-fields is missing"),
        (Any, {}, "Holder.held: type None"),
        (float, {}, "Holder.held: type 'number'"),
        (int | str, {}, "Holder.held: only a plain type or None"),
        (int | Line | None, {}, "Holder.held: only a plain type or None"),
        (Literal["a"], {}, "Holder.held: no structural schema can say const"),
        (Annotated[int, Field(gt=1)], {}, "Holder.held: no structural schema can say exclusiveMinimum"),
        (tuple[int, int], {}, "Holder.held: no structural schema can say prefixItems"),
        (Node, {}, "Holder.held.child: Node contains itself"),
        (EitherOr, {}, "Holder.held: oneOf may say only which fields are required"),
        (int, {"json_schema_extra": {"x-kubernetes-embedded-resource": True}}, "x-kubernetes-embedded-resource"),
        (int, {"json_schema_extra": {"x-kubernetes-int-or-string": True}}, "x-kubernetes-int-or-string"),
    ],
)
def test_what_cannot_be_said_is_an_error(annotation, field, message):
    with pytest.raises(crd.UntranslatableError, match=message):
        made(annotation, **field)


def test_check_fails_on_drift_and_shows_it(tmp_path, capsys):
    assert crd.main(["--check", str(tmp_path)]) == 1
    assert crd.main([str(tmp_path)]) == 0
    assert crd.main(["--check", str(tmp_path)]) == 0
    capsys.readouterr()
    path = tmp_path / crd.FILE_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("maxItems: 64", "maxItems: 65"), encoding="utf-8")
    assert crd.main(["--check", str(tmp_path)]) == 1
    assert "maxItems: 65\n" in capsys.readouterr().err
    assert "maxItems: 65" in path.read_text(encoding="utf-8")
