"""The adapter from Kasoku's image store to what deployment and instances need."""

import threading
from collections.abc import Sequence
from pathlib import Path

from kasoku.home import Home
from kasoku.images.errors import ImageError
from kasoku.images.store import ImageStore
from kasoku.node.errors import PlatformError
from kasoku.node.layers import Base
from kasoku.volumes.store import VolumeStore


class StoreLayers:
    """Layers of the store of a state directory. One build at a time: two would fetch the same files."""

    def __init__(self, home: Home) -> None:
        self._store = ImageStore(home.path)
        self._volumes = VolumeStore(home.path)
        self._building = threading.Lock()

    def base(self, image: str | None, requirements: Sequence[str]) -> Base:
        """The layers of an image (None: the machine's own Python), with requirements on top."""
        env: tuple[tuple[str, str], ...] = ()
        try:
            with self._building:
                if image is None:
                    layers = [self._store.ensure_python_layer()]
                else:
                    loaded = self._store.load(image)
                    layers, env = list(loaded.layers), tuple(sorted(loaded.env.items()))
                if requirements:
                    layers.append(self._store.ensure_requirements_layer(requirements))
        except ImageError as error:
            raise PlatformError("InvalidParameterValueException", str(error)) from None
        return Base(tuple(layer.digest for layer in layers), self._store.python_executable, (), env)

    def code(self, tree: Path, at: str) -> str:
        """The digest of a layer that shows the tree at a path of the guest."""
        try:
            with self._building:
                return self._store.build_tree_layer(tree, at).digest
        except ImageError as error:
            raise PlatformError("InvalidParameterValueException", str(error)) from None

    def path(self, digest: str) -> Path:
        """The file of a layer."""
        try:
            return self._store.layer_path(digest)
        except ImageError as error:
            raise PlatformError("ServiceException", str(error)) from None

    def volume(self, name: str) -> Path:
        """The file of a volume's layer."""
        try:
            return self._volumes.path(name)
        except ImageError as error:
            raise PlatformError("InvalidParameterValueException", str(error)) from None
