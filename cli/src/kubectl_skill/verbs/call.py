"""`kubectl skill call`: call a Skill with JSON, with the token and the way to the gateway found by itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kubectl_skill import output
from kubectl_skill.caller_token import TokenSource, advice
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gateway import GatewayReply, default_operator_namespace, open_gateway, send
from kubectl_skill.kubectl import check_name
from kubectl_skill.options import (
    AccountOption,
    CaFileOption,
    ContextOption,
    GatewayUrlOption,
    KubeconfigOption,
    NamespaceOption,
    OperatorNamespaceOption,
    OutputOption,
    SkillName,
    connect,
)
from kubectl_skill.output import OutputFormat
from skill_operator.untrusted.text import printable, single_line

MAX_INPUT_BYTES = 1024 * 1024
MAX_DETAIL_CHARACTERS = 4000
REQUEST_ID_HEADER = "x-request-id"
COLD_START_HEADER = "x-skill-cold-start"


def command(
    ctx: typer.Context,
    name: SkillName,
    body: Annotated[
        str,
        typer.Argument(metavar="JSON|@FILE", help="Input; @FILE reads a file, @- standard input.", show_default=False),
    ],
    account: AccountOption = "",
    timeout: Annotated[int, typer.Option("--timeout", min=1, max=7200, help="Seconds to wait for the answer.")] = 600,
    output_format: OutputOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write nothing but the answer or the problem.")] = False,
    gateway_url: GatewayUrlOption = "",
    ca_file: CaFileOption = "",
    operator_namespace: OperatorNamespaceOption = "",
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Call a Skill and write its answer.

    The answer goes to standard output, and everything else to standard error.
    """
    check_name(name)
    data = read_input(body)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    path = f"/v1/skills/{kubectl.namespace}/{name}"
    token = TokenSource(kubectl, account).read()
    where = operator_namespace or default_operator_namespace()
    with open_gateway(kubectl, where, gateway_url, ca_file) as address:
        reply = send(address, "POST", path, data, token, timeout)
    _journal(kubectl.namespace, name, data, reply)
    if not quiet:
        _tell(reply)
    if reply.status != 200:
        raise _problem(reply, token, named=bool(account))
    write_answer(reply.body, output_format)


def read_input(text: str) -> bytes:
    """Return the body of a call. Raises CliError where it is no JSON, with the place of the mistake."""
    source = "the input"
    if text.startswith("@"):
        source = "standard input" if text == "@-" else text[1:]
        try:
            if text == "@-":
                data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
            else:
                with Path(text[1:]).open("rb") as file:
                    data = file.read(MAX_INPUT_BYTES + 1)
        except OSError as error:
            raise CliError(f"{source} cannot be read: {error.strerror}", ExitCode.USAGE) from error
    else:
        data = text.encode("utf-8", "surrogateescape")
    if len(data) > MAX_INPUT_BYTES:
        raise CliError(f"{source} is larger than 1 MiB, the most that a gateway takes", ExitCode.USAGE)
    try:
        json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CliError(f"{source} is not UTF-8, at byte {error.start}", ExitCode.USAGE) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CliError(f"{source} is no JSON: {error.msg} ({place})", ExitCode.USAGE) from error
    except (ValueError, RecursionError) as error:
        raise CliError(f"{source} is no JSON that a Skill takes", ExitCode.USAGE) from error
    return data


def write_answer(body: bytes, output_format: OutputFormat | None) -> None:
    """Write an answer as it came, or in the format that was asked for."""
    text = body.decode("utf-8", "replace")
    if output_format is None or output_format is OutputFormat.NAME:
        output.write_json_text(text)
        return
    try:
        output.write_object(json.loads(text), output_format)
    except (ValueError, RecursionError):
        raise CliError("the answer cannot be formatted: leave out -o", ExitCode.CALL_FAILED) from None


def _tell(reply: GatewayReply) -> None:
    parts = []
    if (request_id := reply.headers.get(REQUEST_ID_HEADER)) is not None:
        parts.append(f"request {single_line(request_id, 64)}")
    if (cold_start := reply.headers.get(COLD_START_HEADER)) is not None:
        parts.append(f"woke in {single_line(cold_start, 16)} ms")
    if parts:
        output.note(", ".join(parts))


def _problem(reply: GatewayReply, token: str, *, named: bool) -> CliError:
    """Return what the gateway said was wrong (RFC 9457), with what to do about a token."""
    try:
        problem: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": reply.body[:MAX_DETAIL_CHARACTERS].decode("utf-8", "replace")}
    kind = str(problem.get("type", "")).rpartition(":")[2]
    title = str(problem.get("title") or "The gateway's answer is no problem report")
    detail = printable(str(problem.get("detail", "")), MAX_DETAIL_CHARACTERS, lines=True)
    message = f"{single_line(title, 120)} ({reply.status}{f', {single_line(kind, 64)}' if kind else ''}): {detail}"
    if reply.status == 401:
        message = _add(message, advice(token, named=named))
    if (wait := reply.headers.get("retry-after")) is not None:
        message = _add(message, f"call again after {single_line(wait, 16)} s")
    return CliError(message, _exit_code(reply.status))


def _add(message: str, more: str) -> str:
    """Return a message with one more sentence."""
    end = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{end} {more[0].upper()}{more[1:]}"


def _exit_code(status: int) -> ExitCode:
    special = {401: ExitCode.FORBIDDEN, 403: ExitCode.FORBIDDEN, 404: ExitCode.NOT_FOUND}
    if status in special:
        return special[status]
    return ExitCode.CALL_REJECTED if 400 <= status < 500 else ExitCode.CALL_FAILED


def _journal(namespace: str, name: str, data: bytes, reply: GatewayReply) -> None:
    """Keep the call on this machine, for `example add --from-call`."""
    from kubectl_skill.call_journal import JournaledCall, record_call

    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return
    request_id = reply.headers.get(REQUEST_ID_HEADER, "")
    record_call(JournaledCall(request_id, namespace, name, json.loads(data), reply.status, answer))
