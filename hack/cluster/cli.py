"""Run the command line: python3 -m hack.cluster COMMAND.

  up               start the cluster, building what is missing; the last line tells how to use it
  down             delete it and undo everything
  status           print its state as JSON; exit 0 if it is healthy
  env              print the line that makes a shell use it
  load TAR...      bring OCI image archives to its node
  exec CMD...      run a command on its node
  internet CMD...  run a command where 203.0.113.10 and 198.51.100.10 live
  kill NAME...     kill components of the node (see status), start NAME... starts them again; not with kind
  parent           make the parent image of the project's images, where no registry has one; prints its name

CLUSTER names the cluster; without it, the path of the checkout does. With a Docker engine and kind it is kind's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hack.cluster import engine, kind, parent
from hack.cluster.bare import Bare
from hack.cluster.identity import cluster_name
from hack.cluster.shell import ClusterError


def current() -> engine.Engine:
    """Return the chosen cluster: kind's where kind can be used, otherwise a node in namespaces."""
    name = cluster_name()
    return kind.Kind(name) if kind.usable() else Bare(name)


def main(arguments: Sequence[str]) -> int:
    """Run one command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # locks are released, drafts removed
    try:
        return _run(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str]) -> int:
    match arguments:
        case ["up"]:
            current().up()
            print(engine.export(cluster_name()))
        case ["down"]:
            current().down()
            engine.forget()
        case ["status"]:
            status = current().status()
            print(json.dumps(status, indent=2))
            return 0 if status["healthy"] else 1
        case ["env"]:
            print(engine.export(cluster_name()))
        case ["load", _, *_]:
            current().load([Path(archive) for archive in arguments[1:]])
        case ["exec", _, *_]:
            _become(current().enter(*arguments[1:]))
        case ["internet", _, *_]:
            _become(engine.on_internet(current(), *arguments[1:]))
        case ["kill" | "start" as action, _, *_]:
            _components(action, arguments[1:])
        case ["parent"]:
            print(parent.image())
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _components(action: str, names: Sequence[str]) -> None:
    cluster = current()
    if not isinstance(cluster, Bare):
        raise ClusterError("the components of a node of kind are started by its kubelet")
    for name in names:
        (cluster.kill if action == "kill" else cluster.start)(name)


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
