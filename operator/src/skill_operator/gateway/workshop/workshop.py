"""The workshop's work: it writes a Skill for a caller who may create one, and tells how the request stands.

It writes Skills and nothing else. What its account may write of them is bounded by the chart's admission policy, too,
so that a mistake here widens no isolation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

from skill_operator import naming
from skill_operator.api.listed_tool import listed_tool
from skill_operator.api.v1alpha1 import ObjectMeta, Skill, SkillSpec
from skill_operator.gateway.access.authorizer import Authorizer, Caller
from skill_operator.gateway.access.limits import FairShares, RateLimiter
from skill_operator.gateway.find_tools import describe_found
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import SkillSearch
from skill_operator.gateway.workshop.similar import fits
from skill_operator.gateway.workshop.skill_request import SkillRequest, check_content, name_examples, skill_object
from skill_operator.gateway.workshop.task import Task, TaskId, task_of
from skill_operator.k8s.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.settings import WorkshopSettings
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
MAX_CREATIONS: Final = 64  # that are looked into at once
MAX_WAITING: Final = 256  # requests that wait for a change of their task
MAX_OFFERED: Final = 3
MIN_COVERAGE_RATIO: Final = 0.6  # of a summary's words, weighted, that a Skill has: less is another subject
KNOWN_SECONDS: Final = 5.0  # how long a change that was written takes until the watch tells of it
UNKNOWN_SECONDS: Final = 2.0  # how long a task that another replica made may be unknown to this one
REMINDER_SECONDS: Final = 5.0  # between two signs of life: a client takes silence for an end
ANSWER_ATTEMPTS: Final = 3
_CREATED_BY_PATH: Final = "/metadata/annotations/" + naming.CREATED_BY_ANNOTATION.replace("/", "~1")
OnProgress = Callable[[Task], Awaitable[None]]


class Creation(NamedTuple):
    """Creation is what comes of a request: the Skill that it has, or Skills that fit and are offered instead."""

    skill: Skill | None
    offered: list[dict[str, Any]]
    is_new: bool = False


class FoundTask(NamedTuple):
    """FoundTask is a task with the Skill that it is."""

    skill: Skill
    task: Task


class Answer(NamedTuple):
    """Answer is what a maker changes of a request. Examples of a known name change that one, others are added."""

    examples: list[dict[str, Any]]
    description: str = ""


class Workshop:
    """Workshop takes requests for Skills, and answers for their tasks."""

    def __init__(
        self,
        cluster: Cluster,
        directory: Directory,
        authorizer: Authorizer,
        search: SkillSearch,
        settings: WorkshopSettings,
    ) -> None:
        self.settings = settings
        self._cluster = cluster
        self._directory = directory
        self._authorizer = authorizer
        self._search = search
        self._rate = RateLimiter(settings.per_minute)
        self._creating = FairShares(MAX_CREATIONS)
        self._waiting = FairShares(MAX_WAITING)
        self._running: dict[tuple[str, str], asyncio.Task[Creation]] = {}  # by maker and digest
        self._keys: dict[str, SkillKey] = {}  # by uid, of what was asked for
        self._changes: dict[str, asyncio.Event] = {}  # by uid: set at its next change
        self._arrival = asyncio.Event()  # set at the next change of any
        for entry in directory.entries.values():
            self._on_skill_change(None, entry)
        directory.skill_listeners.append(self._on_skill_change)

    async def may_create(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may create Skills there; empty: in all namespaces. Raises Problem (503)."""
        try:
            await self._authorizer.authorize_creation(caller, namespace)
        except Problem as problem:
            if problem.slug != "creation-forbidden":
                raise
            return False
        return True

    async def create(self, caller: Caller, request: SkillRequest) -> Creation:
        """Return the Skill of a request, which is written where there is none yet. Raises Problem.

        Whether the caller may comes first. Equal requests of a caller share one piece of work, which goes on where the
        one who came first leaves.
        """
        if not request.namespace:
            raise Problem("invalid-skill", "namespace must be given")
        await self._authorizer.authorize_creation(caller, request.namespace)
        digest = request.digest(caller.name)
        known = self._directory.entries.get(SkillKey(request.namespace, request.object_name(caller.name)))
        if known is not None and known.skill is not None and _is_request(known.skill, caller, digest):
            return Creation(known.skill, [])
        key = caller.name, f"{digest}-{request.force}"
        task = self._running.get(key)
        if task is None:
            self._rate.check(caller.name, "your requests for Skills")
            self._rate.record(caller.name)
            task = self._running[key] = asyncio.create_task(self._create(caller, request))
            task.add_done_callback(lambda ended: self._on_creation_end(key, ended))
        return await asyncio.shield(task)

    def _on_creation_end(self, key: tuple[str, str], ended: asyncio.Task[Creation]) -> None:
        del self._running[key]
        if not ended.cancelled() and (error := ended.exception()) and not isinstance(error, Problem):
            log.error("a request for a Skill failed", exc_info=error)

    async def _create(self, caller: Caller, request: SkillRequest) -> Creation:
        with self._hold(self._creating, caller):
            spec = check_content(request.content)
            review = await self._review_of(request.namespace)
            if not request.force and (offered := await self._similar(caller, request, spec)):
                return Creation(None, offered)
            written = skill_object(request, caller.name, review, self.settings)
            stored, is_new = await self._store(written, caller, request)
        skill = Skill.model_validate(stored)
        meta = skill.metadata
        if is_new:
            metrics.record_creation(meta.namespace)
            fields = {"namespace": meta.namespace, "skill": meta.name, "caller": printable(caller.name, 200)}
            log.info("workshop", extra=fields)
        await self._until_known(meta.uid, meta.generation, KNOWN_SECONDS)
        return Creation(skill, [], is_new)

    async def _store(self, written: Object, caller: Caller, request: SkillRequest) -> tuple[Object, bool]:
        """Return the stored object, and whether it was written now. Raises Problem."""
        namespace, name = written["metadata"]["namespace"], written["metadata"]["name"]
        failure: ClusterError | None = None
        try:
            return await self._cluster.create(written), True
        except (Forbidden, Invalid, NotFound) as error:
            raise _refused(error) from error
        except ClusterError as error:  # it exists, or that is not known
            failure = error
        try:
            stored = await self._cluster.get("Skill", namespace, name)
        except ClusterError:
            stored = None
        if stored is None:
            raise _unavailable(failure) from failure
        if not _is_request(Skill.model_validate(stored), caller, request.digest(caller.name)):
            raise Problem("skill-exists", f"{name} is another Skill in {namespace}; choose another name, or give none")
        return stored, False

    async def _review_of(self, namespace: str) -> str:
        """Return how Skills are reviewed in an open namespace. Raises Problem (403, 503)."""
        try:
            found = await self._cluster.get("Namespace", None, namespace)
        except Forbidden:
            found = None
        except ClusterError as error:
            raise _unavailable(error) from error
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        if labels.get(naming.WORKSHOP_LABEL) != naming.WORKSHOP_ENABLED:
            wanted = f"{naming.WORKSHOP_LABEL}={naming.WORKSHOP_ENABLED}"
            raise Problem("workshop-closed", f"namespace {namespace} lacks the label {wanted}")
        reviews = {labels.get(name, "Automatic") for name in (naming.WORKSHOP_REVIEW_LABEL, naming.REVIEW_LABEL)}
        reviews.discard("Automatic")
        if not reviews:
            return "Automatic"
        return "WhenInDoubt" if reviews == {"WhenInDoubt"} else "Manual"

    async def _similar(self, caller: Caller, request: SkillRequest, spec: SkillSpec) -> list[dict[str, Any]]:
        """Return the Skills that the caller may call and that do what is asked for, best first. Raises Problem."""
        entries = self._directory.entries
        ready = [key for key, entry in entries.items() if _is_of_use(entry)]
        visible = [
            key
            for key in await self._authorizer.filter_visible(caller, ready)
            if self._directory.is_listed(key, caller.name)
        ]
        offered = []
        for key, share in await self._search.coverage(caller, visible, request.content["summary"], MAX_OFFERED):
            await asyncio.sleep(0)  # for the calls of others
            entry = entries.get(key)
            if share < MIN_COVERAGE_RATIO or entry is None or entry.skill is None:
                continue
            if fits(spec, entry.skill.spec, self._directory.input_schema(entry)):
                await asyncio.sleep(0)
                tool = listed_tool(*key, entry.skill.spec)
                offered.append(describe_found(tool.name, tool, entry, bool(self._directory.backends(entry.meta))))
        return offered

    async def find(self, caller: Caller, id_: TaskId) -> FoundTask:
        """Return a task of the caller's own, and its Skill. Raises Problem (404).

        A task that this replica has not heard of yet is waited for, for a moment. So is one of somebody else: how long
        it takes tells nobody that there is one.
        """
        await self._until(lambda: self._own(caller, id_.uid) is not None, UNKNOWN_SECONDS)
        entry = self._own(caller, id_.uid)
        if entry is None or entry.skill is None or id_.generation > entry.skill.metadata.generation:
            raise task_not_found()
        return FoundTask(entry.skill, task_of(entry.skill, id_))

    async def find_by_name(self, caller: Caller, key: SkillKey) -> FoundTask:
        """Return the state of a Skill to its maker, and to whoever may call it. Raises Problem (403, 404, 503)."""
        entry = self._directory.entries.get(key)
        if entry is None or entry.meta.maker != caller.name:
            await self._authorizer.authorize(caller, key)
        if entry is None or entry.skill is None:
            raise Problem("skill-not-found", f"there is no Skill {printable(key.name, 63)} that can be read")
        return FoundTask(entry.skill, task_of(entry.skill, TaskId(entry.meta.uid, 1) if entry.meta.maker else None))

    async def wait(self, caller: Caller, id_: TaskId, seconds: float, on_progress: OnProgress) -> FoundTask:
        """Return the task once it is done or has a question, or after so many seconds, as it then is.

        `on_progress` gets each change of its words, and the same task again now and then. Where the caller's share of
        waiting requests is in use, the task is returned at once. Raises Problem (404).
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._waiting.hold(caller.namespace, caller.name) as admitted:
            while True:
                found = await self.find(caller, id_)
                change = self._changes.setdefault(id_.uid, asyncio.Event())
                left = deadline - asyncio.get_running_loop().time()
                if found.task.status != "working" or left <= 0 or not admitted:
                    return found
                await on_progress(found.task)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(change.wait(), min(left, REMINDER_SECONDS))

    async def answer(self, caller: Caller, id_: TaskId, answer: Answer) -> FoundTask:
        """Change the examples or the description of a request of the caller's own, and return its task. Raises Problem.

        An answer approves nothing. A task that was completed goes on as another one.
        """
        skill, before = await self.find(caller, id_)
        meta = skill.metadata
        await self._authorizer.authorize_creation(caller, meta.namespace)
        if before.status == "cancelled" or meta.is_promoted:
            raise Problem("task-ended", "it was cancelled or promoted; ask for another Skill")
        self._rate.check(caller.name, "your requests for Skills")
        self._rate.record(caller.name)
        with self._hold(self._creating, caller):
            generation = await self._change(caller, meta, answer)
        await self._until_known(id_.uid, generation, KNOWN_SECONDS)
        goes_on = before.status != "completed" or generation == meta.generation
        return await self.find(caller, id_ if goes_on else TaskId(id_.uid, generation))

    async def _change(self, caller: Caller, meta: ObjectMeta, answer: Answer) -> int:
        """Write an answer, and return the generation that it makes. Raises Problem."""
        for _ in range(ANSWER_ATTEMPTS):
            try:
                stored = await self._cluster.get("Skill", meta.namespace, meta.name)
            except ClusterError as error:
                raise _unavailable(error) from error
            if stored is None or stored["metadata"]["uid"] != meta.uid:
                raise task_not_found()
            spec = stored["spec"]
            examples = merge_examples(spec.get("examples", []), answer.examples)
            description = answer.description or spec["description"]
            content = {key: spec[key] for key in ("summary", "input", "output") if key in spec}
            check_content(content | {"description": description, "examples": examples})
            operations = _tests(meta.uid, caller.name, spec)
            operations += [
                {"op": "add", "path": "/spec/examples", "value": examples},
                {"op": "add", "path": "/spec/description", "value": description},
            ]
            if await self._patch(meta, operations):
                changed = examples != spec.get("examples", []) or description != spec["description"]
                return int(stored["metadata"]["generation"]) + int(changed)
        raise Problem("overloaded", "somebody else changes the Skill at the same time; answer again", 1)

    async def cancel(self, caller: Caller, id_: TaskId) -> None:
        """Suspend the Skill of a task of the caller's own that is not completed; nothing is deleted. Raises Problem."""
        skill, task = await self.find(caller, id_)
        meta = skill.metadata
        if task.status in {"completed", "cancelled"} or meta.is_promoted:
            return
        await self._authorizer.authorize_creation(caller, meta.namespace)
        operations = [*_tests(meta.uid, caller.name, {}), {"op": "add", "path": "/spec/suspend", "value": True}]
        if not await self._patch(meta, operations):
            raise task_not_found()

    async def _patch(self, meta: ObjectMeta, operations: list[Object]) -> bool:
        """Write a change, and return False where one of its tests fails, or somebody was faster. Raises Problem."""
        try:
            await self._cluster.patch("Skill", meta.namespace, meta.name, operations)
        except NotFound as error:
            raise task_not_found() from error
        except Conflict:
            return False
        except Invalid as error:
            if "is invalid" not in error.message:  # which the API server says of an object, and not of a failed test
                return False
            raise _refused(error) from error
        except Forbidden as error:
            raise _refused(error) from error
        except ClusterError as error:
            raise _unavailable(error) from error
        return True

    def _own(self, caller: Caller, uid: str) -> SkillEntry | None:
        key = self._keys.get(uid)
        entry = self._directory.entries.get(key) if key is not None else None
        return entry if entry is not None and entry.meta.uid == uid and entry.meta.maker == caller.name else None

    async def _until_known(self, uid: str, generation: int, seconds: float) -> None:
        """Wait until the watch has told of an object in this generation, or a later one; no longer than so long."""
        await self._until(lambda: self._is_known(uid, generation), seconds)

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        """Wait until it is so after a change of any request, no longer than so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_so():
                    await self._arrival.wait()

    def _is_known(self, uid: str, generation: int) -> bool:
        entry = self._directory.entries.get(self._keys[uid]) if uid in self._keys else None
        return entry is not None and entry.meta.generation >= generation

    @contextlib.contextmanager
    def _hold(self, pool: FairShares, caller: Caller) -> Iterator[None]:
        with pool.hold(caller.namespace, caller.name) as admitted:
            if not admitted:
                raise Problem("overloaded", "your requests for Skills hold their share; ask again", 1)
            yield

    def _on_skill_change(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        entry = after or before
        if entry is None or not entry.meta.maker:
            return
        uid = entry.meta.uid
        if after is None:
            self._keys.pop(uid, None)
        else:
            if before is not None and before.meta.uid != uid:
                self._keys.pop(before.meta.uid, None)
            self._keys[uid] = SkillKey(entry.meta.namespace, entry.meta.name)
        if (event := self._changes.pop(uid, None)) is not None:
            event.set()
        self._arrival.set()
        self._arrival = asyncio.Event()


def merge_examples(stored: list[dict[str, Any]], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the examples with these changes: one outcome takes the place of another. Raises Problem (422)."""
    merged = {example["name"]: example for example in stored}
    for change in name_examples(changes, merged):
        name = change["name"]
        if not isinstance(name, str):
            raise Problem("invalid-skill", "an example's name must be a text")
        kept = dict(merged.get(name, {}))
        for field, other in (("output", "error"), ("error", "output")):
            if field in change:
                kept.pop(other, None)
        merged[name] = kept | change
    return list(merged.values())


