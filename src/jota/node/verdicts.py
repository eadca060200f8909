"""Evictions that outlive the agent: a file in the pod's directory, from the verdict on until the pod's last trace goes.

Of what the node decides about a pod, a rejection is reached anew by the next agent and a deadline that has passed stays so; that
the node was short of memory for a moment can be read nowhere. In: a Verdict. Out: the same, to the worker of the next agent.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict

import orjson

from jota.aio import files
from jota.node.model import Verdict

log = logging.getLogger(__name__)

FILE = "verdict.json"


def remember(directory: str, verdict: Verdict) -> None:
    """Before anything is done by it. Raises OSError."""
    os.makedirs(directory, mode=0o750, exist_ok=True)
    files.replace(os.path.join(directory, FILE), orjson.dumps(asdict(verdict)))


def remembered(directory: str) -> Verdict | None:
    """None when there was none; a damaged note is none, too."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            return Verdict(**orjson.loads(file.read()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as e:
        log.warning("%s is no verdict, the pod goes on: %s", path, e)
        return None
