"""The state directory: the folder that holds all that Kasoku keeps on a machine. Standard library only, for the SDK."""

import os
from pathlib import Path

HOME_VARIABLE = "KASOKU_HOME"


class Home:
    """Paths inside a state directory. Creating a `Home` touches nothing; `make()` creates the folders."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def resolve(cls, option: str | Path | None = None) -> "Home":
        """The directory that `--home` names, else `$KASOKU_HOME`, else the user's data directory."""
        if option is not None:
            return cls(Path(option).expanduser())
        if from_environment := os.environ.get(HOME_VARIABLE):
            return cls(Path(from_environment).expanduser())
        data = os.environ.get("XDG_DATA_HOME")
        return cls((Path(data) if data else Path("~/.local/share").expanduser()) / "kasoku")

    def make(self) -> "Home":
        """Create the folders that are missing (mode 0700: images and logs are the user's own)."""
        for folder in (self.path, self.images, self.layers, self.run, self.leases, self.logs, self.snapshots):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    @property
    def images(self) -> Path:
        """Image descriptions, `NAME.json`."""
        return self.path / "images"

    @property
    def layers(self) -> Path:
        """Content-addressed layers, `HEX.erofs`."""
        return self.path / "layers"

    @property
    def run(self) -> Path:
        """What describes running processes; meaningless after a restart."""
        return self.path / "run"

    @property
    def leases(self) -> Path:
        """One lock file per device: a broker holds its lock while it holds the device."""
        return self.run / "leases"

    @property
    def gateway_file(self) -> Path:
        """Where a running gateway writes its address, JSON `{"url": ..., "pid": ..., "token": ...}`. Mode 0600: the
        token opens the gateway for this user's own commands."""
        return self.run / "gateway.json"

    @property
    def blobs(self) -> Path:
        """Data that is too large for payloads, a folder for each tenant."""
        return self.path / "blobs"

    @property
    def snapshots(self) -> Path:
        """Functions at rest, one encrypted file each."""
        return self.path / "snapshots"

    @property
    def logs(self) -> Path:
        """One log file per function."""
        return self.path / "logs"

    @property
    def queue_db(self) -> Path:
        """SQLite file of asynchronous calls and schedules."""
        return self.path / "queue.db"

    @property
    def state_db(self) -> Path:
        """SQLite state of the platform."""
        return self.path / "state.db"
