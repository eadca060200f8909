"""The images of this host: names and ids come in, Image records and layer directories go out.

Blocking functions, run on the engine's worker threads. `archive.py` and `registry.py` bring blobs; `unpack.py` makes layers;
`../container.py` mounts them.
"""

from __future__ import annotations

import builtins
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jota.runtime import trees
from jota.runtime.embedded.images import reference, unpack
from jota.runtime.embedded.images.content import Content
from jota.runtime.embedded.images.manifest import check_config
from jota.runtime.protocol import Image, RuntimeFault


class Library:
    """Names over a content store."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._configs: dict[str, dict[str, Any]] = {}

    def load(self, path: str) -> list[Image]:
        """Import an archive. Raises RuntimeFault."""
        from jota.runtime.embedded.images import archive

        with self.content.guard():
            return [self.register(found.manifest, found.names) for found in archive.load(path, self.content)]

    def register(self, manifest_digest: str, names: list[str], digest_name: str = "") -> Image:
        """Unpack what is not yet unpacked and bind the names. `digest_name`: name@digest as pulled. Raises RuntimeFault."""
        manifest = self.content.read_json(manifest_digest)
        try:
            image = str(manifest["config"]["digest"])
            layers = [str(layer["digest"]) for layer in manifest["layers"]]
            diffs = [str(diff) for diff in self.config(image)["rootfs"]["diff_ids"]]
        except (KeyError, TypeError) as fault:
            raise RuntimeFault("ErrImagePull", f"malformed manifest {manifest_digest}: {fault!r}") from fault
        if len(layers) != len(diffs) or not all(map(reference.is_digest, diffs + layers)):
            raise RuntimeFault(
                "ErrImagePull", f"manifest {manifest_digest}: {len(layers)} layers, {len(diffs)} diff ids"
            )
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._unpack, layers, diffs))
        tags = [str(reference.parse(name)) for name in names]
        with self.content.lock():
            index = self.content.index()
            for other in index["images"].values():
                other["names"] = [name for name in other["names"] if name not in tags]
            entry = index["images"].setdefault(image, {"names": [], "digests": []})
            entry["names"] = sorted({*entry["names"], *tags})
            digests = [digest_name] if digest_name else [f"{reference.parse(n).name}@{manifest_digest}" for n in names]
            entry["digests"] = sorted({*entry["digests"], *digests})
            entry.update(manifest=manifest_digest, layers=diffs, size=self._size([*layers, image]))
            self.content.write_index(index)
        return self._image(image, entry)

    def _size(self, blobs: list[str]) -> int:
        return sum(os.path.getsize(self.content.blob(blob)) for blob in set(blobs) if self.content.has(blob))

    def _unpack(self, layer: str, diff: str) -> None:
        """Once per host: the lock is per layer, so that two nodes which pull the same image share the work."""
        if self.content.has_layer(diff):
            return
        with self.content.lock(f"tmp/{diff.removeprefix('sha256:')}.lock"):
            if self.content.has_layer(diff):
                return
            target = self.content.temporary()
            os.makedirs(f"{target}/fs", mode=0o755)
            try:
                stream, close = unpack.open_layer(self.content.blob(layer))
                try:
                    actual = unpack.unpack(stream, f"{target}/fs")
                finally:
                    close()
                if actual != diff:
                    raise RuntimeFault("ErrImagePull", f"layer {layer} unpacks to {actual}, the config says {diff}")
                os.rename(target, os.path.dirname(self.content.layer(diff)))
            except FileNotFoundError as fault:
                raise RuntimeFault("ErrImagePull", f"layer {layer} is missing: {fault}") from fault
            except (unpack.LayerFault, OSError) as fault:
                raise RuntimeFault("ErrImagePull", f"cannot unpack layer {layer}: {fault}") from fault
            finally:
                with contextlib.suppress(OSError):
                    trees.remove(target)

    def config(self, image: str) -> dict[str, Any]:
        """The image's config object. Raises RuntimeFault."""
        found = self._configs.get(image)
        if found is None:
            if len(self._configs) > 256:
                self._configs.clear()
            found = self.content.read_json(image)
            check_config(image, found)
            self._configs[image] = found
        return found

    def find(self, text: str, index: dict[str, Any] | None = None) -> str | None:
        """The id behind a name, digest reference or id; None when unknown or the name is invalid."""
        images = (index or self.content.index())["images"]
        if reference.is_id(text):
            full = text if text.startswith("sha256:") else f"sha256:{text}"
            return full if full in images else None
        try:
            wanted = reference.parse(text)
        except RuntimeFault:
            return None
        for image, entry in images.items():
            if wanted.digest:
                if f"{wanted.name}@{wanted.digest}" in entry["digests"]:
                    return str(image)
            elif str(wanted) in entry["names"]:
                return str(image)
        return None

    def get(self, text: str) -> Image | None:
        index = self.content.index()
        image = self.find(text, index)
        return self._image(image, index["images"][image]) if image else None

    def list(self) -> list[Image]:
        return [self._image(image, entry) for image, entry in self.content.index()["images"].items()]

    def layers(self, image: str) -> builtins.list[str]:
        """Layer directories, bottom first. Raises RuntimeFault(CreateContainerError) when the image is gone."""
        entry = self.content.index()["images"].get(image)
        if entry is None:
            raise RuntimeFault("CreateContainerError", f"image {image} is not present")
        return [self.content.layer(diff) for diff in entry["layers"]]

    def remove(self, text: str) -> None:
        """Untag a name; by id, or with its last name, the image goes when no container uses it. Raises
        RuntimeFault(ImageInUse). Removing what is absent is not an error."""
        with self.content.lock():
            index = self.content.index()
            image = self.find(text, index)
            if image is None:
                return
            entry = index["images"][image]
            names = (
                []
                if reference.is_id(text) or "@" in text
                else [n for n in entry["names"] if n != str(reference.parse(text))]
            )
            if not names and image in self.content.leased():
                raise RuntimeFault("ImageInUse", f"image {text} is used by a container")
            if names:
                entry["names"] = names
            else:
                del index["images"][image]
            self.content.write_index(index)
            self._collect(index)

    def collect(self) -> None:
        """Remove blobs and layers that no image names (left over by failed pulls)."""
        with self.content.lock():
            self._collect(self.content.index())

    def _collect(self, index: dict[str, Any]) -> None:
        """Under the lock. While a pull is under way nothing is collected: its blobs have no name yet."""
        with self.content.quiet() as quiet:
            if not quiet:
                return
            for name in os.listdir(f"{self.content.root}/tmp"):
                # Left behind by a killed pull; a finished one has moved its files away.
                path = f"{self.content.root}/tmp/{name}"
                trees.remove(path) if os.path.isdir(path) else os.unlink(path)
            blobs, layers = self._named(index)
            for name in set(os.listdir(f"{self.content.root}/blobs/sha256")) - blobs:
                os.unlink(f"{self.content.root}/blobs/sha256/{name}")
            for name in set(os.listdir(f"{self.content.root}/layers")) - layers:
                doomed = self.content.temporary()
                os.rename(f"{self.content.root}/layers/{name}", doomed)
                with contextlib.suppress(OSError):
                    trees.remove(doomed)

    def _named(self, index: dict[str, Any]) -> tuple[set[str], set[str]]:
        """Hex digests of the (blobs, layers) that images need."""
        blobs: set[str] = set()
        layers: set[str] = set()
        for image, entry in index["images"].items():
            layers.update(diff.removeprefix("sha256:") for diff in entry["layers"])
            blobs.update((image.removeprefix("sha256:"), entry["manifest"].removeprefix("sha256:")))
            with contextlib.suppress(RuntimeFault, KeyError):
                manifest = self.content.read_json(entry["manifest"])
                blobs.update(layer["digest"].removeprefix("sha256:") for layer in manifest["layers"])
        return blobs, layers

    def _image(self, image: str, entry: dict[str, Any]) -> Image:
        config = self.config(image).get("config") or {}
        return Image(
            id=image,
            tags=list(entry["names"]),
            digests=list(entry["digests"]),
            size=int(entry["size"]),
            user=config.get("User") or "",
            env=list(config.get("Env") or []),
            entrypoint=list(config.get("Entrypoint") or []),
            cmd=list(config.get("Cmd") or []),
            working_dir=config.get("WorkingDir") or "",
            stop_signal=config.get("StopSignal") or "",
        )
