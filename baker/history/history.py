"""The tables of the history, over the same open file as the store: one transaction may write to both."""

from baker.history.commit_table import CommitTable
from baker.history.comparison_table import ComparisonTable
from baker.history.operation_table import OperationTable
from baker.history.probe_table import ProbeTable
from baker.history.recorder import Recorder
from baker.history.ref_table import RefTable
from baker.history.remote_table import RemoteTable
from baker.storage.rows import Rows


class History:
    def __init__(self, rows: Rows) -> None:
        self.commits = CommitTable(rows)
        self.refs = RefTable(rows)
        self.operations = OperationTable(rows)
        self.probes = ProbeTable(rows)
        self.comparisons = ComparisonTable(rows)
        self.remotes = RemoteTable(rows)
        self.log = Recorder(self.operations)
