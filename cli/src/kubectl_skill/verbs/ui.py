"""`kubectl skill ui`: open the page of the gateway in a browser, signed in as the user."""

from __future__ import annotations

import threading
import time
import webbrowser
from typing import Annotated

import typer

from kubectl_skill import output
from kubectl_skill.caller_token import TokenSource, advice
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gateway import default_operator_namespace, open_gateway, send
from kubectl_skill.local_proxy import START, LocalProxy
from kubectl_skill.options import (
    AccountOption,
    CaFileOption,
    ContextOption,
    GatewayUrlOption,
    KubeconfigOption,
    NamespaceOption,
    OperatorNamespaceOption,
    connect,
)

TOKEN_KEPT_SECONDS = 300.0  # before it is asked for again; tokens that kubectl makes live for an hour
PROBE_TIMEOUT_SECONDS = 15.0


def command(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Local port; 0: any that is free.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the link and open no browser.")] = False,
    account: AccountOption = "",
    gateway_url: GatewayUrlOption = "",
    ca_file: CaFileOption = "",
    operator_namespace: OperatorNamespaceOption = "",
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Open the gateway's page in a browser, signed in with your token.

    A proxy on 127.0.0.1 adds the token until Ctrl-C. Its link works once, in one browser.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    tokens = KeptToken(TokenSource(kubectl, account, with_api_server=True))
    where = operator_namespace or default_operator_namespace()
    with open_gateway(kubectl, where, gateway_url, ca_file) as address:
        status = send(address, "GET", START, None, tokens.read(), PROBE_TIMEOUT_SECONDS).status
        if status == 401:
            raise CliError(
                f"the gateway does not take your token: {advice(tokens.read(), named=bool(account))}",
                ExitCode.FORBIDDEN,
            )
        if status == 404:
            raise CliError(
                "this gateway has no page: upgrade the operator's chart, or see its values", ExitCode.NOT_FOUND
            )
        try:
            proxy = LocalProxy(address, tokens.read, port)
        except OSError as error:
            raise CliError(
                f"the port {port} of 127.0.0.1 is taken: choose another with --port", ExitCode.USAGE
            ) from error
        try:
            output.write(proxy.start_url)
            output.note("The link works once. Ctrl-C ends it.")
            if not no_browser:
                threading.Thread(target=webbrowser.open, args=(proxy.start_url,), daemon=True).start()
            proxy.serve()
        except KeyboardInterrupt:
            output.note("ended")
        finally:
            proxy.stop_listening()


class KeptToken:
    """KeptToken remembers a token for minutes, so that not every request starts kubectl."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def read(self) -> str:
        """Return the token. Raises CliError."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._token = self._source.read()
                self._until = time.monotonic() + TOKEN_KEPT_SECONDS
            return self._token
