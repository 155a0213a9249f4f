"""Run the gates of the check on pinned code: in a container of the checker's image, or in a local process.

Both run `skill_runtime check`, the program that the operator runs in a pod, with the request that the operator makes.
Neither uses a network.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from skill_operator import runtime_contract as rc
from skill_operator.api import check_request
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.typed_dicts import types_module
from skill_operator.reconcile.check_report import CheckReport, read_signed
from skill_operator.untrusted.text import printable, single_line

ENGINES: Final = ("docker", "podman")
IMAGE_VARIABLE: Final = "SKILL_CHECKER_IMAGE"
DEFAULT_TIMEOUT_SECONDS: Final = 180.0
MEMORY_BYTES: Final = 768 << 20
LOCAL_MEMORY_BYTES: Final = 4 << 30
UNREACHABLE: Final = "192.0.2.1"
"""The address that must be out of reach, as egress of a pod is. It is for documentation (RFC 5737): nobody has it."""
BASE_LIBRARIES: Final = (
    "beautifulsoup4", "jinja2", "lxml", "numpy", "openpyxl", "pandas", "pydantic", "python-dateutil", "pyyaml",
    "requests", "tabulate",
)  # fmt: skip
"""The libraries of the base image, which code may import."""
ENGINE_SECONDS: Final = 15.0
LOG_BYTES: Final = 1 << 16
_OUT_OF_MEMORY = frozenset((137, -9))
_ENGINE_FAILED = 125
_TOOLS = ("ruff", "mypy")
_RUN_CHECK = "import sys; sys.path += {roots!r}; from skill_runtime.__main__ import main; sys.exit(main(['check']))"
_DESCRIBE = (
    "import sys, json; sys.path += {roots!r}; from pathlib import Path; from skill_runtime import manifest; "
    "print(json.dumps(manifest.describe(Path('/'), {libraries!r})))"
)
_PRIVATE = ("unshare", "--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


class GatesUnavailableError(Exception):
    """The gates cannot run here; the message says what is missing, and what to do."""


@dataclass(frozen=True)
class GateRequest:
    """GateRequest is what the operator would have a pod check: environment, key and subject of the report."""

    source: str
    parts: tuple[str, ...]
    key: str
    subject: str

    @classmethod
    def of(cls, spec: SkillSpec) -> GateRequest:
        """Return the request for a spec's pinned code. Raises ValueError where it is too large for a check."""
        if spec.source is None:
            raise ValueError("the Skill has no pinned source")
        source = spec.source.inline
        visible, hidden = split_examples(spec.examples)
        types = types_module(spec.input, spec.output)
        content = check_request.make_content(spec, source, types, visible, hidden)
        parts = tuple(check_request.pack(content))
        return cls(source, parts, secrets.token_hex(32), check_request.subject(content))

    def environment(self) -> dict[str, str]:
        """Return the variables that PID 1 of the check takes."""
        parts = {rc.ENV_CHECK_PART.format(number=number): part for number, part in enumerate(self.parts)}
        return {**parts, rc.ENV_REPORT_KEY: self.key}


@dataclass(frozen=True)
class GateResult:
    """GateResult is the verdict of the gates, and where they ran."""

    place: Literal["container", "local"]
    report: CheckReport
    tools: str
    """The image, or the versions of the local tools."""
    is_network_closed: bool = True


