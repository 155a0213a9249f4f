"""The contract with the operator, with which no code is shared: names, limits and exit codes.

The operator's copy is skill_operator.runtime_contract, docs/runtime-contract.md explains each entry, and a test holds
the three equal. PID 1 imports this module before its egress proof begins, so the module imports nothing.
"""

from __future__ import annotations

# Commands of the images: what a container runs, as arguments of the interpreter.
RUNTIME_COMMAND = ("python3", "-I", "-m", "skill_runtime")
COMMAND_SERVE = "serve"
COMMAND_CHECK = "check"
COMMAND_TRIAL = "trial"

# Environment of PID 1.
ENV_ISOLATION = "SKILL_ISOLATION"
ISOLATION_OPTIONAL = "optional"
ENV_BEACON = "SKILL_BEACON"
ENV_GRACE = "SKILL_GRACE"
ENV_SKILL_UID = "SKILL_UID"
ENV_CONTRACT_DIGEST = "SKILL_CONTRACT_DIGEST"
ENV_CHECK_PART = "SKILL_CHECK_{number}"
MAX_CHECK_PARTS = 8
ENV_REPORT_KEY = "SKILL_REPORT_KEY"
ENV_CHECK_PHASE = "SKILL_CHECK_PHASE"
PHASE_READ = "read"
PHASE_RUN = "run"
ENV_SKIP_MUTANTS = "SKILL_SKIP_MUTANTS"
ENV_HTTP_PROXY = "HTTP_PROXY"
ENV_HTTPS_PROXY = "HTTPS_PROXY"
ENV_NO_PROXY = "NO_PROXY"

# HTTP between the gateway and a pod.
HTTP_PORT = 8080
CALL_METHOD = "POST"
CALL_PATH = "/"
HEALTH_PATH = "/healthz"
HEADER_CALLER = "X-Skill-Caller"
HEADER_DEADLINE_MS = "X-Skill-Deadline-Ms"
HEADER_REQUEST_ID = "X-Request-Id"
HEADER_SKILL_UID = "X-Skill-Uid"
HEADER_NOT_TAKEN = "X-Skill-Not-Taken"
NOT_TAKEN_NO_PLACE = "no-place"
NOT_TAKEN_DRAINING = "draining"
NOT_TAKEN_OTHER_SKILL = "other-skill"
HEADER_TRACEPARENT = "traceparent"
HEADER_TRACESTATE = "tracestate"
REQUEST_ID_PATTERN = "[A-Za-z0-9._-]{1,64}"
PROBLEM_URN_PREFIX = "urn:skill-operator:"
MAX_BODY_BYTES = 1 << 20
MAX_LEVELS = 100
MAX_RUNNING_CALLS = 4
MAX_QUEUED_CALLS = 32

# Patterns of schemas: what they may compile to, and for how long one validation may search with them.
PATTERN_SIZES_KIB = (8, 64, 512, 4096)
MAX_PATTERNS_KIB = 16_384
MAX_SEARCH_WORK = 16_777_216

# Files of a pod.
CONTRACT_DIRECTORY = "/etc/skill"
CONTRACT_FILE = "contract.json"
SECRETS_DIRECTORY = "/run/secrets/skill"
SKILL_DIRECTORY = "/skill"
SKILL_FILE = "skill.py"
REFERENCE_FILE = "reference.py"
MANIFEST_FILE = "manifest.json"
TYPES_MODULE = "skill_types"
SCRATCH_DIRECTORY = "/tmp"
SANDBOX_UID = 65532

# Members of the contract file.
CONTRACT_NAME = "name"
CONTRACT_INPUT = "input"
CONTRACT_OUTPUT = "output"
CONTRACT_CALL_TIMEOUT_SECONDS = "callTimeoutSeconds"
CONTRACT_OPEN_SECRETS = "openSecrets"

# Members of a check request beyond those of the contract, and of its examples.
CHECK_SOURCE = "source"
CHECK_TYPES = "types"
CHECK_REFERENCE = "reference"
CHECK_EXAMPLES = "examples"
CHECK_SECRETS = "secrets"
CHECK_DETERMINISTIC = "deterministic"
CHECK_GRANTED = "granted"
EXAMPLE_NAME = "name"
EXAMPLE_INPUT = "input"
EXAMPLE_OUTPUT = "output"
EXAMPLE_ERROR = "error"
EXAMPLE_HIDDEN = "hidden"
MAX_SOURCE_BYTES = 1 << 16

# The check's report, and the envelope that carries it in the termination message.
ENVELOPE_REPORT = "report"
ENVELOPE_MAC = "mac"
REPORT_SUBJECT = "subject"
REPORT_PASSED = "passed"
REPORT_GATE = "gate"
REPORT_MESSAGE = "message"
REPORT_PRIVATE = "private"
REPORT_LINE = "line"
REPORT_PASSED_EXAMPLES = "passedExamples"
REPORT_TOTAL_EXAMPLES = "totalExamples"
REPORT_PROMISES = "promises"
REPORT_MUTANTS = "mutants"
REPORT_MUTANTS_KILLED = "mutantsKilled"
REPORT_MUTANTS_SKIPPED = "mutantsSkipped"
REPORT_QUESTIONS = "questions"
QUESTION_KIND = "kind"
QUESTION_INPUT = "input"
QUESTION_ANSWERS = "answers"
QUESTION_KINDS = ("edge", "mutant", "opinion", "special")
MAX_QUESTIONS = 3
MAX_QUESTION_INPUT_CHARACTERS = 300
MAX_QUESTION_ANSWER_CHARACTERS = 200
MUTANTS_SKIPPED_REASONS = ("Granted", "NotDeterministic", "Slow", "Memory")
GATES = ("size", "policy", "ruff", "mypy", "examples", "schema", "hidden")
TERMINATION_MESSAGE_BYTES = 4096

# Exit codes, and what the termination message says of open egress.
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_UNUSABLE = 2
EXIT_EGRESS_NOT_BLOCKED = 3
EXIT_REFUSED = 4
EGRESS_BLOCKED = "blocked"
EGRESS_TARGET = "target"
EGRESS_DETAIL = "detail"

# The manifest of an image, as a file in it and as a label on it.
MANIFEST_LABEL = "skill-operator.dev/manifest"
MANIFEST_PYTHON = "python"
MANIFEST_DISTRIBUTIONS = "distributions"
MANIFEST_MODULES = "modules"
MANIFEST_LIBRARIES = "libraries"
MANIFEST_STANDARD = "standard"
MANIFEST_ROOT_ENTRIES = "rootEntries"
