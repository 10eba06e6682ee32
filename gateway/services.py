"""The objects that routes work with; `app.py` wires them together."""

from pathlib import Path
from typing import NamedTuple

from baker.comparison.comparisons import Comparisons
from baker.jobs.queue import Jobs
from baker.merging.merger import Merger
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.transfer.uploads import Uploads
from baker.versions.archive import Archives
from gateway.access.accounts import Accounts
from gateway.access.auth import Keys
from gateway.access.signed_links import Links
from gateway.config import Settings
from gateway.engine import Engine
from gateway.engine.core.supervisor import Supervisor
from gateway.inference.pipeline import Pipeline
from gateway.serving.imports import Imports
from gateway.serving.promotion import Promotion
from gateway.serving.receiving import Receiving
from gateway.serving.recycle_bin import RecycleBin
from gateway.serving.registry import Registry
from gateway.serving.undo import Undo


class Services(NamedTuple):
    settings: Settings
    home: Path
    keys: Keys
    accounts: Accounts
    catalog: OneThread[Catalog]
    jobs: Jobs
    registry: Registry
    imports: Imports
    uploads: Uploads
    receiving: Receiving
    promotion: Promotion
    undo: Undo
    bin: RecycleBin
    archives: Archives
    comparisons: Comparisons
    merger: Merger
    links: Links
    engine: Engine
    supervisor: Supervisor
    pipeline: Pipeline
    started: int
    """Start of the service in Unix seconds."""
