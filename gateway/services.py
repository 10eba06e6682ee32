"""What the routes work with: the owners of things, wired together in `app.py`."""

from pathlib import Path
from typing import NamedTuple

from baker.jobs.queue import Jobs
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.versions.archive import Archives
from gateway.access.accounts import Accounts
from gateway.access.auth import Keys
from gateway.access.signed_links import Links
from gateway.config import Settings
from gateway.engine import Engine, Handlers
from gateway.engine.core.supervisor import Supervisor
from gateway.inference.pipeline import Traffic
from gateway.serving.imports import Imports
from gateway.serving.promotion import Promotion
from gateway.serving.registry import Registry


class Services(NamedTuple):
    settings: Settings
    home: Path
    keys: Keys
    accounts: Accounts
    catalog: OneThread[Catalog]
    jobs: Jobs
    adapters: Registry
    imports: Imports
    promotion: Promotion
    archives: Archives
    links: Links
    engine: Engine
    supervisor: Supervisor
    handlers: Handlers
    traffic: Traffic
    started: int
    """Unix seconds."""
