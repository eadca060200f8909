"""Instances from one version to another by the definition's webhook: ConversionReview out over HTTPS, converted objects back.

In: objects of one definition in any of its versions. Out: the same in the wanted version, pruned by its schema. What a webhook
may change is the object and its labels and annotations; all other metadata stays, and an answer with another name, namespace,
uid or kind is refused (upstream's webhook_converter). Next: served.py, which asks for entries of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from jota.api.webhook_client import WebhookClient, WebhookFailed
from jota.kinds.kind import Kind, Object
from jota.kinds.shape import part, text, texts
from jota.meta import names, schema
from jota.meta.errors import ApiError

GROUP = "apiextensions.k8s.io"
REVIEWS = ("v1", "v1beta1")
TIMEOUT = 30.0
"""Seconds for a review (upstream's, not configurable)."""
LARGEST = 4 << 20
"""Bytes of objects in one review: its answer must fit into what a webhook may answer."""


def is_webhook(crd: Object) -> bool:
    return text(part(part(crd, "spec"), "conversion"), "strategy") == "Webhook"


class Converter:
    def __init__(
        self,
        crd: Object,
        client: WebhookClient,
        kinds: dict[str, Kind],
        new_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        """`kinds`: every version of the definition, the ones that are not served included. `now`: monotonic seconds."""
        webhook = part(part(part(crd, "spec"), "conversion"), "webhook")
        self._config = part(webhook, "clientConfig")
        self._review = next((v for v in texts(webhook, "conversionReviewVersions") if v in REVIEWS), REVIEWS[0])
        self._client, self._new_id = client, new_id
        self.kinds, self.now = kinds, now

    async def convert(self, objects: Sequence[Object], version: str) -> list[Object]:
        """New objects, pruned by the schema of `version`; those that have it already are given back as they are.

        Raises ApiError 500.
        """
        wanted = self.kinds[version]
        out = list(objects)
        foreign = [i for i, obj in enumerate(objects) if obj["apiVersion"] != wanted.resource.api_version]
        for some in _portions(foreign, objects):
            converted = await self._ask([objects[i] for i in some], wanted.resource.api_version)
            for i, made in zip(some, converted, strict=True):
                schema.prune(wanted.structure or "", made)
                out[i] = made
        return out

    async def _ask(self, objects: list[Object], api_version: str) -> list[Object]:
        uid, review = self._new_id(), f"{GROUP}/{self._review}"
        request = {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}
        body = {"kind": "ConversionReview", "apiVersion": review, "request": request}
        which = f"{objects[0]['apiVersion']}, Kind={objects[0]['kind']}"
        try:
            answer = await self._client.post(self._config, body, TIMEOUT, f"?timeout={TIMEOUT:.0f}s")
            found = _converted(answer, review, uid)
        except WebhookFailed as failure:
            cause = str(failure).removeprefix("failed to call webhook: ")
            raise _failed(f"conversion webhook for {which} failed: {cause}") from None
        if len(found) != len(objects):
            raise _failed(
                f"conversion webhook for {which} returned {len(found)} objects, expected {len(objects)}"
            ) from None
        for index, (made, was) in enumerate(zip(found, objects, strict=True)):
            problem = _unlike(made, was, api_version, index, many=len(objects) > 1)
            if problem:
                raise _failed(f"conversion webhook for {which} returned invalid {problem}")
        return found


def _portions(chosen: list[int], objects: Sequence[Object]) -> list[list[int]]:
    """As few reviews as their size allows, as a rule one."""
    out: list[list[int]] = []
    room = 0
    for i in chosen:
        size = len(orjson.dumps(objects[i]))
        if not out or size > room:
            out.append([])
            room = LARGEST
        out[-1].append(i)
        room -= size
    return out


def _failed(message: str) -> ApiError:
    """As upstream's plain Go error reaches the client: 500, no reason, the sentence."""
    return ApiError(500, "", message)


def _converted(answer: Any, review: str, uid: str) -> list[Any]:
    """The objects of a ConversionReview's response. Raises WebhookFailed."""
    if not isinstance(answer, dict):
        raise WebhookFailed("the answer is no object")
    got = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
    strict = review.endswith("/v1")  # v1beta1 never compared these
    if strict and got != f"{review}, Kind=ConversionReview":
        raise WebhookFailed(f"expected webhook response of {review}, Kind=ConversionReview, got {got}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookFailed("no response provided")
    if strict and response.get("uid") != uid:
        raise WebhookFailed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = part(response, "result")
    if text(result, "status") != "Success":
        status = text(result, "status")
        raise WebhookFailed(text(result, "message") or f"response.result.status was '{status}', not 'Success'")
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else []


def _unlike(made: Any, was: Object, api_version: str, index: int, *, many: bool) -> str:
    """What makes an answer another object than the one that was sent, "" for nothing; restores its metadata (in place)."""
    at = f"converted object at index {index}" if many else f"object at index {index}"
    if not isinstance(made, dict):
        return f"{at}: it is no object"
    if made.get("apiVersion") != api_version:
        return f"{at}: invalid groupVersion (expected {api_version}, received {made.get('apiVersion', '')})"
    if made.get("kind") != was["kind"]:
        return f"{at}: invalid kind (expected {was['kind']}, received {made.get('kind', '')})"
    metadata = f"metadata in object at index {index}" if many else "metadata"
    if not isinstance(made.get("metadata"), dict):
        return f"{metadata}: missing metadata in converted object"
    for field, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = text(was["metadata"], field), text(made["metadata"], field)
        if before != after:
            return f"{at if many else 'object'}: must have the same {shown}: {before} != {after}"
    problem = _restore(made, was)
    return f"{metadata}: {problem}" if problem else ""


def _restore(made: Object, was: Object) -> str:
    """Give an answer (in place) the metadata that it had, but for labels and annotations; what is wrong with those."""
    given, meta = made["metadata"], dict(was["metadata"])
    for field, judge in (("labels", names.validate_labels), ("annotations", names.validate_annotations)):
        value = given.get(field)
        if value is None or value == {}:
            meta.pop(field, None)
            continue
        if not isinstance(value, dict):
            return f"invalid metadata.{field} of type {type(value).__name__} in converted object"
        for key, item in value.items():
            if not isinstance(item, str):
                return f"metadata.{field}[{key}] must be a string, but is {type(item).__name__} in converted object"
        if value != meta.get(field):
            errors = judge(value, f"metadata.{field}")
            if errors:
                return ", ".join(f"{e.field}: {e.message}" for e in errors)
        meta[field] = value
    made["metadata"] = meta
    return ""
