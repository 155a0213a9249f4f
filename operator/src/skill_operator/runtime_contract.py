"""The contract with the runtime, with which no code is shared: names, limits and exit codes.

The runtime's copy is skill_runtime.operator_contract, docs/runtime-contract.md explains each entry, and a test holds
the three equal.
"""

from __future__ import annotations

from typing import Final

# Commands of the images: what a container runs, as arguments of the interpreter.
RUNTIME_COMMAND: Final = ("python3", "-I", "-m", "skill_runtime")
COMMAND_SERVE: Final = "serve"
COMMAND_CHECK: Final = "check"
COMMAND_TRIAL: Final = "trial"

# Environment of PID 1.
ENV_ISOLATION: Final = "SKILL_ISOLATION"
ISOLATION_OPTIONAL: Final = "optional"
ENV_BEACON: Final = "SKILL_BEACON"
ENV_GRACE: Final = "SKILL_GRACE"
ENV_SKILL_UID: Final = "SKILL_UID"
ENV_CONTRACT_DIGEST: Final = "SKILL_CONTRACT_DIGEST"
ENV_CHECK_PART: Final = "SKILL_CHECK_{number}"
MAX_CHECK_PARTS: Final = 8
ENV_REPORT_KEY: Final = "SKILL_REPORT_KEY"
ENV_CHECK_PHASE: Final = "SKILL_CHECK_PHASE"
PHASE_READ: Final = "read"
PHASE_RUN: Final = "run"
ENV_SKIP_MUTANTS: Final = "SKILL_SKIP_MUTANTS"
ENV_HTTP_PROXY: Final = "HTTP_PROXY"
ENV_HTTPS_PROXY: Final = "HTTPS_PROXY"
ENV_NO_PROXY: Final = "NO_PROXY"

# HTTP between the gateway and a pod.
HTTP_PORT: Final = 8080
CALL_METHOD: Final = "POST"
CALL_PATH: Final = "/"
HEALTH_PATH: Final = "/healthz"
HEADER_CALLER: Final = "X-Skill-Caller"
HEADER_DEADLINE_MS: Final = "X-Skill-Deadline-Ms"
HEADER_REQUEST_ID: Final = "X-Request-Id"
HEADER_SKILL_UID: Final = "X-Skill-Uid"
HEADER_NOT_TAKEN: Final = "X-Skill-Not-Taken"
NOT_TAKEN_NO_PLACE: Final = "no-place"
NOT_TAKEN_DRAINING: Final = "draining"
NOT_TAKEN_OTHER_SKILL: Final = "other-skill"
HEADER_TRACEPARENT: Final = "traceparent"
HEADER_TRACESTATE: Final = "tracestate"
REQUEST_ID_PATTERN: Final = "[A-Za-z0-9._-]{1,64}"
PROBLEM_URN_PREFIX: Final = "urn:skill-operator:"
MAX_BODY_BYTES: Final = 1 << 20
MAX_LEVELS: Final = 100
MAX_RUNNING_CALLS: Final = 4
MAX_QUEUED_CALLS: Final = 32

# Patterns of schemas: what they may compile to, and for how long one validation may search with them.
PATTERN_SIZES_KIB: Final = (8, 64, 512, 4096)
MAX_PATTERNS_KIB: Final = 16_384
MAX_SEARCH_WORK: Final = 16_777_216

# Files of a pod.
CONTRACT_DIRECTORY: Final = "/etc/skill"
CONTRACT_FILE: Final = "contract.json"
SECRETS_DIRECTORY: Final = "/run/secrets/skill"
SKILL_DIRECTORY: Final = "/skill"
SKILL_FILE: Final = "skill.py"
REFERENCE_FILE: Final = "reference.py"
MANIFEST_FILE: Final = "manifest.json"
TYPES_MODULE: Final = "skill_types"
SCRATCH_DIRECTORY: Final = "/tmp"
SANDBOX_UID: Final = 65532

# Members of the contract file.
CONTRACT_NAME: Final = "name"
CONTRACT_INPUT: Final = "input"
CONTRACT_OUTPUT: Final = "output"
CONTRACT_CALL_TIMEOUT_SECONDS: Final = "callTimeoutSeconds"
CONTRACT_OPEN_SECRETS: Final = "openSecrets"

# Members of a check request beyond those of the contract, and of its examples.
CHECK_SOURCE: Final = "source"
CHECK_TYPES: Final = "types"
CHECK_REFERENCE: Final = "reference"
CHECK_EXAMPLES: Final = "examples"
CHECK_SECRETS: Final = "secrets"
CHECK_DETERMINISTIC: Final = "deterministic"
CHECK_GRANTED: Final = "granted"
EXAMPLE_NAME: Final = "name"
EXAMPLE_INPUT: Final = "input"
EXAMPLE_OUTPUT: Final = "output"
EXAMPLE_ERROR: Final = "error"
EXAMPLE_HIDDEN: Final = "hidden"
MAX_SOURCE_BYTES: Final = 1 << 16

# The check's report, and the envelope that carries it in the termination message.
ENVELOPE_REPORT: Final = "report"
ENVELOPE_MAC: Final = "mac"
REPORT_SUBJECT: Final = "subject"
REPORT_PASSED: Final = "passed"
REPORT_GATE: Final = "gate"
REPORT_MESSAGE: Final = "message"
REPORT_PRIVATE: Final = "private"
REPORT_LINE: Final = "line"
REPORT_PASSED_EXAMPLES: Final = "passedExamples"
REPORT_TOTAL_EXAMPLES: Final = "totalExamples"
REPORT_PROMISES: Final = "promises"
REPORT_MUTANTS: Final = "mutants"
REPORT_MUTANTS_KILLED: Final = "mutantsKilled"
REPORT_MUTANTS_SKIPPED: Final = "mutantsSkipped"
REPORT_QUESTIONS: Final = "questions"
QUESTION_KIND: Final = "kind"
QUESTION_INPUT: Final = "input"
QUESTION_ANSWERS: Final = "answers"
QUESTION_KINDS: Final = ("edge", "mutant", "opinion", "special")
MAX_QUESTIONS: Final = 3
MAX_QUESTION_INPUT_CHARACTERS: Final = 300
MAX_QUESTION_ANSWER_CHARACTERS: Final = 200
MUTANTS_SKIPPED_REASONS: Final = ("Granted", "NotDeterministic", "Slow", "Memory")
GATES: Final = ("size", "policy", "ruff", "mypy", "examples", "schema", "hidden")
TERMINATION_MESSAGE_BYTES: Final = 4096

# Exit codes, and what the termination message says of open egress.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2
EXIT_EGRESS_NOT_BLOCKED: Final = 3
EXIT_REFUSED: Final = 4
EGRESS_BLOCKED: Final = "blocked"
EGRESS_TARGET: Final = "target"
EGRESS_DETAIL: Final = "detail"

# The manifest of an image, as a file in it and as a label on it.
MANIFEST_LABEL: Final = "skill-operator.dev/manifest"
MANIFEST_PYTHON: Final = "python"
MANIFEST_DISTRIBUTIONS: Final = "distributions"
MANIFEST_MODULES: Final = "modules"
MANIFEST_LIBRARIES: Final = "libraries"
MANIFEST_STANDARD: Final = "standard"
MANIFEST_ROOT_ENTRIES: Final = "rootEntries"
