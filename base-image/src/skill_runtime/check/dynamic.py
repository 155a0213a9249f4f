"""The gates that run the candidate: visible examples, what the schemas promise, held-out examples.

Nothing of what is held out is asked before all else holds, so it cannot show in what is told of the rest.
"""

from __future__ import annotations

import time
from pathlib import Path

from skill_runtime.check import examples, schema_properties
from skill_runtime.check.candidate import Candidate, opened
from skill_runtime.check.findings import Finding, excerpt
from skill_runtime.check.request import CheckRequest
from skill_runtime.worker_client import LoadError, WorkerError

SECONDS = 75.0
"""For all of it together."""


async def judge(bundle: CheckRequest, skill: Path) -> examples.ExamplesResult:
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
            answers, finding = await schema_properties.ask(bundle, visible, session)
            if finding:
                return examples.ExamplesResult(finding, shown.passed)
            if not bundle.deterministic:
                return await _hidden(bundle, session, shown.passed)
        async with opened(bundle, skill, end) as session:
            finding = await schema_properties.ask_again(answers, session)
            if finding:
                return examples.ExamplesResult(finding, shown.passed)
            return await _hidden(bundle, session, shown.passed)
    except WorkerError as error:
        return examples.ExamplesResult(_not_loaded(error, bundle.source), 0)


async def _hidden(bundle: CheckRequest, session: Candidate, passed: int) -> examples.ExamplesResult:
    result = await examples.run(bundle, [example for example in bundle.examples if example.hidden], session)
    return examples.ExamplesResult(result.finding, passed + result.passed)


def _not_loaded(error: WorkerError, source: str) -> Finding:
    line = error.failure.line if isinstance(error, LoadError) else None
    return Finding("examples", f"the file cannot be loaded: {error}\n{excerpt(source, line)}".rstrip(), line)
