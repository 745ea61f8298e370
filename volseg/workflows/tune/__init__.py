"""``volseg tune``: a search for settings that train better than a bundle's plan."""

from volseg.workflows.tune.options import Tuned, TuneOptions, TuneTrial

__all__ = ["TuneOptions", "TuneTrial", "Tuned"]
