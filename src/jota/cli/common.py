"""Options and lookups that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jota.meta.duration import parse
from jota.run.instance import DEFAULT_NAME, Instance, Refused, Registry

if TYPE_CHECKING:
    from jota.run.up import Scaling

AUTOSCALE_HELP = """PROVIDER:MIN..MAX[,KEY=VALUE...] (providers: local, hollow, exec), OPTION=VALUE, or a YAML file with both;
may be given several times, e.g. --autoscale local:1..5 --autoscale scaleDownUnneededTime=2m"""


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster of this host (default: %(default)s)")


def add_runtime_config(parser: argparse.ArgumentParser) -> None:
    about = "group versions to serve or not, as kube-apiserver's: api/beta=true,batch/v1=false; kept by `jota up`"
    parser.add_argument("--runtime-config", metavar="K=V,...", help=about)


def runtime_config(args: argparse.Namespace) -> dict[str, bool]:
    """Raises Refused."""
    if not args.runtime_config:
        return {}
    from jota.api.runtime_config import BadRuntimeConfig, parse

    try:
        return parse(args.runtime_config)
    except BadRuntimeConfig as error:
        raise Refused(f"--runtime-config {error}") from None


def seconds(args: argparse.Namespace, name: str, default: float) -> float:
    """Of a flag that is a duration. Raises Refused."""
    flag, text = f"--{name.replace('_', '-')}", getattr(args, name)
    try:
        found = default if text is None else parse(text)
    except ValueError as error:
        raise Refused(f"{flag}: {error}") from None
    if found < 0:
        raise Refused(f"{flag}: must not be negative")
    return found


def handed_on(args: argparse.Namespace, names: Sequence[str], files: Sequence[str]) -> list[str]:
    """The flags of these names that were given, as `jota up` passes them to its server, which may run elsewhere: with whole
    paths of those that are `files`."""
    out = []
    for name in names:
        value = getattr(args, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                out.append(f"--{name.replace('_', '-')}={os.path.abspath(one) if name in files and one else one}")
    return out


def own_ready_pipe(descriptor: int | None) -> int | None:
    """The pipe on which `jota up` hears that we serve: our children must not hold it open after us."""
    if descriptor is not None:
        os.set_inheritable(descriptor, False)
    return descriptor


def chosen(args: argparse.Namespace) -> Instance:
    """The instance that --name means. Raises Refused."""
    return Registry.default().get(args.name)


def scaling(words: list[str]) -> Scaling:
    """The autoscaler's settings that these words, or the file that they name, stand for. Raises Refused."""
    import yaml

    from jota.autoscaler.settings import BadSettings, from_words, parse
    from jota.run.up import Scaling

    try:
        if len(words) == 1 and words[0].endswith((".yaml", ".yml")):
            with open(words[0], encoding="utf-8") as file:
                document = yaml.safe_load(file)
        else:
            document = from_words(words)
        settings = parse(document)
    except BadSettings as error:
        raise Refused(str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{words[0]} is not YAML: {error}") from error
    except OSError as error:
        raise Refused(f"{words[0]}: {error.strerror}") from error
    local = next((g.min for g in settings.groups if g.provider == "local"), None)
    hollow = any(g.provider == "hollow" for g in settings.groups)
    return Scaling(yaml.safe_dump(document, sort_keys=False), local, hollow)
