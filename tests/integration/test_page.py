"""The page for people in a real browser, on the real cluster: by mouse and keyboard, wide and narrow, and by axe.

With SCREENSHOTS=FOLDER the tests also write the pictures that the README and the documentation show.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from hack.cluster import packages
from tests.integration.installed import Operator, until

pytestmark = pytest.mark.cluster
CHROMIUM = "/usr/bin/chromium"
OPTIONS = (
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, NARROW = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
MADE_SECONDS = 150  # until a Skill is written, checked, built and runs, on a machine that others use
PICTURES = os.environ.get("SCREENSHOTS", "")

LINE = {
    "type": "object",
    "properties": {"quantity": {"type": "integer"}, "price": {"type": "number"}},
    "required": ["quantity", "price"],
}
TOTAL: dict[str, Any] = {
    "input": {
        "type": "object",
        "properties": {
            "customer": {"type": "string", "maxLength": 60, "description": "Who pays, as the invoice names them."},
            "lines": {"type": "array", "items": LINE, "description": "What was bought: quantity and unit price."},
            "currency": {"enum": ["EUR", "USD", "GBP"]},
        },
        "required": ["customer", "lines", "currency"],
    },
    "output": {
        "type": "object",
        "properties": {"customer": {"type": "string"}, "total": {"type": "string"}},
        "required": ["customer", "total"],
    },
    "examples": [
        {
            "name": "two-lines",
            "input": {
                "customer": "Ada Lovelace",
                "lines": [{"quantity": 2, "price": 1.5}, {"quantity": 1, "price": 4}],
                "currency": "EUR",
            },
            "output": {"customer": "Ada Lovelace", "total": "7.00 EUR"},
        },
        {
            "name": "nothing",
            "input": {"customer": "Bob", "lines": [], "currency": "USD"},
            "output": {"customer": "Bob", "total": "0.00 USD"},
        },
    ],
}
FIRST = """
def run(input: dict) -> dict:
    total = sum(line["quantity"] * line["price"] for line in input["lines"])
    return {"customer": input["customer"], "total": f"{total} {input['currency']}"}
"""
SECOND = '''
from decimal import Decimal


def run(input: dict) -> dict:
    """Add up an invoice in exact decimals."""
    total = Decimal(0)
    for line in input["lines"]:
        total += line["quantity"] * Decimal(str(line["price"]))
    return {"customer": input["customer"], "total": f"{total:.2f} {input['currency']}"}
'''
WORDS = "Round to <b>two</b> decimals before you write them."
THIRD = SECOND.replace("{total:.2f}", "{round(total, 2):.2f}")
OTHERS = {
    "csv-stats": "Finds minimum, maximum and mean of each column of a CSV text.",
    "slug": "Turns a title into a short name for a URL.",
    "vat-id": "Checks the format of a European VAT number.",
}
ECHO = 'def run(input: dict) -> dict:\n    return {"said": input["what"]}\n'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    packages.ensure(packages.BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def namespace(operator: Operator) -> Iterator[str]:
    """A namespace of the test's own; in pictures it has a name that people would give."""
    if PICTURES:
        operator.cluster.kubectl("delete", "namespace", "shop", "--ignore-not-found")
        operator.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        yield "shop"
        operator.cluster.kubectl("delete", "namespace", "shop", "--wait=false")
        return
    with operator.cluster.namespace("page") as name:
        yield name


@contextmanager
def opened(browser: Browser, operator: Operator, token: str = "", **options: Any) -> Iterator[Page]:
    """A page of a new session, signed in with the token where one is given; it must log no error of its own."""
    errors: list[str] = []
    context: BrowserContext = browser.new_context(
        base_url=operator.url, ignore_https_errors=True, **({"viewport": WIDE} | options)
    )
    try:
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        if token:
            page.goto("/ui")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Skills")
        yield page
        assert errors == []
    finally:
        context.close()


def open_skill(page: Page, path: str) -> None:
    """Open the page of a Skill, of which the gateway may not have heard yet."""

    def is_there() -> bool:
        page.goto(path)
        return page.locator("h1").inner_text() != "Skill not found"

    until(f"{path} is there", 30, is_there)


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.evaluate("scrollTo(0, 0)")
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=f"{PICTURES}/page-{name}.png")


