"""The review stage builds nothing before a person has approved this very revision, where the Skill asks for that.

`review: Manual` asks always, `review: WhenInDoubt` where the evidence for the code leaves something open. A person
answers by annotations, which admission ties to the right to `update` `skills/approval` and to their own name. What was
rejected is withdrawn: its author tries again with the reviewer's words, or a person must help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from skill_operator import naming, runtime_contract
from skill_operator.api.conditions import BUILT
from skill_operator.api.v1alpha1 import ApprovalRequest, Evidence, Rejection, Review, Skill
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.pinned_revision import PinnedRevision
from skill_operator.reconcile.result import ConditionUpdate, EventNote, Progress, Result
from skill_operator.reconcile.stages.source import add_rejected, describe_rejection, drop_rejected, record_rejection
from skill_operator.settings import Settings
from skill_operator.untrusted.text import single_line

REJECTED: Final = "Rejected"
MAX_WORDS = 1024  # of a reviewer, in characters
MAX_NAME_CHARACTERS = 256  # of a user, as it is shown
NO_WORDS = "The reviewer gave no words."
WORDS_LOST = "This code was rejected before; the words are no longer known."
COVERED_FIELDS = ("input", "output", "egress", "secrets", "resources", "callTimeoutSeconds")
NOT_COVERED: Final[Mapping[str, str]] = {
    "description": "what the code became of it is covered",
    "summary": "no code depends on it, and it grants nothing",
    "examples": "what the code became of them is covered, and the request shows how many there are",
    "deterministic": "what the check held the code to, which is covered itself",
    "generation": "who writes the code, and at what price; the code is covered",
    "review": "who may lower it is decided by admission",
    "callLimits": "how often callers may call",
    "idleTimeoutSeconds": "when the Skill sleeps",
    "suspend": "it only takes away",
    "revisionHistoryLimit": "how many earlier images are kept",
    "revision": "which code runs, which is covered",
    "archiveAfterSeconds": "when the Skill is put away",
}
"""Fields of the spec that no approval covers, and why. `source` and `runtimeClassName` are parts of their own."""

_OPINIONS: Final[Mapping[str, str]] = {
    "Agrees": "a second program agrees",
    "Differs": "a second program differs, see Verified",
    "NoOpinion": "a second program could not be compared",
    "NotAsked": "no second program",
}
_UNTRIED: Final[Mapping[str, str]] = {
    "Granted": "nobody could try variants of code with egress or Secrets",
    "NotDeterministic": "nobody could try variants of code that is not deterministic",
    "Slow": "nobody could try variants of code that is this slow",
    "Memory": "variants of the code took more memory than a check has",
}


def review(observed: Observed, progress: Progress, context: StageContext) -> Result:
    """Wait for the approval of code, base image and grants, or for their rejection."""
    skill, settings, now = observed.skill, context.settings, context.now
    if skill.spec.review == "Automatic":
        progress.status["review"] = None
        return Result.done()
    pinned = observed.pinned
    parts = reviewed_parts(skill, progress.source, settings)
    if pinned is not None:  # its image is there, on the base that it was built on
        parts["base image"] = naming.digest(pinned.entry.image)
    token = naming.approval(skill.metadata.namespace, skill.metadata.name, parts)
    answer = Review(
        by=_annotation(skill, naming.APPROVED_BY_ANNOTATION, MAX_NAME_CHARACTERS),
        at=now,
        revision=_label(observed, progress, settings),
        covers=list(parts),
    )
    # Before all that lets code go on without a person: what was rejected later, or under another spec, stays rejected.
    if (rejection := _find_rejection(skill, progress.source, token, answer)) is not None:
        return _reject(observed, progress, context, rejection)
    if pinned is not None and was_approved(pinned, skill, settings):
        progress.status["review"] = pinned.entry.review
        return Result.done()
    if skill.metadata.annotations.get(naming.APPROVE_ANNOTATION) == token:
        return _approve(skill, progress, parts, answer)
    doubt = _find_doubt(progress, pinned)
    if skill.spec.review == "WhenInDoubt" and not doubt:
        progress.status["review"] = progress.status["rejection"] = None
        return Result.done()
    request = ApprovalRequest(
        doubt=doubt if skill.spec.review == "WhenInDoubt" else "",
        token=token,
        revision=answer.revision,
        source_digest=naming.source_digest(progress.source),
        changed=_changed_parts(skill, parts),
    )
    progress.status["approval_request"] = request
    kept = naming.kept_revision(skill.metadata.name, skill.metadata.uid, progress.revision)
    config_map = naming.source(skill.metadata.name) if pinned is None else kept
    message = _describe_request(skill, request, progress.status.get("evidence"), config_map)
    return Result.waiting(ConditionUpdate(BUILT, "Unknown", "AwaitingApproval", message))


def reviewed_parts(skill: Skill, source: str, settings: Settings) -> dict[str, str]:
    """Return the digest of each part that an approval covers: what the code is, and what it may do and use."""
    spec = skill.spec.model_dump(mode="json", by_alias=True)
    parts = {"code": source, "base image": settings.images.runtime}
    parts |= {f"spec.{name}": spec[name] for name in COVERED_FIELDS}
    parts["runtime class"] = skill.spec.runtime_class_name or settings.isolation.runtime_class_name
    return {name: naming.digest(part) for name, part in parts.items()}


def was_approved(pinned: PinnedRevision, skill: Skill, settings: Settings) -> bool:
    """Return whether a person approved this revision as it was deployed. It runs by the same grants now, or by fewer.

    The runtime class is the present one. The base image is no part: the image that was built on it runs again.
    """
    present = {"runtime_class_name": skill.spec.runtime_class_name}
    accepted = skill.model_copy(update={"spec": pinned.accepted.model_copy(update=present)})
    parts = reviewed_parts(accepted, pinned.source, settings)
    approved = pinned.entry.approved or {}
    return all(approved.get(name) == part for name, part in parts.items() if name != "base image")


def _find_doubt(progress: Progress, pinned: PinnedRevision | None) -> str:
    """Return what the evidence for the code leaves open, or nothing."""
    if pinned is not None:
        return _find_pinned_doubt(pinned)
    evidence = progress.status.get("evidence")
    if progress.verified is None or evidence is None:
        return "there is no evidence for this code"
    if progress.verified.reason == "WeakExamples":
        return "its examples leave open what is right (see Verified)"
    if evidence.author == "same":
        return "one agent wrote both code and examples"
    if evidence.mutants.skipped is not None:
        return _UNTRIED[evidence.mutants.skipped]
    # Little code has none that differs, and the report of a check that was killed while they ran has none either.
    return "" if evidence.mutants.of else "no variant of the code was tried: it has none, or its check was killed first"


def _find_pinned_doubt(pinned: PinnedRevision) -> str:
    """Return what is open about an earlier revision that does not run as it was approved, or nothing.

    What was deployed by this review without an approval left nothing open then. It gets no grant that it did not have,
    and such code may have any runtime class: no doubt depends on that.
    """
    if pinned.entry.approved:
        return "this revision was approved to run otherwise, with another runtime class"
    return "" if pinned.accepted.review == "WhenInDoubt" else "this revision was deployed without regard to doubts"


def _label(observed: Observed, progress: Progress, settings: Settings) -> str:
    """Return the label of the revision that waits. Only an earlier one has an image already."""
    if observed.pinned is not None:
        return observed.pinned.entry.revision
    return naming.shorten(naming.revision(progress.source, settings.images.runtime))


def reviewer_name(skill: Skill) -> str:
    """Return who set the annotation of a rejection; empty where nobody says."""
    return _annotation(skill, naming.REJECTED_BY_ANNOTATION, MAX_NAME_CHARACTERS)


def reviewer_words(skill: Skill) -> str:
    """Return the words of a rejection; empty where there are none."""
    return _annotation(skill, naming.REJECT_MESSAGE_ANNOTATION, MAX_WORDS)


def _annotation(skill: Skill, name: str, limit: int) -> str:
    """Return a person's annotation as one line that is fit to be shown."""
    return single_line(skill.metadata.annotations.get(name, ""), limit)