class ContainerGates:
    """ContainerGates run in the checker's image, closed like a pod: no network, no rights, no writes."""

    def __init__(self, engine: str, image: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._engine, self._image, self._timeout_seconds = engine, image, timeout_seconds

    def run(self, spec: SkillSpec) -> GateResult:
        """Return the verdict on a Skill's pinned code. Raises GatesUnavailableError."""
        request = GateRequest.of(spec)
        with tempfile.TemporaryDirectory(prefix="skill-check-") as folder:
            files = _place_files(Path(folder), request)
            name = f"skill-check-{secrets.token_hex(6)}"
            command = self._command(name, request, files)
            ended = _run(command, {**os.environ, **request.environment()}, self._timeout_seconds, Path(folder))
            if ended.timed_out:
                self._remove(name)
            if ended.code == _ENGINE_FAILED or (ended.code in {126, 127} and not files["report"].stat().st_size):
                raise GatesUnavailableError(_explain_engine(self._engine, self._image, ended.log))
            report = _read_report(files["report"], request, ended)
        return GateResult("container", report, self._image)

    def _command(self, name: str, request: GateRequest, files: Mapping[str, Path]) -> list[str]:
        names = [word for variable in request.environment() for word in ("--env", variable)]  # values stay out of argv
        mounts = {
            "source": f"{rc.SKILL_DIRECTORY}/{rc.SKILL_FILE}:ro",
            "report": "/dev/termination-log",
        }
        volumes = [word for key, target in mounts.items() for word in ("--volume", f"{files[key]}:{target}")]
        return [
            *(self._engine, "run", "--rm", "--name", name, "--pull", "never", "--network", "none", "--read-only"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--user", f"{rc.SANDBOX_UID}:{rc.SANDBOX_UID}", "--pids-limit", "256"),
            *("--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES), "--cpus", "1"),
            *("--tmpfs", f"{rc.SCRATCH_DIRECTORY}:rw,nosuid,nodev,size=128m,mode=1777"),
            *("--env", f"KUBERNETES_SERVICE_HOST={UNREACHABLE}"),
            *names,
            *volumes,
            *(self._image, *rc.RUNTIME_COMMAND, rc.COMMAND_CHECK),
        ]

    def _remove(self, name: str) -> None:
        """Remove the container, which goes on after its client was killed."""
        subprocess.run([self._engine, "rm", "--force", name], capture_output=True, timeout=ENGINE_SECONDS, check=False)


class LocalGates:
    """LocalGates run as a process of this user, where no container engine is. Linux alone has what they need.

    The code can read what this user can read. Where the kernel lets a user make namespaces, it has no network and no
    other process to see.
    """

    def __init__(self, python: str = sys.executable, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._python, self._timeout_seconds = python, timeout_seconds

    def run(self, spec: SkillSpec) -> GateResult:
        """Return the verdict on a Skill's pinned code. Raises GatesUnavailableError."""
        request = GateRequest.of(spec)
        prefix = _PRIVATE if _can_unshare() else ()
        with tempfile.TemporaryDirectory(prefix="skill-check-") as name:
            folder = Path(name)
            versions = self._link_tools(folder)
            (folder / "scratch").mkdir()
            (folder / rc.MANIFEST_FILE).write_text(json.dumps(self._manifest()))
            environment = {
                "PATH": os.environ.get("PATH", os.defpath),
                "LANG": "C.UTF-8",
                "SKILL_ROOT": name,
                "SKILL_TERMINATION_LOG": str(folder / "report"),
                "SKILL_TOOLS": str(folder / "tools"),
                "SKILL_SCRATCH": str(folder / "scratch"),
                **({"KUBERNETES_SERVICE_HOST": UNREACHABLE} if prefix else {rc.ENV_ISOLATION: rc.ISOLATION_OPTIONAL}),
                **request.environment(),
            }
            code = _RUN_CHECK.format(roots=_runtime_roots())
            ended = _run([*prefix, self._python, "-I", "-c", code], environment, self._timeout_seconds, folder)
            report = _read_report(folder / "report", request, ended)
        return GateResult("local", report, versions, is_network_closed=bool(prefix))

    def _link_tools(self, folder: Path) -> str:
        """Make the tools' folder of the image out of what is installed here, and return what was found."""
        ruff = _find_beside(self._python, "ruff")
        checker = next((python for python in self._pythons() if _succeeds(python, "import mypy")), None)
        missing = [name for name, found in zip(_TOOLS, (ruff, checker), strict=True) if found is None]
        if ruff is None or checker is None:
            raise GatesUnavailableError(
                f"the gates need {' and '.join(missing)}: {self._python} -m pip install {' '.join(missing)}"
            )
        programs = folder / "tools" / "bin"
        programs.mkdir(parents=True)
        for name, program in {"python3": checker, "ruff": ruff}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
            (programs / name).chmod(0o755)
        versions = (_output([ruff, "--version"]), _output([checker, "-I", "-m", "mypy", "--version"]))
        return ", ".join(single_line(version, 60) for version in versions)

    def _pythons(self) -> list[str]:
        """Return interpreters that may have mypy: the one that runs the code, and that of the `mypy` on PATH."""
        program = shutil.which("mypy")
        beside = Path(program).resolve().with_name("python3") if program else None
        return [self._python, *([str(beside)] if beside is not None and beside.exists() else [])]

    def _manifest(self) -> dict[str, Any]:
        """Return what code may import here: what the base image has, as far as it is installed."""
        code = _DESCRIBE.format(roots=_runtime_roots(), libraries=BASE_LIBRARIES)
        text = _output([self._python, "-I", "-c", code])
        try:
            manifest: dict[str, Any] = json.loads(text)
        except ValueError:
            raise GatesUnavailableError(f"{self._python} cannot run the gates: it needs Python 3.11 or newer") from None
        libraries = set(manifest[rc.MANIFEST_LIBRARIES])
        modules = manifest[rc.MANIFEST_MODULES]
        return {**manifest, rc.MANIFEST_MODULES: {name: by for name, by in modules.items() if name in libraries}}


def find_engine(wanted: str = "") -> str | None:
    """Return the container engine to use: the wanted one, else the first that answers, or None.

    Raises GatesUnavailableError where the wanted one does not answer.
    """
    for engine in (wanted,) if wanted else ENGINES:
        if shutil.which(engine) is not None and _exit_code([engine, "info"]) == 0:
            return engine
    if wanted:
        raise GatesUnavailableError(f"{wanted} does not answer: start it, or choose another engine")
    return None


def check_platform(python: str = sys.executable) -> None:
    """Raise GatesUnavailableError where a local process cannot run the gates."""
    if sys.platform != "linux":
        raise GatesUnavailableError("the gates run in a local process on Linux alone; start Docker or Podman instead")
    if not _succeeds(python, "import sys; assert sys.version_info >= (3, 11)"):
        raise GatesUnavailableError(f"the gates need Python 3.11 or newer; {python} is older, or does not start")


@dataclass(frozen=True)
class _Ended:
    code: int
    log: str
    timed_out: bool


def _run(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float, folder: Path) -> _Ended:
    """Run a program in a process group of its own, which ends with it, and keep the end of what it printed."""
    log = folder / "log"
    with log.open("wb") as output:
        try:
            child = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_limit if environment.get("SKILL_ROOT") else None,  # noqa: PLW1509 - no threads are here
            )
        except OSError as error:
            raise GatesUnavailableError(f"{command[0]} does not start: {error.strerror}") from error
        timed_out = False
        try:
            child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _kill_group(child)
    return _Ended(child.returncode, _tail(log), timed_out)


def _limit() -> None:
    """Bound what a local check may take: its memory, the files that it writes, and no core dumps."""
    import resource

    for kind, most in (
        (resource.RLIMIT_DATA, LOCAL_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 1 << 28),
        (resource.RLIMIT_CORE, 0),
    ):
        soft, hard = resource.getrlimit(kind)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lower if soft == resource.RLIM_INFINITY else min(soft, lower), lower))


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    import contextlib
    import signal

    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
        return file.read().decode("utf-8", "replace")


def _place_files(folder: Path, request: GateRequest) -> dict[str, Path]:
    """Write what the container mounts. Its user is another one than ours, so all may read, and write the report."""
    files = {name: folder / name for name in ("source", "report")}
    files["source"].write_bytes(request.source.encode("utf-8", "surrogatepass"))
    files["report"].touch()
    for name, file in files.items():
        file.chmod(0o666 if name == "report" else 0o444)
    return files


def _read_report(file: Path, request: GateRequest, ended: _Ended) -> CheckReport:
    """Return the signed verdict, or the refusal that the operator would make of an end without one."""
    with (file if file.exists() else Path(os.devnull)).open("rb") as opened:
        text = opened.read(rc.TERMINATION_MESSAGE_BYTES + 1).decode("utf-8", "replace")
    report = read_signed(text, request.key)
    if report is not None and report.subject == request.subject:
        return report
    if ended.timed_out:
        return CheckReport(passed=False, gate="no-verdict", message="the check took longer than its deadline")
    if ended.code in _OUT_OF_MEMORY:
        message = "the check was killed, most likely for using too much memory: hold less at a time"
        return CheckReport(passed=False, gate="memory", message=message)
    if ended.code in {rc.EXIT_OK, rc.EXIT_REFUSED}:
        message = "the check ended without a report of its own: the code interfered with it"
        return CheckReport(passed=False, gate="report", message=message)
    last = [line for line in ended.log.splitlines() if line.strip()][-3:]
    raise GatesUnavailableError(
        f"the check ended with exit code {ended.code} and no verdict: {printable(' | '.join(last), 600)}"
    )


def _explain_engine(engine: str, image: str, log: str) -> str:
    shown = printable(image, 200)
    if "no such image" in log.lower() or "not found" in log.lower() or "image not known" in log.lower():
        return f"{engine} has no image {shown}: {engine} pull {shown}"
    return f"{engine} cannot run {shown}: {single_line(log, 400)}"


def _runtime_roots() -> list[str]:
    """Return the folders that the runtime's package lies in, and what it imports of others."""
    import jsonschema_rs

    import skill_runtime

    return [str(Path(str(module.__file__)).resolve().parents[1]) for module in (skill_runtime, jsonschema_rs)]


def _find_beside(python: str, program: str) -> str | None:
    """Return a program from the interpreter's own environment, or else from PATH."""
    beside = Path(python).with_name(program)
    return str(beside) if beside.exists() else shutil.which(program)


def _succeeds(python: str, code: str) -> bool:
    return _exit_code([python, "-I", "-c", code]) == 0


def _can_unshare() -> bool:
    return shutil.which("unshare") is not None and _exit_code([*_PRIVATE, "true"]) == 0


def _exit_code(command: Sequence[str]) -> int:
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ENGINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return -1
    return ended.returncode


def _output(command: Sequence[str]) -> str:
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, text=True, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout
