"""The fuzzer's command line: `python tests/fuzz TARGET --seconds 60` (make fuzz runs every target).

Coverage-guided by atheris (the extra `fuzz`). New inputs go to .fuzz/TARGET, findings to .fuzz/TARGET-found;
`--keep` then chooses the smallest set with the same coverage into corpus/TARGET.json, which test_corpus.py replays.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parent.parent / ".fuzz"
sys.path.insert(0, str(HERE))

import corpus_file  # noqa: E402
from targets import kit  # noqa: E402


def fuzz(name: str, seconds: int) -> None:
    import atheris

    logging.getLogger("jota").setLevel(logging.CRITICAL)
    with atheris.instrument_imports(include=["jota", "wsproto"]):
        target = importlib.import_module(f"targets.{name}")
        for data in [*target.SEEDS, *corpus_file.read(name)]:
            target.check(data)  # within, so that what is imported late is instrumented too
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*target.SEEDS, *corpus_file.read(name)]):
        (folder / f"seed-{number}").write_bytes(data)
    words = WORK / f"{name}.dict"
    words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in word) + '"\n' for word in target.WORDS))
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=1500",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    options += [f"-artifact_prefix={WORK}/{name}-", f"-dict={words}"]

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except BaseException:
            # the fuzzer writes it too, but not when its own alarm comes first
            (WORK / f"{name}-found").write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], *options, str(folder)], check)
    atheris.Fuzz()


def keep(name: str, limit: int) -> None:
    target = importlib.import_module(f"targets.{name}")
    found = [path.read_bytes() for path in sorted((WORK / name).glob("*"))]
    try:
        kept = corpus_file.minimised(target.check, [*target.SEEDS, *corpus_file.read(name), *found], limit)
    finally:
        getattr(target, "close", lambda: None)()
        kit.close_loop()
    corpus_file.write(name, kept)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description=__doc__)
    parser.add_argument("target", choices=[*corpus_file.TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=int, metavar="BYTES", nargs="?", const=12_000, help="write the corpus file")
    given = parser.parse_args()
    if given.target == "all":
        results = [
            subprocess.run([sys.executable, str(HERE), name, "--seconds", str(given.seconds)], check=False).returncode
            for name in corpus_file.TARGETS
        ]
        return max(results)
    if given.keep:
        keep(given.target, given.keep)
    else:
        fuzz(given.target, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
