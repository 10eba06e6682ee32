"""What the routes work with: the owners of things, wired together in `app.py`."""

from pathlib import Path
from typing import NamedTuple

from baker.catalog import Catalog
from baker.jobs import Jobs
from baker.threads import OneThread
from gateway.adapters import Adapters
from gateway.auth import Keys
from gateway.config import Settings
from gateway.engine import Engine, Handlers


class Services(NamedTuple):
    settings: Settings
    home: Path
    keys: Keys
    catalog: OneThread[Catalog]
    jobs: Jobs
    adapters: Adapters
    engine: Engine
    handlers: Handlers
    started: int
    """Unix seconds."""
