"""The images of upstream's tests, made here: no registry is asked. In: the suite, its image references. Out: docker archives.

A Debian root (debootstrap, as root) takes the place of upstream's Alpine and busybox roots, so that what tests a distribution
may differ. `sh` is bash, since the tests' scripts want more than dash has; in the busybox image it is busybox's own, whose
words they know, but for environment variables whose names are not identifiers: Debian's build would hide these.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tools.conformance import archive
from tools.conformance.suite import Suite

PACKAGES = (
    "bash", "bind9-dnsutils", "busybox", "ca-certificates", "curl", "etcd-server", "iperf", "iproute2", "net-tools",
    "netcat-openbsd", "nginx-light", "procps", "socat", "wget",
)  # fmt: skip
_SUPERFLUOUS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")
_MEDIA = "application/vnd.docker"
_PAUSE = """
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int s) { exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main() { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""
_SHELL = """
#include <ctype.h>
#include <unistd.h>
extern char **environ;
int main(int count, char **words) {
    for (char **each = environ; *each; each++) {
        char *at = *each;
        while (*at == '_' || isalnum((unsigned char)*at)) at++;
        if (*at != '=') return execv("/bin/bash", words);
    }
    return execv("/bin/busybox", words);
}
"""


class Images:
    """One method per image, named as the image is with underscores; each gives (root, config)."""

    def __init__(self, cache: Path, suite: Suite) -> None:
        self._cache, self._suite, self._roots = cache / "images", suite, cache / "roots"
        self._cache.mkdir(parents=True, exist_ok=True)
        self._roots.mkdir(parents=True, exist_ok=True)
        self._wanted: dict[str, list[str]] = {}
        """Image -> its references."""

    def make(self, references: Iterable[str]) -> tuple[list[Path], list[str]]:
        """(archives, references that nobody here can make)."""
        self._wanted = {}
        for reference in sorted(references):
            self._wanted.setdefault(reference.rpartition("/")[2].partition(":")[0], []).append(reference)
        made, unknown = [], []
        for name, all_of_it in self._wanted.items():
            if name != "make" and hasattr(self, name.replace("-", "_")):
                made.append(self._archive(name))
            else:
                unknown += all_of_it
        return made, unknown

    def _archive(self, name: str) -> Path:
        """Of one image; made unless it is there."""
        out = self._cache / f"{name}.tar"
        if not out.exists():
            print(f"making image {name}", flush=True)
            recipe: Callable[[], tuple[Path, dict[str, Any]]] = getattr(self, name.replace("-", "_"))
            root, config = recipe()
            archive.write(out, self._wanted.get(name, []), root, config)
        return out

    # -- the images

    def agnhost(self) -> tuple[Path, dict[str, Any]]:
        root = self._from_debian("agnhost")
        self._put("agnhost", root)
        (root / "agnhost-2").symlink_to("agnhost")
        (root / "uploads").mkdir()
        for path in (self._suite.source / "test/images/agnhost/porter").glob("localhost.*"):
            shutil.copy(path, root)
        for command in (
            ["useradd", "-u", "1000", "-m", "user-defined-in-image"],
            ["groupadd", "-g", "50000", "group-defined-in-image"],
            ["usermod", "-aG", "group-defined-in-image", "user-defined-in-image"],
        ):
            subprocess.run(["chroot", root, *command], check=True)
        self._registry(root / "var/registry/pause")
        return root, {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}

    def nonewprivs(self) -> tuple[Path, dict[str, Any]]:
        root = self._from_debian("nonewprivs")
        self._put("nnp", root / "usr/local/bin", mode=0o6755)
        return root, {"Cmd": ["nnp"]}

    def nginx(self) -> tuple[Path, dict[str, Any]]:
        return self._debian(), {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT"}

    def glibc_dns_testing(self) -> tuple[Path, dict[str, Any]]:
        return self._debian(), {"Cmd": ["bash"]}

    def etcd(self) -> tuple[Path, dict[str, Any]]:
        root = self._from_debian("etcd")
        (root / "usr/local/bin/etcd").symlink_to("/usr/bin/etcd")
        return root, {"Cmd": ["etcd"]}

    def busybox(self) -> tuple[Path, dict[str, Any]]:
        return self._busybox(), {"Cmd": ["sh"]}

    def nonroot(self) -> tuple[Path, dict[str, Any]]:
        return self._busybox(), {"Cmd": ["sh"], "User": "1234"}

    def pause(self) -> tuple[Path, dict[str, Any]]:
        root = self._empty("pause")
        _compile(_PAUSE, root / "pause")
        return root, {"Entrypoint": ["/pause"], "User": "65535:65535"}

    def nautilus(self) -> tuple[Path, dict[str, Any]]:
        return self._pet("nautilus")

    def kitten(self) -> tuple[Path, dict[str, Any]]:
        return self._pet("kitten")

    def regression_issue_74839(self) -> tuple[Path, dict[str, Any]]:
        return self._alone("regression-issue-74839")

    def sample_apiserver(self) -> tuple[Path, dict[str, Any]]:
        return self._alone("kube-sample-apiserver")

    # -- their parts

    def _debian(self) -> Path:
        root = self._roots / "debian"
        if not (root / "usr/bin/etcd").exists():
            shutil.rmtree(root, ignore_errors=True)
            include = f"--include={','.join(PACKAGES)}"
            subprocess.run(
                ["debootstrap", "--variant=minbase", include, "bookworm", root, "http://deb.debian.org/debian"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            for name in _SUPERFLUOUS:
                shutil.rmtree(root / name, ignore_errors=True)
            (root / "usr/bin/sh").unlink()
            (root / "usr/bin/sh").symlink_to("bash")
        return root

    def _from_debian(self, name: str) -> Path:
        root = self._roots / name
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", self._debian(), root], check=True)
        return root

    def _busybox(self) -> Path:
        debian, root = self._debian(), self._empty("busybox")
        for name in ("bin", "etc", "lib64", "root", "tmp", "usr/bin", "var/run", "home", "proc", "sys", "dev"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        for name in ("busybox", "bash"):
            shutil.copy(debian / "usr/bin" / name, root / "bin")
            self._libraries(debian / "usr/bin" / name, root)
        _compile(_SHELL, root / "bin/sh")
        for library in ("libnss_dns.so.2", "libnss_files.so.2"):
            shutil.copy(debian / "usr/lib/x86_64-linux-gnu" / library, root / "lib/x86_64-linux-gnu")
        applets = subprocess.run(["chroot", debian, "busybox", "--list"], capture_output=True, text=True, check=True)
        for applet in applets.stdout.split():
            if not (root / "bin" / applet).exists():
                (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
        )
        (root / "etc/group").write_text("root:x:0:\nnobody:x:65534:\n")
        (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
        return root

    @staticmethod
    def _libraries(program: Path, root: Path) -> None:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                target = root / word[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target)

    def _pet(self, name: str) -> tuple[Path, dict[str, Any]]:
        root = self._empty(name)
        for path in (self._suite.source / "test/images" / name / "html").iterdir():
            shutil.copy(path, root)
        self._put("agnhost", root)
        # looked for in the volume that this image is
        (root / "etc").mkdir()
        (root / "etc/os-release").write_text('PRETTY_NAME="In place of Alpine Linux"\n')
        return root, {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}

    def _alone(self, program: str) -> tuple[Path, dict[str, Any]]:
        root = self._empty(program)
        (root / "tmp").mkdir()
        self._put(program, root)
        return root, {"Entrypoint": [f"/{program}"]}

    def _registry(self, place: Path) -> None:
        """What agnhost's own registry serves: the pause image as `testing`, in the files that it looks for."""
        config, layer = archive.read(self._archive("pause"))

        def stored(kind: str, content: bytes, media: str) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            where = place / kind / "sha256" / digest[:2] / digest
            where.mkdir(parents=True)
            (where / "data").write_bytes(content)
            return {"mediaType": f"{_MEDIA}.{media}", "size": len(content), "digest": f"sha256:{digest}"}

        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.distribution.manifest.v2+json",
            "config": stored("blobs", config, "container.image.v1+json"),
            "layers": [stored("blobs", gzip.compress(layer, mtime=0), "image.rootfs.diff.tar.gzip")],
        }
        one = stored("manifests", json.dumps(manifest).encode(), "distribution.manifest.v2+json")
        media = "distribution.manifest.list.v2+json"
        every = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.{media}",
            "manifests": [one | {"platform": {"architecture": "amd64", "os": "linux"}}],
        }
        index = stored("manifests", json.dumps(every).encode(), media)
        (place / "manifests/testing").write_text(index["digest"] + "\n")

    def _put(self, program: str, where: Path, mode: int = 0o755) -> None:
        where.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._suite.bin / program, where / program)
        (where / program).chmod(mode)

    def _empty(self, name: str) -> Path:
        root = self._roots / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        return root


def _compile(source: str, out: Path) -> None:
    subprocess.run(["gcc", "-static", "-Os", "-x", "c", "-", "-o", out], input=source.encode(), check=True)
