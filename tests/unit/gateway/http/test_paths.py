"""A path has one way to write its slashes."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from skill_operator.gateway.http.protocol import _parse_skill_key

SLASHES = st.sampled_from(["/", "//", "%2F", "%2f", "/%2F", "/./"])
plain = st.from_regex("[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)


def spelled(name: str, escaped: bool) -> str:
    return "".join(f"%{ord(character):02X}" for character in name) if escaped else quote(name)


@given(
    st.lists(SLASHES, min_size=4, max_size=4),
    st.sampled_from(["", "/", "//", "%2F"]),
    plain,
    plain,
    st.booleans(),
    st.sampled_from(["", "?a=%2F", "?"]),
)
def test_a_call_is_one_path_with_or_without_a_slash_at_its_end(
    slashes: list[str], end: str, namespace: str, name: str, escaped: bool, query: str
) -> None:
    parts = ["v1", "skills", spelled(namespace, escaped), spelled(name, escaped)]
    path = "".join(slash + part for slash, part in zip(slashes, parts, strict=True)) + end + query
    is_call = slashes == ["/"] * 4 and end in {"", "/"}
    assert _parse_skill_key(path.encode()) == ((namespace, name) if is_call else None)