def task_not_found() -> Problem:
    """Return the problem for a task that is not the caller's own, or that does not exist: the same for both."""
    return Problem("task-not-found", "you have no such task; an equal request with create_skill finds its own")


def _is_of_use(entry: SkillEntry) -> bool:
    """Return whether a Skill can be called, or could a moment ago: one that was just made may not be Ready yet."""
    if entry.skill is None or entry.ready is None:
        return False
    return entry.ready.status == "True" or (entry.ready.status == "Unknown" and bool(entry.skill.status.history))


def _is_request(skill: Skill, caller: Caller, digest: str) -> bool:
    meta = skill.metadata
    return meta.maker == caller.name and meta.annotations.get(naming.REQUEST_ANNOTATION) == digest


def _tests(uid: str, maker: str, spec: Object) -> list[Object]:
    """Return the tests without which nothing is written: it is that object, and its parts are as they were read."""
    parts = [("/metadata/uid", uid), (_CREATED_BY_PATH, maker)]
    parts += [(f"/spec/{field}", spec[field]) for field in ("description", "examples") if field in spec]
    return [{"op": "test", "path": path, "value": value} for path, value in parts]


def _refused(error: ClusterError) -> Problem:
    hint = " Have unused Skills deleted, or the quota raised." if "exceeded quota" in error.message else ""
    return Problem("creation-refused", f"{printable(error.message, 800)}.{hint}")


def _unavailable(error: ClusterError | None) -> Problem:
    log.warning("a request for a Skill cannot be written: %s", error.message if error else "")
    again = "ask again: an equal request finds its own task"
    return Problem("api-server-unavailable", f"the API server does not answer; {again}", 2, status=503)
