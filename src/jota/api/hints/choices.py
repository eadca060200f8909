"""A value that is not one of the supported ones: which was probably meant, as a Warning beside the 422."""

from __future__ import annotations

import re

from jota.meta.errors import ApiError

_UNSUPPORTED = re.compile(r'Unsupported value: "([^"]*)": supported values: (.*)')


def meant(problem: ApiError) -> list[str]:
    """For each cause that is a near miss: another case, or a letter or two."""
    from difflib import get_close_matches

    found = []
    for cause in problem.causes:
        match = _UNSUPPORTED.fullmatch(cause.message)
        if match is None or not 0 < len(match[1]) <= 64:
            continue
        choices = {choice.lower(): choice for choice in re.findall(r'"([^"]*)"', match[2])}
        near = get_close_matches(match[1].lower(), choices, n=1, cutoff=0.7)
        if near:
            found.append(f'{cause.field} "{match[1]}": did you mean "{choices[near[0]]}"?')
    return found
