"""`jota why KIND/NAME`: what is the matter with it, what causes that, and what would mend it; in English or Korean."""

from __future__ import annotations

import argparse
import asyncio
import json
import os

from jota.aio.clock import SystemClock
from jota.cli.connection import add_connection, connect
from jota.meta.errors import ApiError
from jota.run.instance import Refused
from jota.why.explain import KINDS, explain, find_kind
from jota.why.finding import Finding
from jota.why.texts import say
from jota.why.world import World


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="KIND/NAME", help="e.g. pod/web-1, deploy/web, svc/web, pvc/data, ns/old, job/x, hpa/web"
    )
    parser.add_argument("--lang", choices=("en", "ko"), default=_locale(), help="language (default: the locale's)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 when nothing is wrong or it only needs time, 1 when something is."""
    word, _, name = args.what.partition("/")
    known = find_kind(word)
    if known is None or not name:
        raise Refused(f'"{args.what}": say KIND/NAME, with one of {", ".join(sorted(KINDS))}')
    findings = asyncio.run(_ask(args, known, name))
    if args.output == "json":
        print(json.dumps([_plain(f, args.lang) for f in findings], indent=2, ensure_ascii=False))
    else:
        _print(findings, args.lang)
    return int(any(f.level == "bad" for f in findings))


async def _ask(args: argparse.Namespace, known: tuple, name: str) -> list[Finding]:  # type: ignore[type-arg]
    client, namespace = connect(args)
    try:
        return await explain(World(client, namespace, SystemClock().now()), known[0], known[1], name)
    except (OSError, TimeoutError) as error:
        raise Refused(f"the server does not answer: {error or 'timed out'}") from error
    except ApiError as error:
        raise Refused(error.message) from error
    finally:
        await client.close()


def _print(findings: list[Finding], language: str) -> None:
    last = ""
    for depth, finding in enumerate(findings):
        sentence, fix = say(finding.code, finding.facts, language)
        about = f"{finding.subject}: " if finding.subject != last else ""
        print(f"{'  ' * depth}{about}{sentence}")
        if fix:
            print(f"{'  ' * depth}  -> {fix}")
        last = finding.subject


def _plain(finding: Finding, language: str) -> dict[str, object]:
    sentence, fix = say(finding.code, finding.facts, language)
    return {"subject": finding.subject, "code": finding.code, "level": finding.level, "message": sentence, "fix": fix}


def _locale() -> str:
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "ko" if chosen.startswith("ko") else "en"
