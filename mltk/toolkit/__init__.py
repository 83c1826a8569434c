"""The toolkit: what is around a learner, to choose it, to foresee and to watch it, and to recover."""

from mltk.toolkit.acceptance import AcceptanceRule
from mltk.toolkit.allocation import Allocation, AllocationPolicy
from mltk.toolkit.answer import Answer
from mltk.toolkit.change_detection import ChangeDetector, Cusum, EDetector
from mltk.toolkit.continual import OnlineMetaLearner, OnlineState
from mltk.toolkit.decisions import Decisions
from mltk.toolkit.event_file import TensorBoard
from mltk.toolkit.evidence import Evidence, gather, known
from mltk.toolkit.facade import MetaLearningToolkit
from mltk.toolkit.failure import FailurePredictor, FittedFailurePredictor
from mltk.toolkit.foresight import Foresight
from mltk.toolkit.gap import Gap, gap
from mltk.toolkit.health import Alert
from mltk.toolkit.levels import Scaling, scaling
from mltk.toolkit.mlflow_run import MLflow
from mltk.toolkit.monitor import Monitor
from mltk.toolkit.monitor_file import read_monitor
from mltk.toolkit.passes import TestTimeAnswer
from mltk.toolkit.recalled import Recalled
from mltk.toolkit.records import Records
from mltk.toolkit.recovery import RecoveredRun, Recovery
from mltk.toolkit.recovery_log import RecoveryWarning
from mltk.toolkit.replay import FixedTasks, Replay, recorded_tasks
from mltk.toolkit.report import dashboard, report
from mltk.toolkit.reuse import Reused, reuse
from mltk.toolkit.row import Row
from mltk.toolkit.selection import AlgorithmSelector, FittedSelector
from mltk.toolkit.test_time import ScaledLearner, TestTimeScaler
from mltk.toolkit.transfer import KnowledgeTransfer
from mltk.toolkit.transfer_matrix import TransferMatrix, transfer_matrix

__all__ = [
    "AcceptanceRule",
    "Alert",
    "AlgorithmSelector",
    "Allocation",
    "AllocationPolicy",
    "Answer",
    "ChangeDetector",
    "Cusum",
    "Decisions",
    "EDetector",
    "Evidence",
    "FailurePredictor",
    "FittedFailurePredictor",
    "FittedSelector",
    "FixedTasks",
    "Foresight",
    "Gap",
    "KnowledgeTransfer",
    "MLflow",
    "MetaLearningToolkit",
    "Monitor",
    "OnlineMetaLearner",
    "OnlineState",
    "Recalled",
    "Records",
    "RecoveredRun",
    "Recovery",
    "RecoveryWarning",
    "Replay",
    "Reused",
    "Row",
    "ScaledLearner",
    "Scaling",
    "TensorBoard",
    "TestTimeAnswer",
    "TestTimeScaler",
    "TransferMatrix",
    "dashboard",
    "gap",
    "gather",
    "known",
    "read_monitor",
    "recorded_tasks",
    "report",
    "reuse",
    "scaling",
    "transfer_matrix",
]
