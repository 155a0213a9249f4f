"""The way to the cluster: every command reaches it by running the user's own `kubectl`.

So credentials, contexts, proxies and plugins for signing in are those that the user has, and the plugin can do nothing
that the user could not type. Its words of failure become one line that says what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kubectl_skill.errors import CliError, ExitCode
from skill_operator.naming import GROUP, is_label
from skill_operator.untrusted.text import single_line

SKILLS = f"skills.{GROUP}"
SKILL_PREFIX = f"skill.{GROUP}/"  # of a name, as `kubectl get -o name` writes it
REQUEST_TIMEOUT_SECONDS = 30
MAX_MESSAGE_CHARACTERS = 600
NO_CONTEXT = "current-context must exist"
POD_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
MAX_FILE_CHARACTERS = 16 * 1024

# What kubectl and the API server say, what it means, and what to do. `{0}` is the message itself.
_FAILURES: tuple[tuple[str, ExitCode, str], ...] = (
    (
        r"the server doesn't have a resource type|no matches for kind|could not find the requested resource",
        ExitCode.NOT_FOUND,
        "this cluster does not know Skills: install the operator, or choose another cluster with --context ({0})",
    ),
    (
        r"\(Unauthorized\)|must be logged in|asked for the client to provide credentials",
        ExitCode.FORBIDDEN,
        "the cluster does not accept your credentials: sign in again, or choose another --context ({0})",
    ),
    (
        r"\(Forbidden\)|is forbidden:",
        ExitCode.FORBIDDEN,
        "you lack a right: ask an administrator for it, and see `kubectl auth whoami` ({0})",
    ),
    (r"\(NotFound\)|not found in namespace", ExitCode.NOT_FOUND, "{0}"),
    (
        (
            r"context \S* ?does not exist|cannot locate context|current-context must exist"
            r"|context was not found|Error in configuration|stat .*no such file"
            r"|error loading config|invalid configuration|exec: executable .* not found|getting credentials"
        ),
        ExitCode.NO_CLUSTER,
        "kubectl's configuration is wrong: see KUBECONFIG and `kubectl config get-contexts` ({0})",
    ),
    (
        (
            r"connection to the server .* was refused|Unable to connect|no such host|i/o timeout|connection refused"
            r"|TLS handshake timeout|x509:|Client\.Timeout|context deadline exceeded|ServiceUnavailable"
        ),
        ExitCode.NO_CLUSTER,
        "the cluster does not respond: check the network, --context and KUBECONFIG ({0})",
    ),
)


def explain_failure(stderr: str) -> CliError:
    """Return what a failed kubectl said as an error of one line that says what to do."""
    lines = [line for line in stderr.splitlines() if line.strip() and not re.match(r"[EIW]\d{4} ", line)]
    message = single_line("\n".join(lines) or stderr or "kubectl failed and said nothing", MAX_MESSAGE_CHARACTERS)
    message = message.removeprefix("error: ")
    for pattern, code, advice in _FAILURES:
        if re.search(pattern, stderr):
            return CliError(advice.format(message), code)
    return CliError(message)


@dataclass(frozen=True)
class Kubectl:
    """Kubectl runs the user's kubectl with the options that were given to the plugin."""

    context: str = ""
    namespace_option: str = ""
    kubeconfig: str = ""

    @cached_property
    def program(self) -> str:
        """Return the path of kubectl. Raises CliError where there is none."""
        found = shutil.which("kubectl")
        if found is None:
            raise CliError("there is no kubectl in PATH: install it, it is the way to the cluster", ExitCode.NO_CLUSTER)
        return found

    @cached_property
    def namespace(self) -> str:
        """Return the namespace that commands work in: that of -n, else the context's, else `default`."""
        if self.namespace_option:
            if not is_label(self.namespace_option):
                shown = single_line(self.namespace_option, 80)
                raise CliError(f"{shown!r} is no name of a namespace", ExitCode.USAGE)
            return self.namespace_option
        done = self.attempt(
            "config", "view", "--minify", "-o", "jsonpath={..namespace}", namespaced=False, timeout=False
        )
        if done.returncode and NO_CONTEXT in done.stderr:  # as in a pod, where kubectl uses the pod's own account
            return read_in_pod("namespace") or "default"
        if done.returncode:
            raise explain_failure(done.stderr)
        return done.stdout.strip() or "default"

    def command(self, *arguments: str, namespaced: bool = True) -> list[str]:
        """Return the whole command line, with the chosen context and namespace."""
        options = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        options += [f"--context={self.context}"] if self.context else []
        options += [f"--namespace={self.namespace_option}"] if namespaced and self.namespace_option else []
        return [self.program, *options, *arguments]

    def attempt(
        self, *arguments: str, stdin: str | None = None, namespaced: bool = True, timeout: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end and return how it ended, also where it failed."""
        more = [f"--request-timeout={REQUEST_TIMEOUT_SECONDS}s"] if timeout else []
        return subprocess.run(
            [*self.command(namespaced=namespaced), *more, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )

    def run(self, *arguments: str, stdin: str | None = None, namespaced: bool = True, timeout: bool = True) -> str:
        """Run kubectl and return what it wrote. Raises CliError with what it said."""
        done = self.attempt(*arguments, stdin=stdin, namespaced=namespaced, timeout=timeout)
        if done.returncode:
            raise explain_failure(done.stderr)
        return done.stdout

    def json(self, *arguments: str, stdin: str | None = None, namespaced: bool = True) -> Any:
        """Run kubectl with `-o json` and return what it wrote. Raises CliError."""
        text = self.run(*arguments, "-o", "json", stdin=stdin, namespaced=namespaced)
        try:
            return json.loads(text)
        except ValueError as error:
            raise CliError(f"kubectl wrote something that is no JSON: {single_line(text, 80)}") from error

    def find(self, *arguments: str, namespaced: bool = True) -> Any | None:
        """Return an object, or None where it is not there. Raises CliError for all else."""
        try:
            return self.json("get", *arguments, namespaced=namespaced)
        except CliError as error:
            if error.code is ExitCode.NOT_FOUND:
                return None
            raise

    def get_skill(self, name: str) -> dict[str, Any]:
        """Return a Skill of the chosen namespace as the API server has it. Raises CliError."""
        check_name(name)
        found: dict[str, Any] = self.json("get", SKILLS, name)
        return found

    def list_skills(self, *, all_namespaces: bool = False) -> list[dict[str, Any]]:
        """Return the Skills of the chosen namespace, or of all. Raises CliError."""
        every = ["--all-namespaces"] if all_namespaces else []
        found: list[dict[str, Any]] = self.json("get", SKILLS, *every, namespaced=not all_namespaces).get("items", [])
        return found

    def can_i(self, verb: str, resource: str, *, namespaced: bool = True) -> bool:
        """Return whether the user may do this (`kubectl auth can-i`)."""
        scope = [] if namespaced else ["--all-namespaces"]
        return self.attempt("auth", "can-i", verb, resource, *scope, "--quiet", namespaced=namespaced).returncode == 0

    @cached_property
    def user(self) -> str:
        """Return the user's name as the API server knows it (`kubectl auth whoami`). Raises CliError."""
        found = self.json("auth", "whoami", namespaced=False)
        return str(found.get("status", {}).get("userInfo", {}).get("username", ""))

    def lines(self, *arguments: str, namespaced: bool = True) -> Iterator[str]:
        """Yield the lines that a kubectl writes while it runs, such as `logs -f`. Raises CliError at its end."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            process = subprocess.Popen(
                self.command(*arguments, namespaced=namespaced),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            )
            try:
                for line in process.stdout or ():
                    yield line.rstrip("\n")
                if process.wait():
                    stderr.seek(0)
                    raise explain_failure(stderr.read())
            finally:
                stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """End a kubectl that runs, and wait until it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdout, process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def check_name(name: str) -> None:
    """Refuse what is no name of an object, before kubectl takes it for an option. Raises CliError."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        shown = single_line(name, 80)
        raise CliError(f"{shown!r} is no name of a Skill: lower-case letters, digits, `-` and `.`", ExitCode.USAGE)


def read_in_pod(name: str) -> str:
    """Return what a pod is given of its own account: its `namespace` or `token`; nothing elsewhere."""
    try:
        with open(os.path.join(POD_ACCOUNT, name), encoding="utf-8") as file:
            return file.read(MAX_FILE_CHARACTERS).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def state_folder() -> str:
    """Return the folder for what the plugin remembers on this machine (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "kubectl-skill")
