"""A request for a resource that is not served: what was probably meant, as a Warning beside the 404."""

from __future__ import annotations

from collections.abc import Iterable

from jota.api.path import Target


def meant(target: Target, served: Iterable[tuple[str, str, str]]) -> str:
    """ "" when nothing is near. `served`: (group, version, plural) of all that is."""
    from difflib import get_close_matches

    asked = (target.group, target.version, target.resource)
    everything = list(served)
    other = sorted(v for g, v, p in everything if (g, p) == (target.group, target.resource))
    if other:
        return f"{_shown(*asked)} is not served: did you mean {_shown(target.group, other[-1], target.resource)}?"
    same = sorted({(g, v) for g, v, p in everything if p == target.resource})
    if same:
        return f"{_shown(*asked)} is not served: did you mean {_shown(*same[-1], target.resource)}?"
    if len(target.resource) > 64:
        return ""
    plurals = {p for g, v, p in everything if (g, v) == (target.group, target.version)}
    near = get_close_matches(target.resource.lower(), plurals, n=1, cutoff=0.7)
    return f"{_shown(*asked)} is not served: did you mean {_shown(*asked[:2], near[0])}?" if near else ""


def _shown(group: str, version: str, plural: str) -> str:
    return f"{group}/{version} {plural}" if group else f"{version} {plural}"