def judge(page: Page) -> None:
    """Neither axe finds anything, nor does the page scroll sideways, wide or narrow."""
    found = Axe().run(page).response["violations"]
    assert found == [], [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    for size in (NARROW, WIDE):
        page.set_viewport_size(size)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{page.url} is {width} px wide"


def audience(operator: Operator) -> str:
    """The API server's own audience, as each of its tokens has it."""
    operator.cluster.kubectl("-n", "default", "get", "serviceaccount", "default")
    payload = operator.cluster.kubectl("-n", "default", "create", "token", "default").split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"][0])


def person(operator: Operator, namespace: str, name: str, *rules: dict[str, Any], both: bool = True) -> str:
    """The token of a ServiceAccount that may call the namespace's Skills and do what the rules say."""
    cluster = operator.cluster
    cluster.caller(namespace, name)
    kind = "rbac.authorization.k8s.io"
    meta = {"name": f"{name}-more", "namespace": namespace}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": kind, "kind": "Role", "name": meta["name"]}
    if rules:
        cluster.apply(
            {"apiVersion": f"{kind}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
            {
                "apiVersion": f"{kind}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": reference,
                "subjects": [subject],
            },
        )
    audiences = ["skill-gateway", *([audience(operator)] if both else [])]
    wanted = [f"--audience={one}" for one in audiences]
    return cluster.kubectl("-n", namespace, "create", "token", name, "--duration=1h", *wanted).strip()


READ = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
SKILLS = {"apiGroups": ["skill-operator.dev"], "resources": ["skills"], "verbs": ["get", "patch"]}
APPROVE = {"apiGroups": ["skill-operator.dev"], "resources": ["skills/approval"], "verbs": ["update"]}


def apply(operator: Operator, namespace: str, name: str, **spec: Any) -> None:
    body = {"apiVersion": "skill-operator.dev/v1alpha1", "kind": "Skill", "metadata": {"name": name}, "spec": spec}
    operator.cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(body))


def invoice(operator: Operator, namespace: str) -> None:
    """Have a model write it: its first program is refused, its second passes and waits for a person, as the third does."""
    words = f"Add up the lines of an invoice, in namespace {namespace}."
    usage = {"prompt_tokens": 700, "completion_tokens": 180}
    replies = [{"text": f"```python{code}```", "usage": usage} for code in (FIRST, SECOND, THIRD)]
    operator.script({words: replies})
    summary = "Adds up the lines of an invoice, to two decimals and with its currency."
    generation = {"secondOpinion": "Never"}
    apply(
        operator,
        namespace,
        "invoice-total",
        description=words,
        summary=summary,
        review="Manual",
        generation=generation,
        **TOTAL,
    )


def pinned(operator: Operator, namespace: str, name: str, summary: str) -> None:
    text = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    said = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    examples = [{"name": "echo", "input": {"what": "hi"}, "output": {"said": "hi"}}]
    spec = {"input": text, "output": said, "examples": examples, "source": {"inline": ECHO}}
    apply(operator, namespace, name, description=summary, **spec)


def test_a_person_follows_approves_and_tries_a_skill(  # noqa: PLR0915 - it is one way through all pages
    operator: Operator, namespace: str, browser: Browser
) -> None:
    token = person(operator, namespace, "ada", READ, SKILLS, APPROVE)
    others = OTHERS if PICTURES else {}
    for name, summary in others.items():
        pinned(operator, namespace, name, summary)
    invoice(operator, namespace)
    path = f"/ui/skills/{namespace}/invoice-total"
    with opened(browser, operator, token, color_scheme="light") as page:
        open_skill(page, path)
        # The page follows by itself until a person is needed.
        decision = page.get_by_role("heading", name="Your decision is needed")
        expect(decision).to_be_visible(timeout=MADE_SECONDS * 1000)
        expect(page.get_by_text("refused by examples")).to_be_visible()
        attempts = page.locator("section[aria-labelledby=attempts-title]")
        expect(attempts.locator("details")).to_have_count(2)
        attempts.get_by_text("Attempt 2").click()
        expect(attempts.locator(".diff .add").first).to_contain_text("+")
        expect(page.get_by_role("region", name="skill.py")).to_contain_text("Add up an invoice in exact decimals.")
        judge(page)
        picture(page, "approve")
        attempts.get_by_role("link", name="Its code").nth(0).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Attempt 2")
        judge(page)

        page.goto(path)
        page.get_by_label("What is wrong with it, for the model").fill(WORDS)
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_role("alert")).to_contain_text("You rejected it")
        expect(attempts.locator("details")).to_have_count(3, timeout=MADE_SECONDS * 1000)
        expect(decision).to_be_visible(timeout=MADE_SECONDS * 1000)
        expect(page.get_by_role("region", name="skill.py")).to_contain_text("round(total, 2)")
        asked = operator.asked(f"in namespace {namespace}.")
        assert len(asked) == 3
        assert WORDS in asked[2]["body"]["messages"][-1]["content"]

        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("alert")).to_contain_text("You approved it")
        chip = page.locator(".title-row .chip")
        expect(chip).to_have_text("Awake", timeout=MADE_SECONDS * 1000)
        stored = operator.skill(namespace, "invoice-total")
        me = f"system:serviceaccount:{namespace}:ada"
        assert stored["metadata"]["annotations"]["skill-operator.dev/approved-by"] == me
        assert stored["status"]["review"]["by"] == me

        page.goto(path)
        page.get_by_label("Who pays").or_(page.get_by_label("customer")).first.fill("Grace Hopper")
        page.get_by_role("button", name="Call it").first.click()
        answer = page.locator("#outcome .answer")
        expect(answer).to_contain_text("Grace Hopper")
        expect(answer).to_contain_text("7.00 EUR")
        expect(page.locator("#outcome")).to_contain_text("none: it was awake")
        judge(page)
        picture(page, "skill")

        operator.cluster.kubectl("-n", namespace, "scale", "deployment/skill-invoice-total", "--replicas=0")
        page.reload()
        expect(chip).to_have_text("Asleep", timeout=60_000)
        page.get_by_role("button", name="Call it").first.click()
        expect(page.locator("#outcome .answer")).to_contain_text("7.00 EUR", timeout=60_000)
        expect(page.locator("#outcome .facts")).to_contain_text(" ms")
        expect(page.locator("#outcome .facts")).not_to_contain_text("it was awake")

        for name in others:
            operator.ready(namespace, name)
        page.goto("/ui")
        expect(page.get_by_role("link", name="invoice-total")).to_be_visible()
        judge(page)
        picture(page, "list")
        page.get_by_role("searchbox").fill("add up what was bought")
        page.get_by_role("searchbox").press("Enter")
        expect(page.get_by_role("link", name="invoice-total")).to_be_visible()
        judge(page)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto(path)
        expect(page.get_by_label("Token")).to_be_visible()
    if PICTURES:
        with opened(browser, operator, token, color_scheme="dark", viewport=NARROW) as page:
            page.goto(path)
            picture(page, "narrow")


