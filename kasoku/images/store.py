"""Builds layers and keeps images: everything that the rest of Kasoku asks of this package."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from kasoku.images.errors import ImageError
from kasoku.images.layer import Directory, Symlink, Tree, TreeError, add_bytecode, fingerprint, scan_directory
from kasoku.images.layer_store import LayerStore, replace_file
from kasoku.images.model import Image, Layer, check_digest, check_name
from kasoku.images.python_layer import PYTHON_EXECUTABLE, SITE_PACKAGES, compile_python_tree, python_tree
from kasoku.images.requirements import fetch_wheels, normalise, wheels_key
from kasoku.images.wheels import unpack_wheels

#: The environment of programs in an image where nothing else is said.
DEFAULT_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


class ImageStore:
    """The images and layers of one state directory. Its methods copy, compile and download: not for an event loop."""

    #: The interpreter's path in a guest whose image has a Python layer.
    python_executable = PYTHON_EXECUTABLE

    def __init__(self, home: Path) -> None:
        self.images = home / "images"
        self.layers = LayerStore(home / "layers")
        self._python: Layer | None = None

    def ensure_python_layer(self) -> Layer:
        """Returns the layer with this machine's Python, building it where there is none of this Python yet."""
        if self._python is None:
            try:
                tree = python_tree()
                key = f"python-{fingerprint(tree, _recipe())}"

                def build() -> Layer:
                    compile_python_tree(tree)
                    return self.layers.add(tree, "python")

                self._python = self.layers.ensure(key, build)
            except (OSError, TreeError) as error:
                raise ImageError(f"this machine's Python cannot be made into a layer: {error}") from None
        return self._python

    def ensure_requirements_layer(self, requirements: Sequence[str], *, refresh: bool = False) -> Layer:
        """Returns the layer with the wheels that the requirements resolve to, their dependencies included.

        The same requirements give the layer of their first resolution; `refresh` resolves them again.
        """
        wanted = sorted({normalise(line) for line in requirements})
        asked = hashlib.sha256("\n".join([_recipe(), sys.version, *wanted]).encode()).hexdigest()
        return self.layers.ensure(f"asked-{asked}", lambda: self._requirements(wanted), refresh=refresh)

    def build_tree_layer(self, path: Path, at: str = "/var/task") -> Layer:
        """Returns a layer in which the directory `path` of this machine appears at the guest path `at`."""
        if not at.startswith("/"):
            raise ImageError(f"{at!r} is not a place in a guest: it begins with '/'")
        try:
            tree = Tree()
            node = scan_directory(path, skip=lambda _, entry: entry.name == b"__pycache__")
            _refuse_whiteouts(node)
            place = at.rstrip("/")
            if place:
                parent, _, name = place.rpartition("/")
                tree.directory(place)  # checks the names
                tree.directory(parent).children[os.fsencode(name)] = node
            else:
                tree.root = node
            add_bytecode(node, os.fsencode(place))
        except (OSError, TreeError) as error:
            raise ImageError(f"{path} cannot be made into a layer: {error}") from None
        return self.layers.add(tree, "tree")

    def layer_path(self, digest: str) -> Path:
        """Returns the file of a layer. Raises ImageError where there is none."""
        try:
            path = self.layers.folder / f"{check_digest(digest).removeprefix('sha256:')}.erofs"
        except ValueError as error:
            raise ImageError(str(error)) from None
        if not path.is_file():
            raise ImageError(f"layer {digest} is missing from {self.layers.folder}: build or deploy it again")
        return path

    def save(
        self,
        name: str,
        layers: Sequence[Layer],
        *,
        env: Mapping[str, str] = DEFAULT_ENVIRONMENT,
        cwd: str = "/",
        args: Sequence[str] = (),
    ) -> Image:
        """Gives a stack of layers (bottom first) a name, which an older image may have had."""
        image = Image(check_name(name), tuple(layers), dict(env), cwd, tuple(args))
        for layer in image.layers:
            self.layers.path(layer)
        try:
            self.images.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file(name), msgspec.json.format(msgspec.json.encode(image)) + b"\n")
        except OSError as error:
            raise ImageError(f"image {name} cannot be saved: {error.strerror}") from None
        return image

    def load(self, name: str) -> Image:
        """Returns an image whose layers are all there, with the right sizes. Raises ImageError."""
        image = self.description(name)
        for layer in image.layers:
            self.layers.path(layer)
        return image

    def description(self, name: str) -> Image:
        """Returns what is written about an image, its layers unseen."""
        file = self._file(check_name(name))
        try:
            image = msgspec.json.decode(file.read_bytes(), type=Image)
        except FileNotFoundError:
            known = ", ".join(self.names()) or "there is none yet"
            raise ImageError(f"there is no image {name!r} (known: {known}); `kasoku image build` makes one") from None
        except OSError as error:
            raise ImageError(f"image {name} cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise ImageError(f"{file} is not the description of an image: {error}") from None
        if image.name != name:
            raise ImageError(f"{file} describes an image of another name, {image.name!r}")
        return image

    def verify(self, image: Image) -> None:
        """Reads every layer in full. Raises ImageError for the first whose contents are not those of its digest."""
        for layer in image.layers:
            self.layers.verify(layer)

    def names(self) -> list[str]:
        """Returns the names of all images."""
        return sorted(path.stem for path in self.images.glob("*.json"))

    def remove(self, name: str) -> None:
        """Forgets an image. Its layers stay, for other images and for functions, until `prune`."""
        file = self._file(check_name(name))
        try:
            file.unlink()
        except FileNotFoundError:
            raise ImageError(f"there is no image {name!r}") from None
        except OSError as error:
            raise ImageError(f"image {name} cannot be removed: {error.strerror}") from None

    def prune(self, in_use: set[str], *, age_s: float = 3600) -> Iterator[tuple[str, int]]:
        """Deletes the layers that neither an image nor `in_use` names and nobody asked for in the last `age_s` seconds.

        Yields (digest, size in bytes) of each.
        """
        used = in_use | {layer.digest for name in self.names() for layer in self.description(name).layers}
        for digest, size, asked_at in self.layers.all():
            if digest not in used and asked_at <= time.time() - age_s:
                self.layers.remove(digest)
                yield digest, size

    def _file(self, name: str) -> Path:
        return self.images / f"{name}.json"

    def _requirements(self, requirements: Sequence[str]) -> Layer:
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=self.layers.folder) as folder, ExitStack() as files:
            wheels = fetch_wheels(requirements, Path(folder))
            key = f"wheels-{wheels_key(wheels)}-{hashlib.sha256((_recipe() + sys.version).encode()).hexdigest()[:16]}"
            known = self.layers.recorded(key)
            if known is not None:
                return known
            tree = Tree()
            unpack_wheels(wheels, tree, files)
            try:
                add_bytecode(tree.directory(SITE_PACKAGES), SITE_PACKAGES.encode())
            except (OSError, TreeError) as error:
                raise ImageError(f"the wheels cannot be unpacked: {error}") from None
            layer = self.layers.add(tree, "requirements")
            self.layers.record(key, layer)
            return layer


def _refuse_whiteouts(directory: Directory) -> None:
    for name, child in directory.children.items():
        if name.startswith(b".wh."):
            raise TreeError(
                f"a file is named {os.fsdecode(name)!r}: names with '.wh.' in front hide files of other layers"
            )
        if isinstance(child, Directory):
            _refuse_whiteouts(child)
        elif isinstance(child, Symlink) and not child.target:
            raise TreeError("a symbolic link has no target")


def _recipe() -> str:
    """Names the code that turns inputs into layers: layers of other code are built anew."""
    total = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted([*package.glob("*.py"), *package.glob("layer/*.py")]):
        total.update(path.read_bytes())
    return total.hexdigest()
