"""What is found in a spec, where, and in which words; and that no stranger breaks or stalls the search."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.api.validation import MAX_PROBLEMS, problems, read_spec
from skill_operator.untrusted.json_schema import DRAFT

INPUT = {
    "type": "object",
    "properties": {
        "lines": {"type": "array", "items": {"type": "object", "properties": {"qty": {"type": "number"}}}},
        "note": {"type": ["string", "null"]},
    },
    "required": ["lines"],
    "additionalProperties": False,
}
OUTPUT = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
GOOD = {"name": "good", "input": {"lines": []}, "output": {"total": 0}}


def spec(**fields):
    return SkillSpec.model_validate(
        {"description": "Sum.", "input": INPUT, "output": OUTPUT, "examples": [GOOD]} | fields
    )


def said(**fields):
    return [str(problem) for problem in problems(spec(**fields))]


def examples(*made):
    """Examples that differ in input, unless they say otherwise."""
    return [
        {"name": f"e{index}", "input": {"lines": [{"qty": index}]}} | fields for index, fields in enumerate(made)
    ]  # fmt: skip


def test_a_good_spec_has_no_problem():
    assert said() == []
    assert said(examples=[]) == []


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"input": {"lines": [{"qty": "x"}]}, "output": {"total": 1}}, '.input.lines[0].qty: "x" is not a number'),
        ({"input": {"lines": 7}, "output": {"total": 1}}, ".input.lines: 7 is not an array"),
        ({"input": {"lines": [], "note": 1}, "output": {"total": 1}}, ".input.note: 1 is not a null or string"),
        ({"input": {}, "output": {"total": 1}}, '.input: "lines" is missing'),
        ({"input": [], "output": {"total": 1}}, ".input: [] is not an object"),
        ({"input": None, "output": {"total": 1}}, ".input: null is not an object"),
        (
            {"input": {"lines": [], "x": 1}, "output": {"total": 1}},
            ".input: Additional properties are not allowed ('x' was unexpected)",
        ),
        ({"input": {}, "error": "ValueError"}, '.input: "lines" is missing, so the schema refuses it, not the code'),
        ({"output": {"total": True}}, ".output.total: true is not a number"),
        ({"output": {"total": None}}, ".output.total: null is not a number"),
        ({"output": None}, ".output: null is not an object"),
        ({"output": {}}, '.output: "total" is missing'),
        ({}, ": needs an output or an error"),
        (
            {"output": {"total": 1}, "error": "ValueError"},
            ": has both an output and an error; one call has one outcome",
        ),
        ({"error": "print"}, ".error: print is no name of an exception class, such as ValueError"),
        ({"error": "None"}, ".error: None is no name of an exception class, such as ValueError"),
        ({"error": "lambda"}, ".error: lambda is no name of an exception class, such as ValueError"),
        (
            {"error": "SystemExit"},
            ".error: SystemExit ends the program; a call may raise only what derives from Exception",
        ),
    ],
)
def test_a_bad_example(example, message):
    found = said(
        examples=[GOOD, GOOD | {"name": "better", "input": {"lines": [{"qty": 1}]}}, *examples({}, {}, example)[2:]]
    )
    assert found[0] == f"spec.examples[2]{message}"


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "IOError", "MyOwnError", "json_Error"])
def test_errors_that_code_may_raise(error):
    assert said(examples=examples({"error": error})) == []


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ({"output": {"total": 1}}, {"output": {"total": 1.0}}, False),
        ({"output": {"total": 1}}, {"output": {"total": 2}}, True),
        ({"output": {"total": 1}}, {"error": "ValueError"}, True),
        ({"error": "ValueError"}, {"error": "KeyError"}, True),
        ({"error": "ValueError"}, {"error": "ValueError"}, False),
        ({"input": {"lines": [{"qty": 1.0}]}, "output": {"total": 1}}, {"output": {"total": 2}}, True),
        ({"input": {"lines": [], "note": None}, "output": {"total": 1}}, {"output": {"total": 2}}, False),
    ],
)
def test_contradictions(one, other, contradict):
    same = {"input": {"lines": [{"qty": 1}]}}
    found = said(examples=examples({"output": {"total": 0}}, same | one, same | other)) if contradict else said(
        examples=[{"name": "a"} | same | one, {"name": "b"} | same | other]
    )  # fmt: skip
    expected = (
        ["spec.examples[2]: contradicts spec.examples[1] (e1): same input, another outcome"] if contradict else []
    )
    assert found == expected


def test_true_is_not_one():
    free = {"type": "object"}
    pair = [{"name": "a", "input": {"x": 1}, "output": {}}, {"name": "b", "input": {"x": True}, "output": {"y": 1}}]
    assert said(input=free, output=free, examples=pair) == []
    pair[1]["input"]["x"] = 1.0
    assert len(said(input=free, output=free, examples=pair)) == 1


def test_repeated_names():
    grant = {"name": "key", "secretKeyRef": {"name": "s", "key": "k"}}
    assert said(examples=[GOOD, GOOD], secrets=[grant, grant]) == [
        "spec.examples[1].name: good is the name of spec.examples[0] too",
        "spec.secrets[1].name: key is the name of spec.secrets[0] too",
    ]


def test_a_description_must_say_something():
    assert said(description=" \n\t") == ["spec.description: says nothing"]


def nested(depth, key="not"):
    return json.loads(f'{{"{key}":' * depth + "{}" + "}" * depth)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, ".type: must be object: the body of a call is a JSON object"),
        ({"type": "array"}, ".type: must be object: the body of a call is a JSON object"),
        ({"type": ["object", "null"]}, ".type: must be object: the body of a call is a JSON object"),
        (
            {"type": "dict"},
            ".type: is no type: array, boolean, integer, null, number, object, string, or a list of these",
        ),
        ({"type": "object", "required": "a"}, '.required: "a" is not of type "array"'),
        ({"type": "object", "required": [False]}, '.required[0]: false is not of type "string"; YAML reads y, n, yes'),
        ({"type": "object", "description": True}, '.description: true is not of type "string"; YAML reads y, n, yes'),
        ({"properties": {"a b": {"minimum": "x"}}}, '.properties["a b"].minimum: "x" is not of type "number"'),
        ({"properties": {"a": {"items": [{}]}}}, ".properties.a.items: "),
        ({"properties": {"a": {"pattern": "("}}}, '.properties.a.pattern: "(" is not a "regex"'),
        ({"patternProperties": {"(": {}}}, '.patternProperties["("]: "(" is not a "regex"'),
        ({"$ref": "http://203.0.113.1/x"}, '.$ref: "http://203.0.113.1/x" leaves this schema; only references such'),
        ({"$ref": "file:///etc/passwd"}, '.$ref: "file:///etc/passwd" leaves this schema'),
        ({"$ref": "other.json#/a"}, '.$ref: "other.json#/a" leaves this schema'),
        ({"$ref": "#anchor"}, '.$ref: "#anchor" leaves this schema'),
        ({"$ref": 7}, ".$ref: 7 leaves this schema"),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}},
            '.properties.a.$ref: "#/$defs/b" points at nothing that is a schema',
        ),
        ({"$ref": "#/title", "title": "x"}, '.$ref: "#/title" points at nothing'),
        ({"$ref": "#/allOf/1", "allOf": [{}]}, '.$ref: "#/allOf/1" points at nothing'),
        ({"$ref": "#/allOf/-1", "allOf": [{}]}, '.$ref: "#/allOf/-1" points at nothing'),
        ({"$ref": "#/allOf/" + "9" * 5000, "allOf": [{}]}, '.$ref: "#/allOf/999'),
        ({"$ref": "#/x/%24ref", "x": {"$ref": "http://a"}}, '.$ref: "#/x/%24ref" points at nothing'),
        ({"$ref": "#/x", "x": {"$ref": "http://203.0.113.1"}}, ".x.$ref: "),
        (
            {"$ref": "#/x", "x": {"$id": "http://203.0.113.1/", "$ref": "#/y"}, "y": {}},
            ".x.$id: only the whole schema may have an $id",
        ),
        ({"not": {"$id": "http://203.0.113.1/"}}, ".not.$id: only the whole schema may have an $id"),
        ({"$dynamicRef": "#a"}, ".$dynamicRef: only plain references are taken"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            f".$schema: only draft 2020-12 ({DRAFT}) is supported",
        ),
        ({"$schema": ["x"]}, ".$schema: only draft 2020-12"),
        (nested(40), ".not.not.not.not: is nested more than 32 levels deep"),
        ({"const": json.loads("[" * 900 + "]" * 900)}, ".const[0][0][0]: is nested more than 32 levels deep"),
        ({"enum": list(range(5000))}, ": is too large: more than 4096 values"),
        ({"title": "\ud800"}, ".title: holds half of a surrogate pair, which is no text"),
        ({"minimum": float("nan")}, ".minimum: is no JSON number"),
        ({"minimum": 10**5000}, ".minimum: is an integer of more than 64 bits"),
        ({"properties": {f"p{i}": {"pattern": "a"} for i in range(65)}}, ".properties.p64: more than 64 patterns"),
        ({"patternProperties": {"a" * 1025: {}}}, ": has a pattern of more than 1024 characters"),
        ({"pattern": "(a{1000}){1000}"}, '.pattern: "(a{1000}){1000}" is too large to compile: use maxLength'),
        ({"pattern": "(?=a)b"}, '.pattern: "(?=a)b" looks around or refers back, which no pattern may'),
        ({"$defs": {"a": {"pattern": r"(a)\1"}}, "not": {"$ref": "#/$defs/a"}}, ".$defs.a.pattern: "),
        (
            {"anyOf": [{"patternProperties": {"(?<!a)b": {}}}]},
            '.anyOf[0].patternProperties["(?<!a)b"]: "(?<!a)b" looks',
        ),
        (
            {"properties": {f"p{i}": {"pattern": rf"^\p{{L}}{{1,{60 + i}}}$"} for i in range(5)}},
            ".properties.p4.pattern: ",
        ),
    ],
)
def test_a_bad_schema(schema, message):
    schema = schema if "type" in schema or not schema else {"type": "object"} | schema
    found = said(input=schema, examples=[])
    assert len(found) == 1
    assert found[0].startswith(f"spec.input{message}")
    if not message.startswith(".type: must be object"):
        assert said(output=schema, examples=[])[0].startswith(f"spec.output{message}")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$schema": DRAFT, "$id": "https://invoices.example/1"},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"type": "object", "properties": {"never": {"const": {"$ref": "http://data.example", "$id": "x"}}}},
        {"type": "object", "properties": {"lines": {"$ref": "#/$defs/a~1b~0c"}}, "$defs": {"a/b~c": {"type": "array"}}},
        {"type": "object", "properties": {"lines": {"items": {"$ref": "#"}}}},
        {"type": "object", "properties": {"lines": {"type": "array", "prefixItems": [{"$ref": "#/properties/lines"}]}}},
        {"type": "object", "properties": {"lines": True, "never": False}},
        {"type": "object", "x-owner": "finance"},
        {"type": "object", "patternProperties": {"^l": {"type": "array"}}},
    ],
)
def test_good_schemas(schema):
    assert said(input=schema) == []


def properties(count, make):
    return {"type": "object", "properties": {f"p{n}": make(n) for n in range(count)}}


@pytest.mark.parametrize(
    ("schema", "where", "more"),
    [
        (properties(3, lambda n: {"pattern": f"(?=a)b{n}"}), ["p0.pattern", "p1.pattern", "p2.pattern"], []),
        (
            {"type": "object", "properties": {"a": {"pattern": "("}, "b": {"$ref": "#/c"}, "d": {"not": {"$id": "x"}}}},
            ["a.pattern", "b.$ref", "d.not.$id"],
            [],
        ),
        (
            properties(9, lambda n: {"pattern": f"(?=a)b{n}"}),
            [f"p{n}.pattern" for n in range(4)],
            ["has 5 more patterns, which are looked at once these are mended"],
        ),
        (properties(5, lambda n: {"$ref": f"#/{n}"}), [f"p{n}.$ref" for n in range(4)], ["has 1 more mistake"]),
        (properties(3, lambda _: {"type": "str"}), [f"p{n}.type" for n in range(3)], []),
        (properties(60, lambda n: n), [f"p{n}" for n in (0, 1, 10, 11)], ["has 56 more mistakes"]),
    ],
)
def test_the_mistakes_of_a_schema_are_told_together(schema, where, more):
    found = said(input=schema, output=schema)
    assert [line.partition(": ")[0] for line in found[: len(where)]] == [f"spec.input.properties.{at}" for at in where]
    assert found[len(where) : len(found) // 2] == [f"spec.input: {words}" for words in more]
    assert [line.replace("spec.output", "spec.input") for line in found[len(found) // 2 :]] == (
        found[: len(found) // 2]
    )  # fmt: skip


def test_a_recursive_schema_is_followed():
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    bad = {"children": [{}, {"children": [{"children": {}}]}]}
    assert said(input=tree, examples=examples({"input": bad, "output": {"total": 1}})) == [
        "spec.examples[0].input.children[1].children[0].children: {} is not an array"
    ]


def test_the_examples_are_not_blamed_for_a_bad_schema():
    assert said(output={"type": "dict"}) == [
        "spec.output.type: is no type: array, boolean, integer, null, number, object, string, or a list of these"
    ]


DOUBLING = {
    "type": "object",
    "$ref": "#/$defs/a0",
    "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)} | {"a60": {}},
}
TWICE = {"properties": {"a": {"$ref": "#"}}}
EXPENSIVE = "spec.examples[0]: checking it takes too much work"


@pytest.mark.parametrize(
    ("schema", "body", "message"),
    [
        (DOUBLING, {}, EXPENSIVE),
        ({"type": "object", "$ref": "#"}, {}, EXPENSIVE),
        ({"type": "object", "not": {"$ref": "#"}}, {}, EXPENSIVE),
        ({"type": "object", "allOf": [TWICE, TWICE]}, nested(30, "a"), EXPENSIVE),
        (
            {"type": "object", "anyOf": [{"minProperties": 10_000 + i} for i in range(1000)]},
            {"a": list(range(10_000))},
            EXPENSIVE,
        ),
        (
            {"type": "object", "properties": {"a": {"pattern": r"^(?:(a|a|aa)+)+\1$"}}},
            {"a": "a" * 5000 + "b"},
            'spec.input.properties.a.pattern: "^(?:(a|a|aa)+)+',
        ),
        ({"type": "object"}, {"a": "x" * 2_000_000}, "spec.examples: are too much together"),
        ({"type": "object"}, {"a": list(range(20_000))}, "spec.examples: are too much together"),
        ({"type": "object"}, nested(40, "a"), "spec.examples[0].input.a.a.a.a: is nested more than 32 levels deep"),
        ({"type": "object"}, {"a": "\ud800"}, "spec.examples[0].input.a: holds half of a surrogate pair"),
        ({"type": "object"}, {"a": float("inf")}, "spec.examples[0].input.a: is no JSON number"),
    ],
    ids=range(11),
)
def test_work_is_bounded(schema, body, message):
    started = time.process_time()
    found = said(input=schema, examples=[{"name": "a", "input": body, "output": {"total": 1}}])
    assert found[0].startswith(message)
    assert time.process_time() - started < 5


def test_many_small_examples_are_affordable():
    many = [
        {"name": f"e{n}", "input": {"lines": [{"qty": i + n} for i in range(80)]}, "output": {"total": n}}
        for n in range(64)
    ]
    assert said(examples=many) == []


@pytest.mark.parametrize(
    ("cidr", "message"),
    [
        ("203.0.113.0/24", None),
        ("203.0.113.7/32", None),
        ("203.0.113.7", None),
        ("0.0.0.0/0", None),
        ("2001:DB8::/32", None),
        ("203.0.113.7/24", "203.0.113.7/24 is an address inside 203.0.113.0/24; write the network or a /32"),
        ("somewhere/8", "somewhere/8 is no network such as 203.0.113.0/24"),
        ("203.0.113.0/33", "203.0.113.0/33 is no network such as 203.0.113.0/24"),
        ("127.0.0.0/8", "127.0.0.0/8 is in 127.0.0.0/8, the node itself: it is never granted"),
        ("::1/128", "::1/128 is in ::/127, the node itself: it is never granted"),
        *(
            (cidr, f"{cidr} is in {network}, credentials of the node: a cloud's metadata service: it is never granted")
            for cidr, network in (("169.254.169.254/32", "169.254.0.0/16"), ("FE80::/10", "fe80::/10"))
        ),
        (
            "224.0.0.0/4",
            "224.0.0.0/4 is in 224.0.0.0/3, no host of the internet: multicast or reserved: it is never granted",
        ),
    ],
)
def test_egress(cidr, message):
    found = said(egress=[{"cidr": cidr, "ports": [443]}])
    assert found == ([] if message is None else [f"spec.egress[0].cidr: {message}"])


NO_HOST = "must be the full name of one host in lower case, such as api.example.com: no address, no wildcard, no dot at the end"
INSIDE = "must be a name of the internet: those of the cluster and of private networks are never granted"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        *((host, None) for host in ("api.example.com", "a.bc", "xn--bcher-kva.example", "a--b.example.xn--p1ai", "1.2.example")),
        ("a." * 125 + "com", None),
        *(
            (host, NO_HOST)
            for host in (
                "example", "api.example.com.", "*.example.com", "API.example.com", "api_1.example.com", "-a.example.com",
                "a-.example.com", "a..com", ".example.com", "203.0.113.10", "127.1", "0x7f.1", "1.2.3.0xa", "2130706433",
                "0177.0.0.01", "[::1]", "api.example.com:443", "http://api.example.com", "user@api.example.com",
                "api.example.com/x", "api.example.com%00", "bücher.example", "api.example.com\n", "a b.example.com",
                "a" * 64 + ".example.com", "localhost", "example.1a",
            )
        ),
        *(
            (host, INSIDE)
            for host in (
                "kubernetes.default.svc", "x.y.svc.cluster.local", "printer.local", "app.localhost", "metadata.google.internal",
                "host.localdomain", "x.intranet", "x.home.arpa", "x.lan", "x.corp", "x.private", "x.onion",
            )
        ),
    ],
)  # fmt: skip
def test_hosts(host, message):
    found = said(egress=[{"host": host, "ports": [443]}])
    if message is None:
        assert found == []
    else:
        (problem,) = found
        assert problem.startswith("spec.egress[0].host: ")
        assert problem.endswith(message)


@pytest.mark.parametrize("way", [{}, {"host": "api.example.com", "cidr": "203.0.113.0/24"}])
def test_a_way_out_is_a_network_or_a_host(way):
    assert said(egress=[way | {"ports": [443]}]) == ["spec.egress[0]: needs a cidr or a host, and not both"]


def test_foreign_text_is_made_printable():
    closed = {"type": "object", "additionalProperties": {"type": "number"}}
    found = said(input=closed, examples=[{"name": "a", "input": {"\u202e\x1b[2J": "\x07"}, "output": {"total": 1}}])
    assert found == ['spec.examples[0].input["\\u202e\\u001b[2J"]: "\\u0007" is not a number']
    closed["additionalProperties"] = False
    found = said(input=closed, examples=[{"name": "a", "input": {"\u202e\x1b[2J": "\x07"}, "output": {"total": 1}}])
    assert len(found) == 1
    assert found[0].isprintable()


def test_at_most_ten_in_the_order_of_the_spec():
    bad = [{"name": f"e{n}", "input": {"lines": [{"qty": "x"}] * 20}, "output": {}} for n in range(20)]
    found = said(examples=bad)
    assert len(found) == MAX_PROBLEMS
    assert found[:4] == [
        *(f'spec.examples[0].input.lines[{n}].qty: "x" is not a number' for n in range(3)),
        'spec.examples[0].output: "total" is missing',
    ]


def test_items_are_in_the_order_of_their_numbers():
    lines = [{"qty": 1}] * 2 + [{"qty": "x"}] + [{"qty": 1}] * 8 + [{"qty": "x"}]
    found = said(examples=examples({"input": {"lines": lines}, "output": {"total": 1}}))
    assert [line.split(":")[0] for line in found] == [f"spec.examples[0].input.lines[{n}].qty" for n in (2, 11)]


@pytest.mark.parametrize(
    ("raw", "paths"),
    [
        (None, ["spec"]),
        ([], ["spec"]),
        ({}, ["spec.description", "spec.input", "spec.output"]),
        (
            {"description": 1, "input": [], "output": None, "examples": [{"name": "A", "input": 1}]},
            ["spec.description", "spec.input", "spec.output", "spec.examples[0].name"],
        ),
        ({"description": "x", "input": {"type": "array"}, "output": {}}, ["spec.input.type"]),
        (
            {"description": "x", "input": {}, "output": {}, "inputs": 1, "callTimeoutSeconds": "30", "suspend": 0},
            ["spec.callTimeoutSeconds", "spec.suspend", "spec.inputs"],
        ),
    ],
)
def test_read_spec(raw, paths):
    assert [problem.path for problem in read_spec(raw)[1]] == paths


# Any JSON, and much that resembles a spec: names of keywords and fields make hits likely.
WORDS = st.sampled_from(
    "description input output examples name error type object properties items $ref # #/$defs/a $defs a allOf not "
    f"pattern ( required $id $schema {DRAFT} const enum prefixItems dependentSchemas".split()
)
TEXT = st.text(st.characters(), max_size=4)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXT, inner, max_size=5),
    max_leaves=25,
)
SCHEMAS = st.dictionaries(WORDS, ANY, max_size=5).map(lambda schema: {"type": "object"} | schema)
EXAMPLES = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]), "input": ANY}, optional={"output": ANY, "error": WORDS}
)
ALIKE = st.fixed_dictionaries(
    {"description": st.text(st.characters(), min_size=1), "input": SCHEMAS, "output": SCHEMAS},
    optional={"examples": st.lists(EXAMPLES, max_size=4)},
)


@given(ANY | ALIKE)
@settings(max_examples=150, deadline=None)
def test_any_json_is_survived(raw):
    read, found = read_spec(raw)
    assert read is not None or found
    assert len(found) <= MAX_PROBLEMS
    for problem in found:
        problem.path.encode()
        problem.message.encode()
        assert len(problem.path) <= 256
        assert len(problem.message) <= 512
    if read is not None:
        assert problems(read) == found
