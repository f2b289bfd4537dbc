"""Fuzzes one target for some seconds: python tests/robustness/fuzz/run.py TARGET SECONDS. `make fuzz` runs all; it
needs atheris.

It starts from the cases that are kept. Bytes that break the target are written to cases/TARGET/, to be mended and kept.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).parent


def main() -> None:
    import atheris

    name, seconds = sys.argv[1], int(sys.argv[2])
    atheris.enabled_hooks.add("str")  # tells atheris what startswith and endswith looked for
    with atheris.instrument_imports(include=["llmcourse", "targets"], enable_loader_override=False):
        from targets import TARGETS
    cases, corpus = HERE / "cases" / name, HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}",
        "-timeout=60",
        "-rss_limit_mb=4096",
        "-max_len=4096",
        f"-dict={HERE / 'words.dict'}",
    ]
    atheris.Setup([sys.argv[0], str(corpus), str(cases), f"-artifact_prefix={cases}/", *flags], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
