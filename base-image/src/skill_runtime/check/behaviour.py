"""The gates that run the candidate: visible examples, what the schemas promise, held-out examples.

Nothing of what is held out is asked before all else holds, so it cannot show in what is told of the rest.
"""

from __future__ import annotations

import time
from pathlib import Path

from skill_runtime.check import examples, promises
from skill_runtime.check.bundle import Bundle
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.check.session import Session, opened
from skill_runtime.offspring import LoadError, OffspringError

SECONDS = 75.0
"""For all of it together."""


async def judge(bundle: Bundle, skill: Path) -> examples.Result:
    """What is wrong with what the candidate does, and how many examples hold.

    It runs in two processes, one after the other: where they differ is chance, time or memory of earlier calls.
    """
    end = time.monotonic() + SECONDS
    visible = [example for example in bundle.examples if not example.hidden]
    try:
        async with opened(bundle, skill, end) as session:
            shown = await examples.run(bundle, visible, session)
            if shown.finding:
                return shown
            answers, finding = await promises.ask(bundle, visible, session)
            if finding:
                return examples.Result(finding, shown.passed)
            if not bundle.deterministic:
                return await _hidden(bundle, session, shown.passed)
        async with opened(bundle, skill, end) as session:
            finding = await promises.ask_again(answers, session)
            if finding:
                return examples.Result(finding, shown.passed)
            return await _hidden(bundle, session, shown.passed)
    except OffspringError as error:
        return examples.Result(_not_loaded(error, bundle.source), 0)


async def _hidden(bundle: Bundle, session: Session, passed: int) -> examples.Result:
    result = await examples.run(bundle, [example for example in bundle.examples if example.hidden], session)
    return examples.Result(result.finding, passed + result.passed)


def _not_loaded(error: OffspringError, source: str) -> Finding:
    line = error.failure.line if isinstance(error, LoadError) else None
    return Finding("examples", f"the file cannot be loaded: {error}\n{excerpt(source, line)}".rstrip(), line)
