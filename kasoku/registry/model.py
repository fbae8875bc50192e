"""What the registry keeps."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from kasoku.sdk.options import FunctionOptions


@dataclass(frozen=True)
class FunctionVersion:
    """One immutable version of a function. Equal content has an equal `version`."""

    name: str
    handler: str
    options: FunctionOptions
    layers: tuple[str, ...]
    """Digests `sha256:HEX`, bottom first, the function's own code last."""
    python: str
    """The interpreter, as a path in the guest."""
    package_paths: tuple[str, ...]
    """Import paths of the image's packages in the guest."""
    image_env: tuple[tuple[str, str], ...] = ()
    """Environment that the image asks for; the function's own options come on top."""

    @cached_property
    def version(self) -> str:
        """The content's address, 64 hex digits."""
        program = [self.layers, self.python, self.package_paths, self.image_env]
        content = [self.name, self.handler, self.options.to_json(), *program]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def arn(self) -> str:
        """The name by which Lambda's clients know the function; region and account mean nothing here."""
        return f"arn:aws:lambda:local:000000000000:function:{self.name}"
