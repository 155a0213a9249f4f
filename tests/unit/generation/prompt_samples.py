"""Five Skills of different shapes, and the manifest of a base image, as prompts see them."""

from __future__ import annotations

from typing import Any, Final

VERSIONS: Final = {
    "annotated-types": "0.8.0", "beautifulsoup4": "4.15.0", "certifi": "2026.10.18", "charset-normalizer": "3.5.2",
    "et_xmlfile": "2.0.0", "h11": "0.16.0", "idna": "3.20", "jinja2": "3.1.6", "jsonschema_rs": "0.60.3",
    "lxml": "6.1.3", "MarkupSafe": "3.0.4", "numpy": "2.5.5", "openpyxl": "3.1.5", "pandas": "3.1.1",
    "pydantic": "2.14.3", "pydantic_core": "2.50.4", "python-dateutil": "4.0.0", "PyYAML": "6.0.3",
    "requests": "2.34.2", "soupsieve": "4.1.2", "tabulate": "0.10.0", "typing_extensions": "4.16.0",
    "typing-inspection": "0.4.5", "tzdata": "2026.6", "urllib3": "2.8.0",
}  # fmt: skip
MODULES: Final = {
    "annotated_types": "annotated-types", "bs4": "beautifulsoup4", "certifi": "certifi", "idna": "idna",
    "charset_normalizer": "charset-normalizer", "dateutil": "python-dateutil", "et_xmlfile": "et_xmlfile",
    "jinja2": "jinja2", "lxml": "lxml", "markupsafe": "MarkupSafe", "numpy": "numpy", "openpyxl": "openpyxl",
    "pandas": "pandas", "pydantic": "pydantic", "pydantic_core": "pydantic_core", "requests": "requests",
    "soupsieve": "soupsieve", "tabulate": "tabulate", "typing_extensions": "typing_extensions",
    "typing_inspection": "typing-inspection", "tzdata": "tzdata", "urllib3": "urllib3", "yaml": "PyYAML",
}  # fmt: skip
LIBRARIES: Final = [
    "bs4", "dateutil", "jinja2", "lxml", "numpy", "openpyxl", "pandas", "pydantic", "requests", "tabulate", "yaml",
]  # fmt: skip
MANIFEST: Final[dict[str, Any]] = {
    "python": "3.13.9",
    "distributions": VERSIONS,
    "modules": MODULES,
    "libraries": LIBRARIES,
    "standard": ["collections", "csv", "json", "math", "re"],
}
_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer", "minimum": 0}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


def _examples(*pairs: Any) -> list[dict[str, Any]]:
    """Return examples of inputs and outcomes; the name of an exception is an error."""
    return [
        {"name": f"case-{number}", "input": given} | ({"error": got} if isinstance(got, str) else {"output": got})
        for number, (given, got) in enumerate(pairs, 1)
    ]


INVOICE: Final[dict[str, Any]] = {
    "description": "Compute the total of an invoice.\n\nSum quantity times price over all lines, subtract the discount "
    "(a share of the sum), and round once, half up to cents. An invoice without lines is refused.",
    "input": _object(
        ["lines"],
        lines={"type": "array", "items": _object(["qty", "price"], qty=_NUMBER | {"minimum": 0}, price=_NUMBER)},
        discount=_NUMBER | {"minimum": 0, "maximum": 1, "default": 0},
    ),
    "output": _object(["total"], total=_NUMBER),
    "examples": _examples(
        ({"lines": [{"qty": 2, "price": 1.5}]}, {"total": 3.0}),
        ({"lines": [{"qty": 1, "price": 100}], "discount": 0.1}, {"total": 90.0}),
        ({"lines": []}, "ValueError"),
    ),
}
SLUG: Final[dict[str, Any]] = {
    "description": "Turn a title into a slug: lower case, letters and digits of ASCII, words joined by a hyphen.",
    "input": _object(["title"], title={"type": "string"}),
    "output": _object(["slug"], slug={"type": "string"}),
    "examples": _examples(({"title": "Hello, World"}, {"slug": "hello-world"}), ({"title": "a  b"}, {"slug": "a-b"})),
}
STATISTICS: Final[dict[str, Any]] = {
    "description": "Describe one column of a CSV file with pandas. Refuse the call if there is no such column, or if "
    "any value of it is not a number. Empty values count for nothing but `missing`.",
    "input": _object(["csv", "column"], csv={"type": "string"}, column={"type": "string", "minLength": 1}),
    "output": _object(["count", "missing", "mean"], count=_COUNT, missing=_COUNT, mean=_NUMBER),
    "examples": _examples(
        ({"csv": "name,age\nAda,36\nAlan,41\n", "column": "age"}, {"count": 2, "missing": 0, "mean": 38.5}),
        ({"csv": "a,b\n1,2\n", "column": "c"}, "ValueError"),
    ),
}
RATES: Final[dict[str, Any]] = {
    "description": "Fetch the exchange rate of a currency from https://rates.example.com/v1/{code} with the token in "
    "the secret, and convert the amount.",
    "input": _object(["code", "amount"], code={"type": "string", "pattern": "^[A-Z]{3}$"}, amount=_NUMBER),
    "output": _object(["converted"], converted=_NUMBER),
    "deterministic": False,
    "egress": [{"host": "rates.example.com", "ports": [443]}],
    "secrets": [{"name": "token", "secretKeyRef": {"name": "rates", "key": "token"}}],
}
TREE: Final[dict[str, Any]] = {
    "description": "Return how many nodes a tree has, and how deep it is.",
    "input": {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
        "$defs": {
            "node": _object(
                ["name"], name={"type": "string"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}}
            )
        },
    },
    "output": _object(["nodes", "depth"], nodes=_COUNT, depth=_COUNT),
    "examples": _examples(
        ({"root": {"name": "a"}}, {"nodes": 1, "depth": 1}),
        ({"root": {"name": "a", "children": [{"name": "b"}]}}, {"nodes": 2, "depth": 2}),
    ),
}
SKILLS: Final[dict[str, dict[str, Any]]] = {
    "invoice": INVOICE,
    "slug": SLUG,
    "statistics": STATISTICS,
    "rates": RATES,
    "tree": TREE,
}
