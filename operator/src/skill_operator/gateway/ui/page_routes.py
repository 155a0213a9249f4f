"""The routes of the page: lists and Skills to read, and forms by which people call, approve and reject.

A form that calls goes through the invoker as any call does. One that decides is sent to the API server with the
caller's own token, whose admission sees the person. Who may not call a Skill learns nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from skill_operator import naming
from skill_operator.gateway import problems
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.http import access_log
from skill_operator.gateway.http.body import read_body
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.invocation import InvocationResponse, gateway_starting
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import MAX_QUERY_BYTES
from skill_operator.gateway.ui import call_outcome, code_view, input_form, session, skill_page, skill_view
from skill_operator.gateway.ui.reading import CallerReader
from skill_operator.gateway.ui.rendering import PageRenderer
from skill_operator.gateway.ui.session import PREFIX, PageSession
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import CallerCluster
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import Settings
from skill_operator.untrusted.text import printable, single_line

log = logging.getLogger(__name__)
PAGE_SIZE: Final = 50
MAX_FOUND: Final = 50
MAX_REVIEWED_NAMESPACES: Final = 64  # with Skills that are listed to their makers alone
MAX_PAGE_DIGITS: Final = 5
MAX_SMALL_FORM_BYTES: Final = 32 << 10
MAX_BODIES_BYTES: Final = 32 << 20
MAX_REJECTION_CHARACTERS: Final = 1024
FRAGMENT_HEADER: Final = "x-skill-fragment"
_APPROVAL_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_DONE: Final = {
    "approved": "You approved it. The operator goes on to build it.",
    "rejected": "You rejected it. The operator tells the model why, where attempts are left.",
}
Handler = Callable[[Request, Caller, PageSession], Awaitable[Response]]


class SkillPages:
    """SkillPages has the handlers of all paths below /ui."""

    def __init__(self, services: GatewayServices, settings: Settings, cluster: CallerCluster | None) -> None:
        self._services = services
        self._directory = services.invoker.directory
        self._settings = settings
        self._reader = CallerReader(cluster)
        self._renderer = PageRenderer()
        self._bodies = FairShares(MAX_BODIES_BYTES)

    def routes(self) -> list[Route]:
        """Return the routes."""
        skill = f"{PREFIX}/skills/{{namespace}}/{{name}}"
        get, post = ["GET"], ["POST"]
        return [
            Route(f"{PREFIX}/static/{{digest}}/{{name}}", self._renderer.static_file, methods=get),
            Route(session.SIGN_IN, self._guarded(self._sign_in_form), methods=get),
            Route(session.SIGN_IN, self._guarded(self._sign_in), methods=post),
            Route(f"{PREFIX}/sign-out", self._guarded(self._sign_out), methods=post),
            Route(PREFIX, self._guarded(self._admitted(self._list)), methods=get),
            Route(skill, self._guarded(self._admitted(self._skill)), methods=get),
            Route(f"{skill}/progress", self._guarded(self._admitted(self._progress)), methods=get),
            Route(f"{skill}/attempts/{{number:int}}", self._guarded(self._admitted(self._attempt)), methods=get),
            Route(f"{skill}/try", self._guarded(self._admitted(self._try)), methods=post),
            Route(f"{skill}/approve", self._guarded(self._admitted(self._approve)), methods=post),
            Route(f"{skill}/reject", self._guarded(self._admitted(self._reject)), methods=post),
            Route(f"{PREFIX}/{{path:path}}", self._guarded(self._nothing)),
        ]

    # What every request goes through.

    def _guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler behind the checks of where a request comes from; its problems become pages."""

        async def guarded(request: Request) -> Response:
            try:
                if request.method in {"GET", "HEAD"}:
                    session.check_reader(request)
                else:
                    session.check_same_site(request)
                return await handler(request)
            except Problem as problem:
                return await self._problem(request, problem)
            except ClientDisconnect:
                request.state.outcome = access_log.CLIENT_DISCONNECTED
                return Response(status_code=access_log.CLIENT_CLOSED_REQUEST)  # which nobody reads but the log
            except Exception:
                log.exception("a page failed")
                return await self._problem(request, problems.internal_error(request.state.request_id))

        return guarded

    def _admitted(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler for callers who have signed in; others are sent to do so."""

        async def admitted(request: Request) -> Response:
            own = session.read_session(request)
            try:
                async with self._services.admit(request, own.authorization) as caller:
                    request.state.caller = caller
                    return await handler(request, caller, own)
            except Problem as problem:
                if problem.slug != "unauthenticated" or not own.from_cookie or FRAGMENT_HEADER in request.headers:
                    raise
            if not own.token and session.is_link_from_elsewhere(request):
                return await self._page(request, "again.html", lambda: {"target": request.url.path})
            target = request.url.path if request.method == "GET" else PREFIX
            query = {"next": target} if target != PREFIX else {}
            if own.token:
                query["ended"] = "1"
            response = _see_other(f"{session.SIGN_IN}?{urlencode(query)}" if query else session.SIGN_IN)
            if own.token:
                session.clear_cookie(response, request)
            return response

        return admitted

    async def _problem(self, request: Request, problem: Problem) -> Response:
        request.state.outcome = problem.slug
        metrics.record_rejection(problem.slug)
        name = "_problem.html" if FRAGMENT_HEADER in request.headers else "problem.html"
        definition = problems.PROBLEMS[problem.slug]
        view = {"problem": problem, "action": definition.action, "request_id": request.state.request_id}
        response = await self._page(request, name, lambda: view, problem.status)
        response.headers.update({key: value for key, value in problem.headers.items() if key != "WWW-Authenticate"})
        return response

    async def _page(
        self, request: Request, template: str, make_view: Callable[[], dict[str, Any]], status: int = 200
    ) -> Response:
        caller: Caller | None = getattr(request.state, "caller", None)
        own = session.read_session(request)
        common = {
            "caller": printable(caller.name, 120) if caller is not None else "",
            "can_sign_out": own.from_cookie and bool(own.token) and caller is not None,
            "open_to_all": self._settings.gateway.auth == "none",
            "query": "",
        }
        return await self._renderer.render(template, lambda: common | make_view(), status)

    async def _nothing(self, _request: Request) -> Response:
        raise Problem("not-found", f"there is nothing at this path; {PREFIX} has the list of skills")

    # Signing in and out.

    async def _sign_in_form(self, request: Request) -> Response:
        target = session.own_path(request.query_params.get("next", ""))
        message = "Your session has ended. Sign in again." if "ended" in request.query_params else ""
        return await self._sign_in_page(request, target, message, 200)

    async def _sign_in_page(self, request: Request, target: str, message: str, status: int) -> Response:
        audiences = [self._settings.gateway.audiences[0], self._reader.audience]
        view = {
            "next": target,
            "message": message,
            "audiences": list(dict.fromkeys(filter(None, audiences))),
            "encrypted": session.is_encrypted(request) or _is_local(request),
        }
        return await self._page(request, "sign_in.html", lambda: view, status)

    async def _sign_in(self, request: Request) -> Response:
        form = input_form.read_form(await self._small_body(request))
        token = re.sub(r"(?i)^bearer +", "", form.get("token", "").strip())
        target = session.own_path(form.get("next", ""))
        message = ""
        if not session.is_token(token):
            too_long = len(token) > session.MAX_TOKEN_CHARACTERS
            message = (
                "The token is too long for a cookie. Use `kubectl skill ui`, which sends it by itself."
                if too_long
                else "This is no token. Paste what the command below prints."
            )
        else:
            try:
                self._services.origins.check("", request.headers.get("host", ""))
                address = request.client.host if request.client else ""
                await self._services.authorizer.authenticate(f"Bearer {token}", address)
            except Problem as problem:
                if problem.slug != "unauthenticated":
                    raise
                message = problem.detail.partition(" Send Authorization")[0]
        if message:
            request.state.outcome = "unauthenticated"
            return await self._sign_in_page(request, target, message, 401)
        response = _see_other(target)
        session.set_cookie(response, request, token)
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = _see_other(session.SIGN_IN)
        session.clear_cookie(response, request)
        return response

    # What is read.

    async def _list(self, request: Request, caller: Caller, _own: PageSession) -> Response:
        """Return the Skills that the caller may call: those that fit a search, best first, or all by name."""
        query = request.query_params.get("q", "").strip()
        if len(query.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
            raise Problem("bad-request", f"a search has {MAX_QUERY_BYTES} bytes at most")
        group = request.query_params.get("state", "")
        number = _page_number(request.query_params.get("page", ""))
        if not self._directory.ready:
            raise gateway_starting()
        entries = dict(self._directory.entries)
        visible = await self._services.authorizer.filter_visible(caller, list(entries))
        keys = sorted(await self._filter_listed(caller, visible))
        if query:
            by_key = {key: entries[key] for key in keys}
            keys = await self._services.search.find(caller, by_key, query, MAX_FOUND)
        now = skill_view.now_utc()

        def view() -> dict[str, Any]:
            chips = {key: skill_view.state_chip(entries[key], awake=False) for key in keys}
            counts = {name: sum(chip.group == name for chip in chips.values()) for name, _ in skill_view.FILTERS}
            counts[""] = len(keys) - (0 if query else counts[skill_view.ARCHIVED])
            hidden = set() if query else {skill_view.ARCHIVED}
            wanted = [key for key in keys if (chips[key].group == group if group else chips[key].group not in hidden)]
            pages = max(1, -(-len(wanted) // PAGE_SIZE))
            page = min(number, pages)
            shown = wanted[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
            return {
                "rows": [self._row(entries[key], now) for key in shown],
                "filters": [(name, title, counts[name]) for name, title in skill_view.FILTERS],
                "group": group,
                "query": query,
                "page": page,
                "pages": pages,
                "total": len(wanted),
                "link": lambda **changes: _list_link(query, group, changes),
            }

        return await self._page(request, "list.html", view)

    async def _filter_listed(self, caller: Caller, keys: set[SkillKey]) -> set[SkillKey]:
        """Return the Skills that the list shows: what an agent asked for to its maker, and to who may promote it."""
        listed = {key for key in keys if self._directory.is_listed(key, caller.name)}
        namespaces = sorted({key.namespace for key in keys - listed})[:MAX_REVIEWED_NAMESPACES]
        approver = self._services.authorizer.may_approve
        decisions = await asyncio.gather(*(approver(caller, namespace) for namespace in namespaces))
        approved = {namespace for namespace, may in zip(namespaces, decisions, strict=True) if may}
        return {key for key in keys if key in listed or key.namespace in approved}

    def _row(self, entry: SkillEntry, now: Any) -> skill_view.SkillRow:
        activity = self._services.invoker.usage.activity(entry.meta.uid)
        return skill_view.skill_row(entry, self._is_awake(entry), activity, now)

    def _is_awake(self, entry: SkillEntry) -> bool:
        return bool(self._directory.backends(entry.meta))

    async def _skill(self, request: Request, caller: Caller, own: PageSession) -> Response:
        entry = await self._visible(request, caller)
        notice = _DONE.get(request.query_params.get("done", ""), "")
        example = request.query_params.get("example", "")
        return await self._skill_page(request, caller, own, entry, notice=(notice, "good"), example=example)

    async def _skill_page(
        self,
        request: Request,
        caller: Caller,
        own: PageSession,
        entry: SkillEntry,
        *,
        notice: tuple[str, str] = ("", ""),
        example: str = "",
        values: Mapping[str, str] | None = None,
        outcome: call_outcome.CallOutcome | None = None,
        status: int = 200,
    ) -> Response:
        waiting = entry.skill is not None and skill_view.is_awaiting_approval(entry.skill)
        readable = await self._reader.read(caller, own.token, entry, decide=waiting)

        def view() -> dict[str, Any]:
            activity = self._services.invoker.usage.activity(entry.meta.uid)
            shown = skill_page.make_view(entry, readable, activity, awake=self._is_awake(entry))
            return shown | {
                "settled": shown["settled"] and not (waiting and notice[1] == "good" and notice[0]),
                "form": input_form.make_form(entry.skill.spec, values, example) if entry.skill else None,
                "outcome": outcome,
                "notice": notice,
            }

        return await self._page(request, "skill.html", view, status)

    async def _progress(self, request: Request, caller: Caller, _own: PageSession) -> Response:
        """Return the part of a Skill's page that changes while it is made; browsers ask for it again and again."""
        entry = await self._visible(request, caller)
        tag = f'"{skill_page.version_of(entry, awake=self._is_awake(entry))}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-store"})
        response = await self._page(
            request, "_progress.html", lambda: skill_page.progress_view(entry, awake=self._is_awake(entry))
        )
        response.headers["ETag"] = tag
        return response

    async def _attempt(self, request: Request, caller: Caller, own: PageSession) -> Response:
        entry = await self._visible(request, caller)
        readable = await self._reader.read(caller, own.token, entry, decide=False)
        title = f"Attempt {request.path_params['number']}" if request.path_params["number"] else "Accepted before"
        generation = await asyncio.to_thread(code_view.read_generation, readable.generation_map)
        found = next((one for one in generation.attempts if one.title == title), None) if generation else None
        if found is None:
            raise Problem("not-found", " ".join(readable.missing) or "this Skill has no such attempt any more")
        return await self._page(
            request, "attempt.html", lambda: {"attempt": found, "entry": entry, "path": skill_page.path_of(entry)}
        )

    async def _visible(self, request: Request, caller: Caller) -> SkillEntry:
        """Return the Skill of the path. Raises Problem (404), the same whether it is not there or not the caller's."""
        key = SkillKey(request.path_params["namespace"], request.path_params["name"])
        try:
            await self._services.authorizer.authorize(caller, key)
            return self._services.invoker.lookup(key)
        except Problem as problem:
            if problem.slug not in {"forbidden", "skill-not-found"}:
                raise
        raise Problem("skill-not-found", f"there is no Skill here that you may call; {PREFIX} has the list of yours")

    # What is sent.

    async def _try(self, request: Request, caller: Caller, own: PageSession) -> Response:
        """Call the Skill with what the form says, as any other caller does, and show the answer."""
        entry = await self._visible(request, caller)
        async with self._body(request, caller, input_form.MAX_FORM_BYTES) as raw:
            values = await asyncio.to_thread(input_form.read_form, raw)
            try:
                outcome = await self._call(request, caller, entry, values)
            except Problem as problem:
                outcome = call_outcome.refused(problem)
                request.state.outcome = problem.slug
            status = outcome.status if outcome.status >= 400 else 200
            if FRAGMENT_HEADER in request.headers:
                return await self._page(request, "_outcome.html", lambda: {"outcome": outcome}, status)
            return await self._skill_page(request, caller, own, entry, values=values, outcome=outcome, status=status)

    async def _call(
        self, request: Request, caller: Caller, entry: SkillEntry, values: Mapping[str, str]
    ) -> call_outcome.CallOutcome:
        if entry.skill is None:
            raise Problem("not-ready", "its object cannot be read: it is newer than this gateway")
        if input_form.RAW not in values and values.get("generation") != str(entry.meta.generation):
            raise Problem("bad-request", "the Skill has changed since the form was made; load the page again")
        body = await asyncio.to_thread(input_form.encode_input, entry.skill.spec, values)
        start_time, end = time.monotonic(), "internal-error"
        try:
            response = await self._invoke(request, caller, entry, body)
            end = f"{response.status // 100}xx"
        except Problem as problem:
            end = problem.slug
            raise
        finally:
            metrics.record_skill_call(*_key_of(entry), end, time.monotonic() - start_time)
        seconds = time.monotonic() - start_time
        return await asyncio.to_thread(call_outcome.answered, response, seconds, request.state.request_id)

    async def _invoke(self, request: Request, caller: Caller, entry: SkillEntry, body: bytes) -> InvocationResponse:
        """Call the Skill; the call ends where the browser closes the connection. Raises Problem."""
        invoker, request_id = self._services.invoker, request.state.request_id
        call = asyncio.ensure_future(invoker.invoke(entry, body, caller=caller, request_id=request_id))
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({call, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise ClientDisconnect
            return call.result()
        finally:
            for task in (call, leaving):
                task.cancel()

    async def _approve(self, request: Request, caller: Caller, own: PageSession) -> Response:
        return await self._decide(request, caller, own, "approved")

    async def _reject(self, request: Request, caller: Caller, own: PageSession) -> Response:
        return await self._decide(request, caller, own, "rejected")

    async def _decide(self, request: Request, caller: Caller, own: PageSession, decision: str) -> Response:
        """Approve or reject what the form names, as the caller: the API server's admission judges the right to it."""
        entry = await self._visible(request, caller)
        form = input_form.read_form(await self._small_body(request))
        token = form.get("approval", "")
        words = single_line(form.get("words", ""), MAX_REJECTION_CHARACTERS)
        if not _APPROVAL_TOKEN.fullmatch(token):
            raise Problem("bad-request", "the form does not say what it decides about; load the page again")
        if decision == "rejected" and not words:
            notice = "Say in words what is wrong: the model reads it."
            return await self._skill_page(request, caller, own, entry, notice=(notice, "bad"), status=400)
        approves = decision == "approved"
        annotations: dict[str, str | None] = {
            naming.APPROVE_ANNOTATION: token if approves else None,
            naming.REJECT_ANNOTATION: None if approves else token,
            naming.REJECT_MESSAGE_ANNOTATION: None if approves else words,
            naming.REJECTED_BY_ANNOTATION if approves else naming.APPROVED_BY_ANNOTATION: None,
        }
        by = naming.APPROVED_BY_ANNOTATION if approves else naming.REJECTED_BY_ANNOTATION
        try:
            name = await self._reader.annotate(own.token, entry, by, annotations)
        except ClusterError as error:
            notice = f"The API server did not take it: {printable(error.message, 600)}"
            code = error.status if 400 <= error.status < 500 else 502
            return await self._skill_page(request, caller, own, entry, notice=(notice, "bad"), status=code)
        fields = {"namespace": entry.meta.namespace, "skill": entry.meta.name, "by": printable(name, 200)}
        log.info(decision, extra=fields)
        return _see_other(f"{skill_page.path_of(entry)}?done={decision}")

    # The bodies of requests.

    async def _small_body(self, request: Request) -> bytes:
        return await _read_form(request, MAX_SMALL_FORM_BYTES)

    @asynccontextmanager
    async def _body(self, request: Request, caller: Caller, limit: int) -> AsyncIterator[bytes]:
        """Read the body, and hold memory for it while the context is open. Raises Problem (408, 413, 503)."""
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else limit
        if size > limit:
            raise Problem("too-large", "the form is larger than any input may be")
        with self._bodies.hold(caller.namespace, caller.name, max(1, size)) as admitted:
            if not admitted:
                raise Problem("overloaded", "your forms hold their share of the memory for bodies; send it again", 1)
            yield await _read_form(request, size)


async def _read_form(request: Request, limit: int) -> bytes:
    """Return the body of a form. Raises Problem (408, 413, 415)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem("unsupported-media-type", "the page takes forms alone")
    body = await read_body(request.receive, limit, "the form")
    if body is None:
        raise ClientDisconnect
    return body


async def _disconnected(request: Request) -> None:
    """Return once the browser has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _key_of(entry: SkillEntry) -> tuple[str, str]:
    return entry.meta.namespace, entry.meta.name


def _list_link(query: str, group: str, changes: Mapping[str, Any]) -> str:
    wanted = {"q": query, "state": group, **changes}
    kept = {name: value for name, value in wanted.items() if value not in {"", None}}
    return f"{PREFIX}?{urlencode(kept)}" if kept else PREFIX


def _page_number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) <= MAX_PAGE_DIGITS else 1


def _is_local(request: Request) -> bool:
    return request.url.hostname in {"localhost", "127.0.0.1", "::1"}


def _see_other(path: str) -> Response:
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})
