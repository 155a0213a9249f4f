"""The reasons of conditions and events: what each one means, and what a person does about it.

The operator's users read these words in `kubectl describe skill`. The troubleshooting guide and the reference of
conditions are generated from this table, and a test holds it equal to the reasons that the code uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skill_operator.api.conditions import (
    ACTIVE,
    BUILT,
    DEPLOYED,
    GENERATED,
    ISOLATED,
    READY,
    RECONCILING,
    STALLED,
    VERIFIED,
)

NOTHING: Final = "Nothing to do."
EVENT: Final = "event"  # in place of a condition: the reason is an event's alone
_STAGES: Final = (GENERATED, VERIFIED, BUILT, DEPLOYED)
_PODS: Final = (VERIFIED, BUILT, DEPLOYED)


CONDITIONS: Final[Mapping[str, str]] = {
    GENERATED: "There is code: pinned in the spec, or written by a model.",
    VERIFIED: "The code passed every gate of the check.",
    BUILT: "The image of this revision is in the registry.",
    DEPLOYED: "This revision answers calls, or is asleep and wakes on the next one.",
    ACTIVE: "A pod runs. False while the Skill is asleep, which is healthy.",
    ISOLATED: "The cluster was seen to enforce the isolation of pods.",
    RECONCILING: "The operator works or waits, and goes on by itself. Present only while true (kstatus).",
    STALLED: "A changed spec or a person must help. Present only while true (kstatus).",
    READY: "The Skill can be called.",
}


class ReasonGroup(str, Enum):
    """ReasonGroup names the part of a Skill's life that a reason belongs to, in the order a Skill meets them."""

    SPEC = "The spec and the installation"
    GRANTS = "Secrets and egress"
    SOURCE = "Writing the code"
    ISOLATION = "Isolation"
    CHECK = "The check"
    BUILD = "Review and build"
    PODS = "Pods that do not start or do not stay"
    RUN = "Running and sleeping"


@dataclass(frozen=True)
class Reason:
    """Reason explains one machine-readable cause.

    `conditions` are the types it appears on. Ready, Reconciling and Stalled repeat the reason of the stage that holds
    the Skill up, so they are listed only where they have a reason of their own.
    """

    group: ReasonGroup
    conditions: tuple[str, ...]
    meaning: str
    action: str


