"""Cases as deterministic transforms leave them: kept in memory and on disk, and read by the patch."""

from volseg.training.prepared.dataset import PreparedDataset
from volseg.training.prepared.store import Store, current_store, memory_for_data, opened

__all__ = ["PreparedDataset", "Store", "current_store", "memory_for_data", "opened"]