def test_who_may_only_call_sees_no_code_and_decides_nothing(
    operator: Operator, namespace: str, browser: Browser
) -> None:
    pinned(operator, namespace, "echo", "Says what it is told.")
    reader = person(operator, namespace, "reader", READ, SKILLS)
    caller = person(operator, namespace, "caller")
    gateway_only = person(operator, namespace, "caller", both=False)
    operator.ready(namespace, "echo")
    path = f"/ui/skills/{namespace}/echo"
    for token, text in ((caller, "You may not get configmaps"), (gateway_only, "it is for the gateway alone")):
        with opened(browser, operator, token) as page:
            open_skill(page, path)
            expect(page.locator("section[aria-labelledby=code-title]")).to_contain_text(text)
            assert "def run" not in page.content()
            judge(page)
    with opened(browser, operator, reader) as page:
        page.goto(path)
        expect(page.get_by_role("region", name="skill.py")).to_contain_text("def run(input: dict)")
        page.goto("/ui/skills/kube-system/nothing")
        expect(page.get_by_role("heading", level=1)).to_have_text("Skill not found")
        judge(page)
    with opened(browser, operator) as page:
        page.goto("/ui/sign-in")
        judge(page)
        picture(page, "sign-in")
        page.get_by_label("Token").fill("not-a-token")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.context.cookies() == []


def test_a_keyboard_and_no_script_are_enough(operator: Operator, namespace: str, browser: Browser) -> None:
    pinned(operator, namespace, "echo", "Says what it is told.")
    token = person(operator, namespace, "ada", READ, SKILLS)
    operator.ready(namespace, "echo")

    def focused(page: Page) -> str:
        return str(page.evaluate("(document.activeElement.innerText || document.activeElement.id || '').trim()"))

    with opened(browser, operator, viewport=NARROW) as page:
        page.goto("/ui")
        assert focused(page) == "token"
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Skills")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if focused(page).startswith("echo"):
                break
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("echo")
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused(page) == "Call it":
                break
        page.keyboard.press("Enter")
        expect(page.locator("#outcome .answer")).to_contain_text('"said": "hi"')
    with opened(browser, operator, token, java_script_enabled=False) as page:
        page.goto(f"/ui/skills/{namespace}/echo")
        page.get_by_label("what", exact=True).fill("plain HTML")
        page.get_by_role("button", name="Call it").first.click()
        expect(page.locator("#outcome .answer")).to_contain_text("plain HTML")
