"""Names of images, as tables."""

from __future__ import annotations

import pytest

from jota.runtime.embedded.images.reference import is_id, parse
from jota.runtime.protocol import RuntimeFault

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("r.example/a/b/c_d--e.f:T-1.x", "r.example/a/b/c_d--e.f:T-1.x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
        (f"r.example/app:v1@{SHA}", f"r.example/app:v1@{SHA}"),
    ],
)
def test_names_are_completed(text, full):
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "Busybox", "a//b", "/a", "a/", "a:", "a:b:c", "a b", "a@sha256:12", "a@md5:" + "0" * 64, "-a", "a/../b", "r.x/", "a:" + "x" * 129, "http://a/b"],
)  # fmt: skip
def test_nonsense_is_named(text):
    with pytest.raises(RuntimeFault) as caught:
        parse(text)
    assert caught.value.reason == "InvalidImageName"
    assert text in caught.value.message


def test_ids():
    assert is_id(SHA)
    assert is_id("ab" * 32)
    assert not is_id("ab" * 31)
