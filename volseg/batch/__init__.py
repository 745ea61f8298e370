"""Work over a cohort: one outcome for each case, and one bad case never costs the others.

``run_cases`` maps a function over cases on an ``Executor``: in this thread, in several threads, in fresh processes. An
executor for a cluster is one more class with a ``run`` method.
"""

from volseg.batch.executors import SERIAL, Executor, Processes, Serial, Threads
from volseg.batch.pipeline import run_overlapping
from volseg.batch.run import advance_case, run_cases
from volseg.batch.workers import available_cores, choose_executor, voxel_bytes

__all__ = [
    "SERIAL",
    "Executor",
    "Processes",
    "Serial",
    "Threads",
    "advance_case",
    "available_cores",
    "choose_executor",
    "run_cases",
    "run_overlapping",
    "voxel_bytes",
]