def _approve(skill: Skill, progress: Progress, parts: dict[str, str], answer: Review) -> Result:
    """Return that the revision was approved. An event tells of it once, and the time of the first sight stays."""
    known = skill.status.review
    is_known = known is not None and skill.status.approved == parts and known.by == answer.by
    progress.review = known if is_known else answer
    progress.status["approved"] = parts
    progress.status["review"] = progress.review
    progress.status["rejection"] = None
    progress.status["rejected"] = drop_rejected(skill, naming.source_digest(progress.source))
    if is_known:
        return Result.done()
    message = f"{answer.by or 'somebody'} approved revision {answer.revision}: {', '.join(answer.covers)}"
    return Result.done(events=(EventNote("Normal", "Approved", message),))


def _find_rejection(skill: Skill, source: str, token: str, answer: Review) -> Rejection | None:
    """Return the rejection of what waits. Rejected code stays so, also under another spec and without its annotations.

    Only an approval of the present token lifts it, and not one that was there before: that is of an earlier day.
    """
    annotations, digest = skill.metadata.annotations, naming.source_digest(source)
    known = _known_rejection(skill, digest, token)
    is_approved = annotations.get(naming.APPROVE_ANNOTATION) == token
    is_outdated = is_approved and (known is None or known.token != token or known.outdated_approval)
    values = {"token": token, "source_digest": digest, "outdated_approval": is_outdated, "revision": answer.revision}
    if annotations.get(naming.REJECT_ANNOTATION) == token:
        return Rejection(
            by=reviewer_name(skill),
            at=known.at if known is not None and known.token == token else answer.at,
            message=reviewer_words(skill) or NO_WORDS,
            **values,
        )
    if is_approved and not is_outdated:
        return None
    if known is not None:
        return known.model_copy(update=values)
    return Rejection(at=answer.at, message=WORDS_LOST, **values) if digest in skill.status.rejected else None


