"""What people see and send on the page, and what those who may not see it learn: nothing."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from jinja2 import Template

from skill_operator import naming
from skill_operator.gateway.ui import page_routes, session
from skill_operator.k8s.errors import Unavailable
from skill_operator.settings import GatewaySettings, PageSettings
from tests.unit.gateway.objects import UID, deployment, skill
from tests.unit.gateway.ui.page_world import (
    ALICE,
    APPROVAL,
    CODE,
    FORBIDDEN,
    HERE,
    UNAUTHORIZED,
    Callers,
    PageWorld,
    awaiting,
    config_map,
    words,
)
from tests.unit.gateway.world import World, fine, reply

pytestmark = pytest.mark.timeout(60)
INVOICE = "/ui/skills/finance/invoice"
LEDGER = json.dumps(
    {
        "tokens": 700,
        "stop": None,
        "attempts": [
            {"number": 1, "state": "failed", "endpoint": "m", "tokens": 300, "gate": "examples", "line": 2}
            | {"message": "example plain: got 4", "private": "held-out example odd: got 5"},
            {"number": 2, "state": "passed", "endpoint": "m", "tokens": 400, "gate": "", "message": ""},
        ],
        "secondOpinion": {"message": "", "differences": [{"input": "{}", "accepted": "3", "other": "4"}]},
    }
)


@pytest.fixture
async def world() -> AsyncIterator[PageWorld]:
    async with AsyncExitStack() as stack:
        made = PageWorld(stack)
        await made.start()
        yield made


class TestSigningIn:
    async def test_who_sends_no_token_is_led_to_the_form_and_back(self, world: PageWorld) -> None:
        world.know()
        status, _, answer = await world.get(INVOICE, Accept="text/html")
        assert (status, answer.headers["Location"]) == (303, f"/ui/sign-in?next={INVOICE.replace('/', '%2F')}")
        status, page, answer = await world.get(answer.headers["Location"], Accept="text/html")
        assert status == 200
        assert f'name="next" value="{INVOICE}"' in page
        assert "--audience skill-gateway --audience https://api.test" in page
        status, _, answer = await world.post(
            "/ui/sign-in", {"token": " Bearer good ", "next": INVOICE}, Authorization=""
        )
        assert (status, answer.headers["Location"]) == (303, INVOICE)
        assert answer.headers["Set-Cookie"] == f"{session.COOKIE}=good; Path=/ui; HttpOnly; SameSite=Strict"
        status, page, _ = await world.get(INVOICE, Cookie=f"{session.COOKIE}=good")
        assert status == 200
        assert "Sign out" in page
        assert "good" not in page.replace('class="chip good"', "")

    async def test_behind_tls_the_cookie_is_for_tls_alone(self, world: PageWorld) -> None:
        _, _, answer = await world.post(
            "/ui/sign-in", {"token": "good"}, Authorization="", **{"X-Forwarded-Proto": "https"}
        )
        assert "; Secure" in answer.headers["Set-Cookie"]

    @pytest.mark.parametrize(
        ("token", "says"),
        [("bad", "invalid bearer token"), ("two words", "no token"), ("", "no token"), ("x" * 5000, "too long")],
    )
    async def test_what_is_no_good_token_sets_no_cookie(self, world: PageWorld, token: str, says: str) -> None:
        status, page, answer = await world.post("/ui/sign-in", {"token": token}, Authorization="")
        assert status == 401
        assert says in words(page)
        assert "Set-Cookie" not in answer.headers
        assert not token or f'"{token}"' not in page

    @pytest.mark.parametrize(
        "target",
        ["https://evil.test/", "//evil.test", "/v1/skills", "/ui\\..\\", "/uix", "/ui/\r\nX: y", "javascript:1"],
    )
    async def test_signing_in_never_leads_elsewhere(self, world: PageWorld, target: str) -> None:
        _, _, answer = await world.post("/ui/sign-in", {"token": "good", "next": target}, Authorization="")
        assert answer.headers["Location"] == "/ui"

    async def test_an_ended_session_is_cleared(self, world: PageWorld) -> None:
        status, _, answer = await world.get("/ui", Cookie=f"{session.COOKIE}=bad")
        assert (status, answer.headers["Location"]) == (303, "/ui/sign-in?ended=1")
        assert "Max-Age=0" in answer.headers["Set-Cookie"]

    async def test_signing_out_clears_the_cookie(self, world: PageWorld) -> None:
        status, _, answer = await world.post("/ui/sign-out", {}, Authorization="", Cookie=f"{session.COOKIE}=good")
        assert status == 303
        assert "Max-Age=0" in answer.headers["Set-Cookie"]

    async def test_the_cookie_opens_nothing_but_the_page(self, world: PageWorld) -> None:
        world.know()
        cookie = {"Cookie": f"{session.COOKIE}=good"}
        assert (await world.get("/v1/skills", **cookie))[0] == 401
        assert (await world.call(headers=cookie))[0] == 401

    async def test_a_bad_header_is_told_and_not_led_to_a_form(self, world: PageWorld) -> None:
        status, page, _ = await world.get("/ui", Authorization="Bearer bad")
        assert status == 401
        assert "Authentication required" in page

    async def test_a_link_from_another_site_is_opened_again_from_here(self, world: PageWorld) -> None:
        """The browser keeps a SameSite=Strict cookie back on the first request, and sends it on the second."""
        world.know()
        status, page, _ = await world.get(INVOICE, **{"Sec-Fetch-Site": "cross-site"})
        assert status == 200
        assert f'content="0; url={INVOICE}"' in page
        status, _, _ = await world.get(INVOICE, **HERE)
        assert status == 303


class TestRequestsOfOthers:
    @pytest.mark.parametrize(
        "path", ["/sign-in", "/sign-out", "/skills/finance/invoice/try", "/skills/finance/invoice/approve"]
    )
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "", "Origin": "https://evil.test"},
            {"Sec-Fetch-Site": "", "Origin": "null"},
            {"Sec-Fetch-Site": ""},
            {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.test"},
        ],
    )
    async def test_a_form_of_another_site_does_nothing(
        self, world: PageWorld, path: str, headers: dict[str, str]
    ) -> None:
        calls = await world.pod(fine)
        world.store(awaiting(), CODE)
        status, _, answer = await world.post(
            f"/ui{path}", {"token": "good", "raw": "{}", "approval": APPROVAL}, **headers
        )
        assert status == 403
        assert "Set-Cookie" not in answer.headers
        assert calls == []
        assert world.api.patches == []

    async def test_over_plain_http_the_origin_tells(self, world: PageWorld) -> None:
        status, _, _ = await world.post(
            "/ui/sign-in", {"token": "good"}, Authorization="", Origin=world.url, **{"Sec-Fetch-Site": ""}
        )
        assert status == 303

    async def test_a_script_of_another_site_reads_nothing(self, world: PageWorld) -> None:
        status, _, answer = await world.get("/ui", Origin="https://evil.test", **ALICE)
        assert status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_every_page_is_for_itself_alone(self, world: PageWorld) -> None:
        world.store(skill(), CODE)
        for path in ("/ui", INVOICE, f"{INVOICE}/progress", "/ui/nothing", "/ui/sign-in", "/ui/static/x/page.css"):
            _, _, answer = await world.get(path)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"

    async def test_no_page_has_code_within(self, world: PageWorld) -> None:
        world.store(awaiting(), CODE, ledger__json=LEDGER)
        for path in ("/ui", INVOICE, "/ui/sign-in", "/ui/nothing"):
            _, page, _ = await world.get(path)
            assert not re.search(r"<script(?! src)|\son\w+=|style=|javascript:", page)

    async def test_files_stay_for_long_under_a_path_of_their_own(self, world: PageWorld) -> None:
        _, page, _ = await world.get("/ui")
        (path,) = re.findall(r'src="(/ui/static/[0-9a-f]{16}/page\.js)"', page)
        status, _, answer = await world.get(path, Accept="*/*")
        assert status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        for other in ("/ui/static/0000000000000000/page.js", path.replace("page.js", "..%2fpage.js"), path + "x"):
            assert (await world.get(other))[0] == 404


class TestWhoMaySee:
    async def test_a_skill_of_others_is_as_absent_as_none(self, world: PageWorld) -> None:
        world.know()
        world.directory.on_skill("ADDED", skill("contract", "legal"))
        world.api_server.rights.add(("finance", "nothing"))
        answers = set()
        for path in ("legal/contract", "legal/nothing", "finance/nothing"):
            for end in ("", "/progress", "/attempts/1"):
                status, page, _ = await world.get(f"/ui/skills/{path}{end}")
                answers.add((status, re.sub(r"Request \w+", "", words(page))))
            for end in ("try", "approve", "reject"):
                status, page, _ = await world.post(f"/ui/skills/{path}/{end}", {"raw": "{}", "approval": APPROVAL})
                answers.add((status, re.sub(r"Request \w+", "", words(page))))
        assert len(answers) == 1
        assert answers.pop()[0] == 404
        assert world.api.tokens == set()
        assert world.api.patches == []
        _, page, _ = await world.get("/ui")
        assert "contract" not in page
        _, page, _ = await world.get("/ui?q=contract")
        assert "legal" not in page

    async def test_code_is_read_with_the_callers_token(self, world: PageWorld) -> None:
        world.store(skill(), CODE, ledger__json=LEDGER, attempt_1__py="x = 1\n", attempt_2__diff="--- a\n+++ b\n-x\n+y")
        _, page, _ = await world.get(INVOICE)
        assert world.api.tokens == {"good"}
        assert "def run(input: dict) -> dict:" in words(page).replace("( ", "(")
        for text in (
            "refused by examples",
            "example plain: got 4",
            "held-out example odd",
            "700 tokens",
            "passed every check",
        ):
            assert text in words(page), text
        status, page, _ = await world.get(f"{INVOICE}/attempts/1")
        assert status == 200
        assert "x = 1" in words(page)
        assert (await world.get(f"{INVOICE}/attempts/7"))[0] == 404

    async def test_who_may_only_call_sees_what_the_api_says(self, world: PageWorld) -> None:
        world.store(awaiting(egress=[{"cidr": "203.0.113.0/24", "ports": [443]}]), CODE, ledger__json=LEDGER)
        world.api.refused = {"ConfigMap": FORBIDDEN, "Skill": FORBIDDEN}
        status, page, _ = await world.get(INVOICE)
        assert status == 200
        for hidden in ("def run", APPROVAL, "203.0.113.0", "got 4", "nothing was approved"):
            assert hidden not in page
        assert "You may not get configmaps in namespace finance" in page
        assert "You may not get skills in namespace finance" in page
        assert (await world.get(f"{INVOICE}/attempts/1"))[0] == 404

    async def test_a_token_for_the_gateway_alone_reads_no_code(self, world: PageWorld) -> None:
        world.store(skill(), CODE)
        world.api.refused = {"get": UNAUTHORIZED}
        _, page, _ = await world.get(INVOICE)
        assert "def run" not in page
        assert "it is for the gateway alone" in words(page)

    async def test_an_api_server_that_is_away_leaves_the_rest(self, world: PageWorld) -> None:
        world.store(skill(), CODE)
        world.api.refused = {"get": Unavailable("no route")}
        status, page, _ = await world.get(INVOICE)
        assert status == 200
        assert "no route" in page

    async def test_a_config_map_of_another_skill_is_not_shown(self, world: PageWorld) -> None:
        world.store(skill(), CODE)
        world.api.objects["ConfigMap", naming.source("invoice")] = config_map({"skill.py": CODE}, "another-uid")
        _, page, _ = await world.get(INVOICE)
        assert "def run" not in page

    async def test_a_skill_made_anew_is_not_mixed_with_the_former(self, world: PageWorld) -> None:
        body = skill()
        world.store(body)
        body = json.loads(json.dumps(body))
        body["metadata"]["uid"] = "another-uid"
        body["spec"]["source"] = {"inline": CODE}
        world.api.objects["Skill", "invoice"] = body
        _, page, _ = await world.get(INVOICE)
        assert "def run" not in page

    async def test_pinned_code_is_shown_to_who_may_get_the_skill(self, world: PageWorld) -> None:
        world.store(skill(source={"inline": CODE}))
        _, page, _ = await world.get(INVOICE)
        assert "return" in page
        world.api.refused = {"Skill": FORBIDDEN}
        _, page, _ = await world.get(INVOICE)
        assert "total&#39;: 3" not in page


class TestTheList:
    async def test_a_thousand_skills_are_paged(self, world: PageWorld) -> None:
        for number in range(1000):
            body = skill(f"tool-{number:04}", ready=("True" if number % 2 else "False", "Ready", ""))
            body["metadata"]["uid"] = str(number)
            world.directory.on_skill("ADDED", body)
        world.api_server.rights.add(("", ""))
        status, page, _ = await world.get("/ui")
        assert status == 200
        assert page.count('class="skill"') == page_routes.PAGE_SIZE
        assert "Page 1 of 20, 1000 skills" in words(page)
        for number in ("20", "99999"):
            _, page, _ = await world.get(f"/ui?page={number}")
            assert "tool-0999" in page
        for number in ("0", "-1", "x", "9" * 40, "1e3"):
            assert "tool-0000" in (await world.get(f"/ui?page={number}"))[1]
        _, page, _ = await world.get("/ui?state=ready")
        assert "Page 1 of 10" in page
        assert "tool-0000" not in page

    @pytest.mark.parametrize("query", ["", "?q=invoice"])
    async def test_what_another_s_agent_asked_for_is_listed_to_who_may_promote_it(
        self, world: PageWorld, query: str
    ) -> None:
        body = skill()
        body["metadata"]["annotations"] = {naming.CREATED_BY_ANNOTATION: "mallory"}
        world.store(body)
        assert INVOICE not in (await world.get(f"/ui{query}"))[1]
        world.api_server.time += 10
        world.api_server.approvers.add(("alice", "finance"))
        assert INVOICE in (await world.get(f"/ui{query}"))[1]
        world.api_server.time += 20
        world.api_server.approvers.clear()
        assert INVOICE not in (await world.get(f"/ui{query}"))[1]
        body["metadata"]["annotations"][naming.PROMOTED_BY_ANNOTATION] = "carol"
        world.store(body)
        assert INVOICE in (await world.get(f"/ui{query}"))[1]

    async def test_a_search_finds_by_words_and_says_when_none_fit(self, world: PageWorld) -> None:
        world.know()
        assert "invoice" in words((await world.get("/ui?q=sum+an+invoice"))[1])
        assert "Nothing fits these words" in (await world.get("/ui?q=zebra"))[1]
        assert (await world.get(f"/ui?q={'x' * 2000}"))[0] == 400

    async def test_while_the_gateway_starts_it_says_so(self, world: PageWorld) -> None:
        world.directory.unsynced.add(("Skill", None))
        status, page, answer = await world.get("/ui")
        assert status == 503
        assert "starting" in page
        assert answer.headers["Retry-After"] == "1"

    async def test_an_object_that_cannot_be_read_has_a_page_too(self, world: PageWorld) -> None:
        body = skill()
        body["spec"] = {"description": 7}
        world.directory.on_skill("ADDED", body)
        assert "Unreadable" in (await world.get("/ui"))[1]
        status, page, _ = await world.get(INVOICE)
        assert status == 200
        assert "cannot be read" in page
        assert (await world.post(f"{INVOICE}/try", {"raw": "{}"}))[0] == 503


class TestTryingIt:
    async def test_a_form_is_a_call_like_any_other(self, world: PageWorld) -> None:
        calls = await world.pod(fine)
        world.store(skill())
        status, page, _ = await world.post(f"{INVOICE}/try", {"generation": "1", "v0": '[{"a": 1.50}]'})
        assert status == 200
        assert json.loads(calls[0].body) == {"lines": [{"a": 1.5}]}
        assert "x-skill-caller: alice" in calls[0].head.lower()
        assert "good" not in calls[0].head
        assert "3" in words(page)
        assert "none: it was awake" in words(page)

    async def test_a_fragment_is_the_answer_alone(self, world: PageWorld) -> None:
        await world.pod(fine)
        world.store(skill())
        status, page, _ = await world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'}, **{"X-Skill-Fragment": "1"})
        assert status == 200
        assert "<html" not in page
        assert "Answer" in page

    async def test_a_cold_start_is_shown(self, world: PageWorld) -> None:
        await world.pod(fine)
        world.directory.on_skill("ADDED", skill())
        world.directory.on_deployment("ADDED", deployment(0))

        async def wake() -> None:
            world.know()

        world.scaler.then = wake
        _, page, _ = await world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'})
        assert world.scaler.patches
        assert re.search(r"Cold start [\d,]+ ms", words(page))

    @pytest.mark.parametrize(
        ("form", "status", "says"),
        [
            ({"raw": "{"}, 400, "no JSON"),
            ({"raw": '{"lines": 1}'}, 422, "does not fit"),
            ({"generation": "1", "v0": "[1"}, 400, "lines is no JSON"),
            ({"generation": "1", "v0": '1}, "x": {'}, 400, "lines is no JSON"),
            ({"generation": "0", "v0": "[]"}, 400, "has changed"),
            ({"v0": "[]"}, 400, "has changed"),
            ({"generation": "1"}, 422, "required"),
        ],
    )
    async def test_what_is_no_input_is_told_and_kept(
        self, world: PageWorld, form: dict[str, str], status: int, says: str
    ) -> None:
        calls = await world.pod(fine)
        world.store(skill())
        got, page, _ = await world.post(f"{INVOICE}/try", form)
        assert got == status
        assert says in words(page)
        assert calls == []
        if form.get("v0"):
            assert form["v0"].replace('"', "&#34;") in page

    async def test_what_the_pod_says_is_shown_as_text(self, world: PageWorld) -> None:
        async def hostile(call: Any) -> None:
            await call.say(reply(b'{"title": "<script>x</script>\\u202e", "type": "t"}', "422 Unprocessable"))

        await world.pod(hostile)
        world.store(skill())
        status, page, _ = await world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'})
        assert status == 422
        assert "<script>x" not in page
        assert "\u202e" not in page

    async def test_a_call_ends_with_the_browser(self, world: PageWorld, caplog: pytest.LogCaptureFixture) -> None:
        gone = asyncio.Event()

        async def slow(call: Any) -> None:
            await call.gone()
            gone.set()

        calls = await world.pod(slow)
        world.store(skill())
        task = asyncio.create_task(world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'}))
        async with asyncio.timeout(10):
            while not calls:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.001)
            task.cancel()
            await gone.wait()
        assert world.invoker.places.held == 0 or await _until_zero(world)
        assert "a request failed" not in caplog.text
        assert "a page failed" not in caplog.text

    async def test_an_input_of_many_values_is_a_call_like_any_other(self, world: PageWorld) -> None:
        async def echo(call: Any) -> None:
            await call.say(reply(call.body))

        calls = await world.pod(echo)
        world.store(skill())
        raw = f'{{"lines": [{",".join(["[]"] * 20_000)}]}}'
        status, page, _ = await world.post(f"{INVOICE}/try", {"raw": raw})
        assert (status, [call.body for call in calls]) == (200, [raw.encode()])
        assert "[],[],[]" in words(page)

    async def test_large_and_odd_bodies_are_refused(self, world: PageWorld) -> None:
        world.store(skill())
        async with world.client.post(
            f"{world.url}{INVOICE}/try",
            data=b"raw=" + b"x" * (4 << 20),
            headers=ALICE | HERE | {"Content-Type": "application/x-www-form-urlencoded"},
        ) as answer:
            assert answer.status == 413
        for kind in ("application/json", "multipart/form-data; boundary=x", ""):
            async with world.client.post(
                f"{world.url}{INVOICE}/try", data=b"raw={}", headers=ALICE | HERE | {"Content-Type": kind}
            ) as answer:
                assert answer.status == 415
        many = {f"v{number}": "1" for number in range(200)}
        assert (await world.post(f"{INVOICE}/try", many))[0] == 400


async def _until_zero(world: World) -> bool:
    while world.invoker.places.held:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.001)
    return True


class TestDeciding:
    async def test_why_a_person_is_asked_is_told(self, world: PageWorld) -> None:
        body = awaiting()
        body["status"]["approvalRequest"]["doubt"] = "its <examples> leave it open"
        world.store(body, CODE)
        _, page, _ = await world.get(INVOICE)
        assert "A person is asked since its &lt;examples&gt; leave it open." in page

    async def test_an_approval_is_the_persons_own(self, world: PageWorld) -> None:
        world.store(awaiting(), CODE)
        _, page, _ = await world.get(INVOICE)
        assert f'name="approval" value="{APPROVAL}"' in page
        assert naming.source_digest(CODE) in page
        status, _, answer = await world.post(f"{INVOICE}/approve", {"approval": APPROVAL})
        assert (status, answer.headers["Location"]) == (303, f"{INVOICE}?done=approved")
        ((namespace, name, changes),) = world.api.patches
        assert (namespace, name) == ("finance", "invoice")
        assert changes["metadata"] == {
            "uid": UID,
            "annotations": {
                naming.APPROVE_ANNOTATION: APPROVAL,
                naming.APPROVED_BY_ANNOTATION: "alice@api",
                naming.REJECT_ANNOTATION: None,
                naming.REJECT_MESSAGE_ANNOTATION: None,
                naming.REJECTED_BY_ANNOTATION: None,
            },
        }
        assert world.api.tokens == {"good"}
        _, page, _ = await world.get(answer.headers["Location"])
        assert "You approved it" in page
        assert 'data-settled="no"' in page, "the page follows what comes of it"

    async def test_a_rejection_carries_words(self, world: PageWorld) -> None:
        world.store(awaiting(), CODE)
        form = {"approval": APPROVAL, "words": "Round to\r\ncents.\x1b[31m" + "x" * 3000}
        status, _, _ = await world.post(f"{INVOICE}/reject", form)
        assert status == 303
        annotations = world.api.patches[0][2]["metadata"]["annotations"]
        assert annotations[naming.REJECT_ANNOTATION] == APPROVAL
        assert annotations[naming.REJECTED_BY_ANNOTATION] == "alice@api"
        assert annotations[naming.APPROVE_ANNOTATION] is None
        text = annotations[naming.REJECT_MESSAGE_ANNOTATION]
        assert text.startswith("Round to; cents.")
        assert "\x1b" not in text
        assert len(text) <= 1024

    @pytest.mark.parametrize(
        "form", [{"approval": APPROVAL, "words": " \n "}, {"approval": "zz", "words": "no"}, {"words": "no"}]
    )
    async def test_a_rejection_without_words_or_subject_is_none(self, world: PageWorld, form: dict[str, str]) -> None:
        world.store(awaiting(), CODE)
        assert (await world.post(f"{INVOICE}/reject", form))[0] == 400
        assert world.api.patches == []

    async def test_who_may_not_decide_is_told_how(self, world: PageWorld) -> None:
        world.store(awaiting(), CODE)
        world.api.may_approve = False
        _, page, _ = await world.get(INVOICE)
        assert APPROVAL not in page.replace(f"={APPROVAL}", "")
        assert "kubectl skill approve invoice -n finance" in page

    async def test_code_that_was_swapped_cannot_be_approved_here(self, world: PageWorld) -> None:
        world.store(awaiting(), f"{CODE}# and more")
        _, page, _ = await world.get(INVOICE)
        assert "is not the code that is to be approved" in page
        assert 'name="approval"' not in page

    async def test_who_decided_is_shown(self, world: PageWorld) -> None:
        body = skill()
        moment = {"at": "2026-11-29T12:00:00Z", "revision": "0123456789"}
        body["status"]["review"] = moment | {"by": "carol", "covers": ["code"]}
        body["status"]["rejection"] = moment | {"by": "dave", "message": "<b>too slow</b>", "token": APPROVAL}
        body["metadata"]["annotations"] = {naming.CREATED_BY_ANNOTATION: "erin", naming.PROMOTED_BY_ANNOTATION: "<i>"}
        world.store(body, CODE)
        text = words((await world.get(INVOICE))[1])
        assert "Asked for by erin Promoted by <i>" in text
        assert "Approved by carol, 2026-11-29 12:00" in text
        assert "Rejected by dave, 2026-11-29 12:00: <b>too slow</b>" in text

    async def test_what_admission_says_is_told(self, world: PageWorld) -> None:
        world.store(awaiting(), CODE)
        world.api.refused = {"patch": FORBIDDEN}
        status, page, _ = await world.post(f"{INVOICE}/approve", {"approval": APPROVAL})
        assert status == 403
        assert "The API server did not take it: no right" in page
        world.api.refused = {"SelfSubjectReview": UNAUTHORIZED, "get": UNAUTHORIZED}
        assert (await world.post(f"{INVOICE}/approve", {"approval": APPROVAL}))[0] == 401
        assert world.api.patches == []


class TestProgress:
    async def test_it_tells_what_changed_and_no_more(self, world: PageWorld) -> None:
        body = skill(ready=("Unknown", "Checking", "the check runs"))
        body["metadata"]["resourceVersion"] = "1"
        world.know(body=body)
        status, page, answer = await world.get(f"{INVOICE}/progress")
        assert status == 200
        assert "the check runs" in page
        assert 'data-settled="no"' in page
        tag = answer.headers["ETag"]
        status, page, _ = await world.get(f"{INVOICE}/progress", **ALICE, **{"If-None-Match": tag})
        assert (status, page) == (304, "")
        body = skill()
        body["metadata"]["resourceVersion"] = "2"
        world.directory.on_skill("MODIFIED", body)
        status, page, _ = await world.get(f"{INVOICE}/progress", **ALICE, **{"If-None-Match": tag})
        assert status == 200
        assert 'data-settled="yes"' in page
        assert world.api.tokens == set(), "the API server is not asked again and again"

    async def test_a_fragment_never_leads_to_a_form(self, world: PageWorld) -> None:
        world.know()
        status, _, _ = await world.get(f"{INVOICE}/progress", **{"X-Skill-Fragment": "1"})
        assert status == 401


class TestWithoutTokens:
    """With gateway.auth: none, the page works without signing in; a token is for reading and deciding."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[PageWorld]:
        async with AsyncExitStack() as stack:
            made = PageWorld(stack)
            made.authorizer = World(stack).authorizer
            await made.start()
            yield made

    async def test_it_shows_and_calls_and_says_where_code_is(self, world: PageWorld) -> None:
        await world.pod(fine)
        world.store(skill(), CODE)
        status, page, _ = await world.get(INVOICE, Accept="text/html")
        assert status == 200
        assert "def run" not in page
        assert "kubectl describe skill -n finance invoice" in page
        assert (await world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'}, Authorization=""))[0] == 200
        _, page, _ = await world.get(INVOICE, Cookie=f"{session.COOKIE}=own")
        assert "return" in page
        assert world.api.tokens == {"own"}

    async def test_another_name_for_its_address_is_refused(self, world: PageWorld) -> None:
        """A page whose name leads here (DNS rebinding) must not become one of the gateway's own."""
        world.know()
        status, _, _ = await world.get("/ui", Host="evil.test")
        assert status == 421
        sent = {"Host": "evil.test", "Origin": "http://evil.test"}
        assert (await world.post(f"{INVOICE}/try", {"raw": '{"lines": []}'}, Authorization="", **sent))[0] == 421


class TestForeignText:
    HOSTILE = "<img src=x onerror=alert(1)>\u202e'\"</textarea><script>" + "x" * 10_000

    async def test_nothing_of_others_becomes_markup(self, world: PageWorld) -> None:
        text = self.HOSTILE
        body = skill(
            summary=text[:1000],
            description=text,
            input={
                "type": "object",
                "title": text,
                "properties": {text: {"type": "string", "description": text, "title": text}},
            },
            examples=[{"name": "one", "input": {text: text}, "output": {"a": text}}],
            ready=("False", "Failed", text[:2000]),
        )
        ledger = {
            "tokens": "x",
            "stop": {"reason": text, "message": text},
            "attempts": [{"number": 1, "state": text, "endpoint": text, "message": text, "gate": text}, 5, None],
        }
        ledger["secondOpinion"] = {"message": text, "differences": [{"input": text, "accepted": 5}, 7]}
        world.store(body, text, ledger__json=json.dumps(ledger), attempt_1__py=text, attempt_1__diff=text)
        for path in (INVOICE, "/ui", f"{INVOICE}/attempts/1", f"{INVOICE}/progress", f"/ui?q={'%3Cscript%3E'}"):
            status, page, _ = await world.get(path)
            assert status == 200, path
            assert "<img src=x" not in page
            assert "<script>" not in page
            shown = re.sub(
                r"<textarea.*?</textarea>", "", page, flags=re.DOTALL
            )  # where it is for changing, it is as it is
            assert "\u202e" not in shown, path

    @pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"attempts": 5}', '{"attempts": [[]]}', "[" * 100_000])
    async def test_an_odd_ledger_is_none(self, world: PageWorld, text: str) -> None:
        world.store(skill(), CODE, ledger__json=text)
        status, page, _ = await world.get(INVOICE)
        assert status == 200
        assert "return" in page

    async def test_a_large_page_is_made_beside_the_calls_of_others(
        self, world: PageWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: set[int] = set()
        render = Template.render

        def noted(template: Template, *args: Any, **values: Any) -> str:
            threads.add(threading.get_ident())
            return render(template, *args, **values)

        monkeypatch.setattr(Template, "render", noted)
        source = "\n".join(f"value_{n} = 'é' + str({n})" for n in range(2500))
        world.store(skill(), source, ledger__json=LEDGER, **{f"attempt_{n}__py": source for n in (1, 2)})
        for path in (INVOICE, "/ui", f"{INVOICE}/attempts/1"):
            assert (await world.get(path))[0] == 200
        assert threads
        assert threading.get_ident() not in threads


async def test_turned_off_there_is_no_page() -> None:
    async with AsyncExitStack() as stack:
        made = World(stack)
        made.callers = Callers()
        off = GatewaySettings(auth="none", ui=PageSettings(enabled=False))
        made.settings = made.settings.model_copy(update={"gateway": off})
        await made.start()
        async with made.client.get(f"{made.url}/ui") as answer:
            assert answer.status == 404
