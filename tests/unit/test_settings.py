"""What the settings refuse when they are read, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skill_operator.settings import SettingsError, load

IMAGES = {"runtime": "r@sha256:1", "checker": "c@sha256:1", "builder": "b:1", "operator": "o:1"}


def written(folder: Path, **model: str) -> Path:
    endpoint = {"name": "main", "baseURL": "https://model.example/v1", "model": "m-1"} | model
    file = folder / "settings.json"
    file.write_text(json.dumps({"images": IMAGES, "models": [endpoint]}))
    return file


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"baseURL": "http://inference.models.svc:8000/v1/"},
        {"baseURL": "https://[2001:db8::1]:8443/v1"},
        {"baseURL": "https://r.openai.azure.com/openai/v1/"},
        {"baseURL": "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21", "authHeader": "api-key"},
        {"baseURL": "https://gateway.example/completions/v1"},
        {"proxy": "http://proxy.example:3128"},
        {"proxy": "https://me:secret@proxy.example:3128/"},
        {"caFile": "/etc/ca.crt"},
    ],
    ids=str,
)
def test_endpoints_that_may_work_are_taken(model: dict[str, str], tmp_path: Path) -> None:
    assert load(written(tmp_path, **model)).models[0].name == "main"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"baseURL": "model.example/v1"}, "no http or https URL"),
        ({"baseURL": "ftp://model.example/v1"}, "no http or https URL"),
        ({"baseURL": "https:///v1"}, "no http or https URL"),
        ({"baseURL": "https://model.example/v1 "}, "no http or https URL"),
        ({"baseURL": "http://["}, "is no URL"),
        ({"baseURL": "http://model.example:99999/v1"}, "is no URL"),
        ({"baseURL": "https://model.example/v1/chat/completions"}, "ends with /chat/completions: leave that out"),
        ({"baseURL": "https://model.example/v1/completions/"}, "ends with /completions"),
        ({"baseURL": "https://model.example/v1/responses"}, "ends with /responses"),
        ({"baseURL": "https://model.example/v1/chat/completions?api-version=1"}, "ends with /chat/completions"),
        ({"baseURL": "https://model.example/v1#here"}, "fragment"),
        ({"baseURL": "https://r.openai.azure.com/openai/deployments/d"}, "append ?api-version="),
        ({"authHeader": "Host"}, "header of HTTP itself"),
        ({"authHeader": "content-length"}, "header of HTTP itself"),
        ({"authHeader": "api key"}, "authHeader"),
        ({"proxy": "socks5://proxy.example:1080"}, "SOCKS is not spoken"),
        ({"proxy": "proxy.example:3128"}, "proxy is no http or https URL"),
        ({"proxy": "http://proxy.example/path"}, "proxy is no http or https URL"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_in_words(model: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, **model))
    assert words in str(caught.value)
    assert "main" in str(caught.value) or "authHeader" in str(caught.value)