def _known_rejection(skill: Skill, digest: str, token: str) -> Rejection | None:
    """Return the rejection of this code that the status has, if its latest one is that."""
    known = skill.status.rejection
    return known if known is not None and (known.token == token or known.source_digest == digest) else None


def _reject(observed: Observed, progress: Progress, context: StageContext, rejection: Rejection) -> Result:
    """Withdraw the candidate: a model writes another one with the reviewer's words, or a person must help."""
    progress.status["rejection"] = rejection
    progress.status["rejected"] = add_rejected(observed.skill, rejection.source_digest)
    text = describe_rejection(rejection)
    writes = record_rejection(observed, progress, context, rejection)
    if writes is not None:
        return Result.failed(ConditionUpdate(BUILT, "False", REJECTED, text), retry_after=0.0, **writes)
    advice = _advise_rejected(observed, rejection)
    return Result.stalled(ConditionUpdate(BUILT, "False", REJECTED, f"{text}\n{advice}"))


def _advise_rejected(observed: Observed, rejection: Rejection) -> str:
    """Return what a person can do about rejected code that no model writes anew."""
    meta = observed.skill.metadata
    annotate = _annotate(meta.namespace, meta.name)
    change = "Change the code in spec.source.inline or what the spec grants"
    if observed.pinned is not None:
        change = "Name another revision in spec.revision, or remove it"
    anew = ""
    if rejection.outdated_approval:  # the same value once more would be no change
        anew = f" (its former approval is outdated, so first: {annotate} {naming.APPROVE_ANNOTATION}-)"
    answer = f"{annotate} {naming.REJECT_ANNOTATION}- {_answer(naming.APPROVE_ANNOTATION, rejection.token)}"
    return f"{change}, or approve it after all{anew}: {answer}"


def _changed_parts(skill: Skill, parts: dict[str, str]) -> list[str]:
    """Return the parts that differ from what was approved last, or nothing where nothing was."""
    approved = skill.status.approved or {}
    return [name for name in parts if approved.get(name) != parts[name]] if approved else []


def _describe_request(skill: Skill, request: ApprovalRequest, evidence: Evidence | None, config_map: str) -> str:
    """Return why a person is asked, what changed, how to read it, how to answer, and what was tried.

    `config_map` is the name of what has the code.
    """
    meta = skill.metadata
    changed = ", ".join(request.changed) or "nothing"
    news = f"changed since the last approval: {changed}" if skill.status.approved else "nothing was approved yet"
    if request.doubt:
        news = f"{request.doubt}; {news}"
    # By its hash a reviewer sees that nobody has put another text into the ConfigMap meanwhile.
    file = runtime_contract.SKILL_FILE.replace(".", "\\.")
    annotate = _annotate(meta.namespace, meta.name)
    return (  # a condition has room for 1,024 characters, so what may be cut goes last
        f"{news}. Code, whose sha256 is {request.source_digest}: kubectl get configmap -n {meta.namespace} "
        f"{config_map} -o jsonpath='{{.data.{file}}}' | tee /dev/stderr | sha256sum. Grants: kubectl get "
        f"skill -n {meta.namespace} {meta.name} -o yaml. Approve both: kubectl skill approve {meta.name} -n "
        f"{meta.namespace}, or {annotate} {_answer(naming.APPROVE_ANNOTATION, request.token)}. "
        f"Reject: kubectl skill reject {meta.name} -n {meta.namespace} -m WORDS, or the same with reject, rejected-by, "
        f"reject-message. {_describe_evidence(evidence)}"
    ).strip()


def _annotate(namespace: str, name: str) -> str:
    return f"kubectl annotate skill -n {namespace} {name} --overwrite"


def _answer(annotation: str, token: str) -> str:
    """Return the annotations of an answer in the shell's words: admission wants the name of who asks."""
    by = {naming.APPROVE_ANNOTATION: naming.APPROVED_BY_ANNOTATION}.get(annotation, naming.REJECTED_BY_ANNOTATION)
    return f"{annotation}={token} {by}=\"$(kubectl auth whoami -o jsonpath='{{.status.userInfo.username}}')\""


def _describe_evidence(evidence: Evidence | None) -> str:
    """Return what was tried on the code, in words."""
    if evidence is None:
        return ""
    shown = f"{evidence.visible} examples that the model saw and {evidence.held_out} that it did not"
    if evidence.author == "pinned":
        shown = f"{evidence.visible + evidence.held_out} examples"
    mutants = evidence.mutants
    mistakes = "no mutants tried"
    if mutants.skipped is None and mutants.of:
        mistakes = f"{mutants.killed} of {mutants.of} mutants noticed"
    tried = (f"passes {shown}", f"{evidence.promises} made inputs", mistakes, _OPINIONS[evidence.second_opinion])
    return f"Evidence: {'; '.join(tried)}. "