REASONS: Final[Mapping[str, Reason]] = {
    # The spec and the installation.
    "Ready": Reason(ReasonGroup.SPEC, (READY,), "The Skill can be called. It may be asleep.", NOTHING),
    "Pending": Reason(
        ReasonGroup.SPEC, _STAGES, "The Skill has not reached this stage yet.", "Read the stage before it, or wait."
    ),
    "Suspended": Reason(
        ReasonGroup.SPEC,
        (READY,),
        "`spec.suspend` is true, so the operator only takes away what is no longer granted.",
        "Set `spec.suspend: false` to go on.",
    ),
    "Deleting": Reason(
        ReasonGroup.SPEC,
        (READY, DEPLOYED, ACTIVE),
        "The Skill is being deleted, and nothing of it runs any more. Finalizers that others set still hold it.",
        "Let whoever set the finalizers that the message names remove them. If nobody does, remove them from "
        "`metadata.finalizers`.",
    ),
    "SpecInvalid": Reason(
        ReasonGroup.SPEC,
        (GENERATED, VERIFIED),
        "The spec has a mistake that the API server cannot see. The message names each field.",
        "Correct the fields that the message names. No model was called.",
    ),
    "KeywordIgnored": Reason(
        ReasonGroup.SPEC,
        (EVENT,),
        "A schema of the spec has a keyword that does nothing: misspelt, of another dialect, or for another type.",
        "Correct or remove the keywords that the message names. The Skill works without.",
    ),
    "NullsDropped": Reason(
        ReasonGroup.SPEC,
        (EVENT,),
        "Client-side `kubectl apply` took a `null` of the manifest for a key to delete, so the object lacks it.",
        "Apply the manifest with `kubectl apply --server-side`.",
    ),
    "NamespaceReserved": Reason(
        ReasonGroup.SPEC,
        (GENERATED, ACTIVE),
        "The Skill is in the namespace of the operator or of its builds, which hold the operator's own objects. "
        "Nothing runs there.",
        "Move the Skill to another namespace.",
    ),
    "NameTaken": Reason(
        ReasonGroup.SPEC,
        _STAGES,
        "An object of a name that the Skill needs is not the Skill's. The operator leaves it as it is.",
        "Delete or move the object that the message names, or rename the Skill.",
    ),
    "ObjectRefused": Reason(
        ReasonGroup.SPEC,
        (*_STAGES, EVENT),
        "The cluster refuses an object of the Skill, or its status: by a quota, a policy, a webhook or missing rights. "
        "The message has its own words. What runs goes on.",
        "Do what the message says. The operator tries again within two minutes, and at once what a new spec changes.",
    ),
    "ToolAdapted": Reason(
        ReasonGroup.SPEC,
        (EVENT,),
        "Some clients of agents would refuse the Skill's tool as it is: its name, its description or a schema. Lists "
        "of tools have it in a form that they take. Each call is judged by the spec.",
        "Nothing to do. For another form, change what the message names, or set spec.summary.",
    ),
    "LeftoverDeleted": Reason(
        ReasonGroup.SPEC,
        (EVENT,),
        "A Deployment of a former Skill of this name was there, restored or orphaned. The operator deleted it.",
        NOTHING,
    ),
    "ClusterRangesUnknown": Reason(
        ReasonGroup.SPEC,
        (GENERATED,),
        "The operator cannot tell the cluster's own networks, so it grants no egress.",
        "List the networks of pods, services and nodes in `isolation.clusterCIDRs` of the chart.",
    ),
    "RegistryUnavailable": Reason(
        ReasonGroup.SPEC,
        (GENERATED, VERIFIED, BUILT),
        "The registry does not answer, or does not hold the base image yet. The operator asks again, and goes on by "
        "itself. A Skill that works stays Ready; its `Built` says what cannot be renewed.",
        "Run `make doctor`. See the registry's pod, or `registry.read` and `registry.readSecret` of the chart. Where "
        "the pod's claim finds no StorageClass, set `registry.persistence.enabled: false`.",
    ),
    "RegistryStarting": Reason(
        ReasonGroup.SPEC,
        (GENERATED, VERIFIED, BUILT),
        "The operator started less than two minutes ago, and its own registry has not answered yet.",
        "Wait. After two minutes this becomes `RegistryUnavailable`.",
    ),
    "BaseImageInvalid": Reason(
        ReasonGroup.SPEC,
        (GENERATED, VERIFIED, BUILT),
        "`images.runtime` or `images.checker` of the chart is no base image: it is an index of several platforms, or "
        "lacks the operator's label.",
        "Give the digests that `make publish` writes. Of an index, give the digest of one platform's image, as the "
        "message lists them.",
    ),
    "BaseImagesDiffer": Reason(
        ReasonGroup.SPEC,
        (GENERATED, VERIFIED, BUILT),
        "The runtime and checker images hold different libraries, so nothing is built.",
        "Set `images.runtime` and `images.checker` of the chart to images of one build.",
    ),
    # Secrets.
    "SecretNotGranted": Reason(
        ReasonGroup.GRANTS,
        (DEPLOYED, ACTIVE),
        "The Skill's own ServiceAccount may not read a Secret, or the spec no longer names it. Its pods are ended.",
        "Let somebody who may grant it run the two commands in the message, or remove the Secret from `spec.secrets`.",
    ),
    "UnreadableDeleted": Reason(
        ReasonGroup.GRANTS,
        (EVENT,),
        "Somebody filled a Deployment or NetworkPolicy of the Skill until it was too large to be read. What it opens "
        "could not be known, so the operator deleted it, and makes it anew.",
        "Take away the right to change objects of the operator from whoever did it.",
    ),
    "EgressNarrowed": Reason(
        ReasonGroup.GRANTS,
        (EVENT,),
        "The policy of running pods opened more than the spec and the installation grant now. The operator narrowed it "
        "at once. Pods that may hold connections which the spec granted are replaced.",
        NOTHING,
    ),
    "RuntimeClassNotAllowed": Reason(
        ReasonGroup.GRANTS,
        (DEPLOYED, ACTIVE),
        "Pods ran by a runtime class that the chart's values no longer allow. The operator ended them. Where the spec "
        "does not name that class, the next pods have the class that is the default now.",
        "Name an allowed class in `spec.runtimeClassName`, or remove it. Or allow the class again by "
        "`isolation.runtimeClassNames` of the chart.",
    ),
    "IsolationTightened": Reason(
        ReasonGroup.GRANTS,
        (DEPLOYED, ACTIVE),
        "Pods lacked what the chart's values demand now by `isolation.required` or `isolation.userNamespaces`. The "
        "operator ended them, and the next ones have it.",
        NOTHING,
    ),
    # Writing the code.
    "Pinned": Reason(
        ReasonGroup.SOURCE, (GENERATED,), "The code is the one in `spec.source`. No model is called.", NOTHING
    ),
    "RevisionPinned": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, VERIFIED),
        "`spec.revision` pins an earlier revision. Its code was accepted before. No model is called, nothing is built.",
        "Nothing to do. Remove `spec.revision` to go forward to what the spec says.",
    ),
    "UnknownRevision": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "`spec.revision` names no revision of `status.history` that can run. What runs goes on.",
        "Name one of those that the message lists, or remove `spec.revision`.",
    ),
    "Generating": Reason(ReasonGroup.SOURCE, (GENERATED,), "A model is writing the code.", "Wait for the reply."),
    "Generated": Reason(
        ReasonGroup.SOURCE, (GENERATED,), "There is code to check, or code that was accepted.", NOTHING
    ),
    "NoModel": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "No model is configured, or not the one that `spec.generation.model` names.",
        "Set `models[]` of the chart, correct the name, or give the code in `spec.source.inline`.",
    ),
    "ModelUnavailable": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, EVENT),
        "The model's endpoint does not answer, or answers with an error, in its own words. No attempt is spent.",
        "Wait: the operator asks again. If it lasts, check the endpoint and `models[].timeoutSeconds`.",
    ),
    "ModelRefused": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, EVENT),
        "The endpoint refuses the request as it is: key, model name, path, form, or an account without credit. The "
        "message has its own words. No attempt is spent.",
        "Do what the message says: correct `models[]` or its `apiKeySecret` in the chart, or pay. The operator tries "
        "again twice an hour, and at once when the settings of the endpoint change.",
    ),
    "Throttled": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The spec changed again so soon that the next request to a model waits.",
        "Wait for `generation.floorSeconds`.",
    ),
    "QuotaExhausted": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The tokens of the day are spent, those of the namespace or those of all Skills.",
        "Wait until midnight UTC, or raise `generation.dailyTokens` of the chart.",
    ),
    "AttemptsExhausted": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "As many candidates as `spec.generation.maxAttempts` allows were refused.",
        "Read what was wrong with the best one. Make description or examples clearer, or raise the limit.",
    ),
    "BudgetExhausted": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The tokens that are left do not suffice for another request.",
        "Raise `spec.generation.tokenBudget`, or shorten the spec.",
    ),
    "LoopDetected": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The model keeps writing the same program, after a fresh start too.",
        "Make the description or the examples clearer.",
    ),
    "NoProgress": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The latest candidates fail in the same way, after a fresh start too.",
        "Make the description or the examples clearer at the point that the message names.",
    ),
    "SuspectSpec": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "Different programs give the same answer to one example, and not the one that it wants. Either may be wrong.",
        "Check that example, which the message names. If it is right, describe what leads to it; else correct it.",
    ),
    "PolicyRefused": Reason(
        ReasonGroup.SOURCE,
        (GENERATED,),
        "The model insists on something that the check forbids.",
        "Grant it in `spec.egress` or `spec.secrets`, or describe how to do without.",
    ),
    "DeadlineExceeded": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, VERIFIED),
        "Generated: no code was accepted within `generation.deadlineSeconds`. Verified: the check's Job ran too long.",
        "Generated: make the spec clearer, or raise the limit. Verified: wait for the next check, or raise "
        "`check.deadlineSeconds`.",
    ),
    "NoCode": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, EVENT),
        "The model's reply held no usable code. The message quotes what it wrote. After two such replies in a row the "
        "work ends.",
        "Use a model that follows instructions, or make the description clearer.",
    ),
    "TaskRefused": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, EVENT),
        "The model declines the task, or a content filter of its endpoint withholds prompt or reply. The message has "
        "its own words. After two such replies in a row the work ends.",
        "Describe the task in other words, use another model, or change the endpoint's filter.",
    ),
    "ReplyCutOff": Reason(
        ReasonGroup.SOURCE,
        (GENERATED, EVENT),
        "A reply was longer than it may be. After two such replies in a row the work ends. One whose limit went into "
        "reasoning is asked for again with twice the limit, while the token budget lasts.",
        "Raise `models[].maxReplyTokens` of the chart, or ask for less in one Skill. For a model that reasons, raise "
        "`spec.generation.tokenBudget`. The Skill then goes on by itself.",
    ),
    "CodeRepeated": Reason(
        ReasonGroup.SOURCE,
        (EVENT,),
        "The model wrote code that was refused before. It is not checked again.",
        "Nothing to do: the next attempt starts without that code.",
    ),
    # Isolation.
    "EgressRefused": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "Isolation is proven: a pod saw its way out refused before it loaded any code.",
        NOTHING,
    ),
    "NotProvenYet": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "The prober has not answered since the operator started.",
        "Wait some seconds, then see `deployment/skill-operator-prober`.",
    ),
    "IsolationPending": Reason(
        ReasonGroup.ISOLATION,
        (VERIFIED,),
        "The operator has only started, and is about to see whether the cluster enforces NetworkPolicies.",
        "Wait some seconds, then see `deployment/skill-operator-prober`.",
    ),
    "IsolationUnproven": Reason(
        ReasonGroup.ISOLATION,
        (VERIFIED,),
        "Nothing new runs until the cluster is seen to enforce NetworkPolicies.",
        "Read the condition Isolated, and run `make doctor`.",
    ),
    "ProberSilent": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "The prober does not answer. The network plugin's enforcer or the prober is down.",
        "See `deployment/skill-operator-prober` and the pods of the network plugin.",
    ),
    "BeaconSilent": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "The beacon, by which isolation is measured, does not answer.",
        "See the pods of the gateway, which serve the beacon.",
    ),
    "EgressNotBlocked": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED, VERIFIED, DEPLOYED),
        "A pod reached an address that its policy forbids, so the code was not run.",
        "Install a network plugin that enforces NetworkPolicies, then run `make doctor`.",
    ),
    "IngressNotBlocked": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "An isolated pod was reached on a port that no policy opens.",
        "Install a network plugin that enforces NetworkPolicies for ingress too, then run `make doctor`.",
    ),
    "NotEnforced": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "The chart says `isolation.required: false`, so code runs without proof of isolation.",
        "Set `isolation.required: true`, except on a throw-away cluster.",
    ),
    "PoliciesUnread": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "The namespace has NetworkPolicies that are too large or too many to be read, so one may widen the isolation.",
        "Delete the policies that the message names, or make them smaller.",
    ),
    "WidenedByPolicy": Reason(
        ReasonGroup.ISOLATION,
        (ISOLATED,),
        "Another NetworkPolicy of the namespace lets more in or out than the spec says.",
        "Delete the policies that the message names, or narrow their `podSelector`.",
    ),
    # The check.
    "Checking": Reason(ReasonGroup.CHECK, (VERIFIED,), "The check of the candidate is starting or running.", "Wait."),
    "Verified": Reason(ReasonGroup.CHECK, (VERIFIED,), "The code passed every gate and every example.", NOTHING),
    "SecondOpinion": Reason(
        ReasonGroup.CHECK,
        (VERIFIED,),
        "The code passed. A model writes a second program, since examples are few, and both are compared.",
        "Wait: it takes one call of a model and one check. To do without, set `spec.generation.secondOpinion: Never`.",
    ),
    "WeakExamples": Reason(
        ReasonGroup.CHECK,
        (VERIFIED,),
        "The code passed, and is used. The examples do not say which of two answers is right for the input in the "
        "message.",
        "Add an example with that input and the right answer. If both are right, leave it.",
    ),
    "CheckRefused": Reason(
        ReasonGroup.CHECK,
        (VERIFIED,),
        "A gate of the check refused the code. The message names the gate and the line.",
        "Pinned code: correct it. Generated code: wait for the next attempt.",
    ),
    "CheckFailed": Reason(
        ReasonGroup.CHECK,
        (VERIFIED,),
        "The check ended without a result. It is made again, up to five times; then the code is refused.",
        "Wait. If it lasts, read the log of the check's pod and raise `check.resources` of the chart.",
    ),
    "BackoffLimitExceeded": Reason(
        ReasonGroup.CHECK,
        (VERIFIED,),
        "The check's pod failed before it had a result. The check is made again.",
        "Wait. If it lasts, read the events of the check's Job.",
    ),
    # Review and build.
    "AwaitingApproval": Reason(
        ReasonGroup.BUILD,
        (BUILT,),
        "`spec.review` is Manual, or WhenInDoubt with a doubt, which the message names. This code, base image or grant "
        "was not approved yet.",
        "Somebody who may `update` `skills/approval` reads what changed, then runs a command of the message.",
    ),
    "Approved": Reason(
        ReasonGroup.BUILD, (EVENT,), "A person approved this revision. `status.review` says who, and of what.", NOTHING
    ),
    "Rejected": Reason(
        ReasonGroup.BUILD,
        (GENERATED, BUILT, EVENT),
        "A person rejected the code, which had passed its check. Built: a model tries again with the reviewer's words, "
        "or the code is pinned. Generated: attempts or tokens are spent. As an event alone: the spec was edited "
        "meanwhile. That code stays rejected. What ran before goes on.",
        "Read the reviewer's words in the message. Describe what the reviewer wants, raise the limit, or correct the "
        "pinned code.",
    ),
    "Queued": Reason(
        ReasonGroup.BUILD,
        (VERIFIED, BUILT),
        "As many checks run as `check.concurrency` and `check.namespaceConcurrency` allow, or as many builds as "
        "`build.concurrency` allows. The message has the place in the queue.",
        "Wait, or raise these values of the chart; for builds `builder.quota` too.",
    ),
    "Building": Reason(ReasonGroup.BUILD, (BUILT,), "The build of the image is starting or running.", "Wait."),
    "Built": Reason(ReasonGroup.BUILD, (BUILT,), "The image of this revision is in the registry.", NOTHING),
    "BuildFailed": Reason(
        ReasonGroup.BUILD,
        (BUILT,),
        "The build failed, which is not the code's fault. It is made again.",
        "Read the message and the build's pod: `kubectl -n skill-operator-builds get jobs,pods`.",
    ),
    "ImageLost": Reason(
        ReasonGroup.BUILD,
        (BUILT,),
        "The registry no longer has the image. The operator builds it again from the source that it keeps, first the "
        "images that somebody calls for. Meanwhile the Skill goes on with what the nodes have.",
        "Wait. To prevent it, set `registry.persistence.enabled: true` of the chart.",
    ),
    # Pods that do not start or do not stay.
    "Unschedulable": Reason(
        ReasonGroup.PODS,
        _PODS,
        "No node has room for the pod, or none fits it.",
        "Add nodes, or lower the requests of `spec.resources` or of the chart.",
    ),
    "QuotaExceeded": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The namespace's ResourceQuota has no room for another pod.",
        "Delete Skills, lower their resources, or raise `isolation.namespacePods` and its neighbours.",
    ),
    "RuntimeClassMissing": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The cluster does not have the RuntimeClass that the spec or the chart names.",
        "Install the RuntimeClass, or correct `spec.runtimeClassName` or `isolation.runtimeClassName`.",
    ),
    "PodsRefused": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The cluster refuses to make the pod. The message has its own words.",
        "Look for an admission webhook or policy of that name.",
    ),
    "ImagePullFailed": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The node cannot pull the image.",
        "Check that nodes reach `registry.pull`, and that `registry.pullSecret` is in the namespace.",
    ),
    "InjectedContainerFailed": Reason(
        ReasonGroup.PODS,
        _PODS,
        "A container that a webhook of the cluster injects into the pod fails. Pods of Skills have no way out.",
        "Exempt pods with the label `app.kubernetes.io/managed-by=skill-operator` from the injection.",
    ),
    "PodConfigInvalid": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The kubelet cannot start the container as it is configured.",
        "Read the message. A policy of the cluster or a missing object is the usual cause.",
    ),
    "SecretMissing": Reason(
        ReasonGroup.PODS,
        (DEPLOYED,),
        "A Secret of `spec.secrets`, or a key of it, does not exist.",
        "Create the Secret with that key in the Skill's namespace.",
    ),
    "SandboxFailed": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The node cannot make the pod's sandbox.",
        "Check the RuntimeClass and `isolation.userNamespaces`; `make doctor` says what nodes lack.",
    ),
    "PodStuck": Reason(
        ReasonGroup.PODS,
        _PODS,
        "The pod is on its node and does not start. The message has the node's last warning.",
        "Read the message and `kubectl describe pod`.",
    ),
    "Evicted": Reason(
        ReasonGroup.PODS,
        (*_PODS, ACTIVE),
        "The node ended the pod because it ran short of something.",
        "Look at the node's conditions. A new pod is started.",
    ),
    "Crashed": Reason(
        ReasonGroup.PODS,
        (*_PODS, ACTIVE),
        "The container ended by itself. The message has its last words.",
        "Read `kubectl logs --previous` of the pod.",
    ),
    "OOMKilled": Reason(
        ReasonGroup.PODS,
        (*_PODS, ACTIVE),
        "The container, or one call, used more memory than it may.",
        "Raise `spec.resources.limits.memory`, or use less.",
    ),
    "DiskFull": Reason(
        ReasonGroup.PODS,
        (*_PODS, ACTIVE),
        "The code filled /tmp.",
        "Raise `spec.resources.limits.ephemeral-storage`, or write less.",
    ),
    # Running and sleeping.
    "Starting": Reason(ReasonGroup.RUN, (DEPLOYED,), "A pod of this revision is starting.", "Wait."),
    "Trial": Reason(
        ReasonGroup.RUN,
        (DEPLOYED,),
        "A new revision answers its visible examples in a pod of its own. The earlier one serves meanwhile.",
        "Wait some seconds.",
    ),
    "TrialFailed": Reason(
        ReasonGroup.RUN,
        (DEPLOYED,),
        "The new revision passed its check, and failed a visible example in its own pod. The earlier one serves on.",
        "Read which example failed, and compare `spec.resources` with what the check may use. Change the spec, pin "
        "`spec.revision`, or set the annotation `retry` to try once more.",
    ),
    "Deployed": Reason(
        ReasonGroup.RUN, (DEPLOYED,), "This revision answers, wakes, or sleeps and wakes on the next call.", NOTHING
    ),
    "EgressProxyStarting": Reason(
        ReasonGroup.RUN,
        (DEPLOYED,),
        "The egress proxy, through which hosts are called, does not answer yet.",
        "Wait. If it lasts, see `deployment/skill-operator-egress-proxy`.",
    ),
    "Awake": Reason(ReasonGroup.RUN, (ACTIVE,), "A pod answers calls.", NOTHING),
    "Asleep": Reason(ReasonGroup.RUN, (ACTIVE,), "No pod runs. The next call wakes the Skill.", NOTHING),
    "Waking": Reason(ReasonGroup.RUN, (ACTIVE,), "A call came, and a pod is starting.", NOTHING),
    "Archived": Reason(
        ReasonGroup.RUN,
        (ACTIVE, READY),
        "Nobody called the Skill for `spec.archiveAfterSeconds`. Its Deployment, Service and image are gone, and its "
        "code is kept.",
        "Nothing to do. The next call, or a new value of the annotation `skill-operator.dev/restore`, restores it.",
    ),
    "Restoring": Reason(
        ReasonGroup.RUN,
        (ACTIVE,),
        "The Skill comes back from the archive. Where the registry has no image any more, it is built again, which "
        "costs no token.",
        "Wait. Until it runs, the conditions before this one say how far it is.",
    ),
    "ScaledByHand": Reason(
        ReasonGroup.RUN,
        (ACTIVE,),
        "Somebody, or a HorizontalPodAutoscaler, set the Deployment's replicas to more than 1. The operator leaves "
        "them as they are, and the Skill does not sleep.",
        "Set `spec.replicas` of the Deployment, or `minReplicas` of the autoscaler, to 1 to let it sleep.",
    ),
    "CallTimeout": Reason(
        ReasonGroup.RUN,
        (ACTIVE,),
        "The pod goes on. A call was ended because it took longer than `spec.callTimeoutSeconds`.",
        "Raise `spec.callTimeoutSeconds`, or ask for less in one call.",
    ),
    "TooManyProcesses": Reason(
        ReasonGroup.RUN,
        (ACTIVE,),
        "The pod goes on. A call started more processes and threads than it may.",
        "Use fewer processes and threads.",
    ),
}
