"""Which names a definition gets: those that no other definition of its group has taken. Objects in, status out; pure.

Rules of upstream's naming controller: each name is accepted alone, NamesAccepted says whether all were, and Established stays
once it was true. Next: manager.py writes the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jota.kinds.kind import Object
from jota.kinds.shape import part, parts, text, texts
from jota.meta import conditions

_RESOURCE_NAMES = ("plural", "singular", "shortNames")


def status_of(crd: Object, others: Iterable[Object], now: str, *, built_in: bool) -> dict[str, Any]:
    """The status that `crd` should have; the same parts when nothing changes. `others`: definitions of its group; `built_in`: a
    kind of the server's own has its plural."""
    names, status = part(part(crd, "spec"), "names"), dict(part(crd, "status"))
    taken, kinds = _taken(others)
    if built_in:
        taken.add(text(names, "plural"))
    accepted, reason, message = _accept(names, part(status, "acceptedNames"), taken, kinds)
    status["acceptedNames"] = accepted
    found = parts(status, "conditions")
    if reason:
        found = conditions.set(found, "NamesAccepted", "False", now=now, reason=reason, message=message)
    else:
        found = conditions.set(
            found, "NamesAccepted", "True", now=now, reason="NoConflicts", message="no conflicts found"
        )
    if not conditions.is_true(found, "Established"):
        found = _established(found, good=not reason, now=now)
    status["conditions"] = found
    return status


def _established(found: list[Any], *, good: bool, now: str) -> list[Any]:
    if good:
        about = "the initial names have been accepted"
        return conditions.set(found, "Established", "True", now=now, reason="InitialNamesAccepted", message=about)
    about = "not all names are accepted"
    return conditions.set(found, "Established", "False", now=now, reason="NotAccepted", message=about)


def _taken(others: Iterable[Object]) -> tuple[set[str], set[str]]:
    """(resource names, kinds) that other definitions have accepted."""
    names: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        accepted = part(part(other, "status"), "acceptedNames")
        names |= {text(accepted, "plural"), text(accepted, "singular"), *texts(accepted, "shortNames")}
        kinds |= {text(accepted, "kind"), text(accepted, "listKind")}
    return names - {""}, kinds - {""}


def _accept(names: Object, before: Object, taken: set[str], kinds: set[str]) -> tuple[dict[str, Any], str, str]:
    """(accepted names, reason of the last conflict, its message)."""
    out: dict[str, Any] = dict(before)
    reason = message = ""
    for key in ("plural", "singular", "shortNames", "kind", "listKind"):
        have, wanted = (kinds if "ind" in key and key != "singular" else taken), names.get(key)
        clashes = sorted({*([wanted] if isinstance(wanted, str) else texts(names, key))} & have)
        if not clashes:
            if wanted:
                out[key] = wanted
            else:
                out.pop(key, None)
            continue
        reason = {"kind": "KindConflict", "listKind": "ListKindConflict", "plural": "PluralConflict"}.get(
            key, "SingularConflict" if key == "singular" else "ShortNamesConflict"
        )
        message = ", ".join(f'"{clash}" is already in use' for clash in clashes)
    out.setdefault("plural", "")
    out.setdefault("kind", "")
    if names.get("categories"):
        out["categories"] = names["categories"]
    else:
        out.pop("categories", None)
    return out, reason, message
