"""Read what an endpoint says when it gives no answer: under a status that tells so, or under 200.

There is no standard. The shapes below are those of OpenAI, Azure, Gemini, Mistral, vLLM, llama.cpp, TGI, of FastAPI's
validation and of gateways that wrap another endpoint's words. All functions are pure, and take foreign values.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypedDict

MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_CODE_CHARACTERS: Final = 64
MAX_NESTED_ERRORS: Final = 8  # levels of objects and lists: a gateway wraps the words of a server behind it
MAX_LISTED_ERRORS: Final = 4
_TITLE: Final = re.compile(r"<title>([^<]{1,200})", re.IGNORECASE)
_STATUS_OF_CODE: Final = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "insufficient_credits": 402,
    "insufficient_balance": 402,
    "payment_required": 402,
    "invalid_api_key": 401,
    "invalid_authentication_error": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "forbidden": 403,
    "unsupported_country_region_territory": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "not_found": 404,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "unsupported_parameter": 400,
    "unsupported_value": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "badrequesterror": 400,
}
_NO_CREDIT: Final = re.compile(
    r"insufficient[ _-]?(quota|credit|balance|fund)|credit balance|current quota|billing[ _]hard[ _]limit|"
    r"(account|credits?|balance) (is|are|has been) (suspended|exhausted|depleted|used up)",
    re.IGNORECASE,
)
_FILTERED: Final = re.compile(
    r"content[ _]?filter|content management policy|content_policy|responsibleai", re.IGNORECASE
)


class EndpointError(TypedDict):
    """EndpointError is what went wrong in the endpoint's own words.

    `status` is the HTTP status, or the one that the error's code stands for; 500 where it stands for none. `code` may
    be empty.
    """

    status: int
    code: str
    message: str


def read_error(value: Any, status: int = 0) -> EndpointError:
    """Return the error in a decoded body, or in a part of one. `status`: that of the response, if it tells an error."""
    codes, words = list[str](), list[str]()
    _collect(value, codes, words, MAX_NESTED_ERRORS)
    code = next((code for code in codes if not code.isdecimal()), "")
    found = status or next((number for number in map(_status_of, codes) if number), 500)
    message = "; ".join(dict.fromkeys(filter(None, words))) or code
    return {"status": found, "code": code[:MAX_CODE_CHARACTERS], "message": message[:MAX_MESSAGE_CHARACTERS]}


def is_out_of_credit(error: EndpointError) -> bool:
    """Return whether nobody has paid for more: to wait helps only once somebody has."""
    return error["status"] == 402 or _NO_CREDIT.search(f"{error['code']} {error['message']}") is not None


def is_filtered(error: EndpointError) -> bool:
    """Return whether the endpoint's content filter refused the prompt."""
    return error["status"] in {400, 403, 422} and _FILTERED.search(f"{error['code']} {error['message']}") is not None


def _status_of(code: str) -> int:
    if code.isdecimal() and len(code) == 3 and 400 <= int(code) <= 599:
        return int(code)
    return _STATUS_OF_CODE.get(code.lower(), 0)


def _collect(value: Any, codes: list[str], words: list[str], levels: int) -> None:
    """Append the codes and the words of an error, the outer ones first."""
    if isinstance(value, str):
        words.append(_plain(value))
    elif isinstance(value, list) and levels:
        for item in value[:MAX_LISTED_ERRORS]:
            _collect(item, codes, words, levels - 1)
    elif isinstance(value, dict) and levels:
        codes.extend(str(value[key]) for key in ("code", "type", "status") if isinstance(value.get(key), str | int))
        if isinstance(value.get("loc"), list):  # one problem that FastAPI's validation found
            place = ".".join(str(step) for step in value["loc"][:8])
            words.append(f"{place}: {value.get('msg')}")
            return
        for key in ("error", "message", "msg", "detail", "details", "errors", "title", "reason"):
            if key in value:
                _collect(value[key], codes, words, levels - 1)
        if isinstance(parameter := value.get("param"), str) and not any(parameter in text for text in words):
            words.append(parameter)
        if isinstance(metadata := value.get("metadata"), dict):  # of a gateway: what the server behind it wrote
            _collect(metadata.get("raw"), codes, words, levels - 1)


def _plain(text: str) -> str:
    """Return the text, or the title of a web page."""
    text = text[: 4 * MAX_MESSAGE_CHARACTERS].strip()
    if not text.startswith("<"):
        return text
    title = _TITLE.search(text)
    return title[1].strip() if title else ""
