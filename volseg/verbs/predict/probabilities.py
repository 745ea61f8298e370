"""Which probabilities are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.bundle.outputs import Outputs
from volseg.errors import UsageError
from volseg.labels import BACKGROUND, Label
from volseg.options import words_of
from volseg.postprocessing import ALL
from volseg.words import listed
from volseg.writers import ProbabilityWriter

if TYPE_CHECKING:
    from volseg.verbs.predict.model import Model
    from volseg.verbs.predict.options import PredictOptions

BACKGROUNDS = ("0", "background")
"""How a person names what no label is."""


def probability_writer(model: Model, options: PredictOptions) -> ProbabilityWriter | None:
    """What writes the probabilities that are asked for; None where none are.

    Raises:
        UsageError: the bundle tells none, or not of such labels.
    """
    words = words_of(options.probabilities)
    if not words and not options.dicom_fractional and not model.thresholds:
        return None
    if model.step_by_step:
        raise UsageError(
            f"{model.step_by_step} So the probabilities of its labels are not known. Leave thresholds, --probabilities and "
            "--dicom-fractional out.",
            code="no-probabilities",
        )
    if not words and not options.dicom_fractional:
        return None
    if options.regions:
        if words and words != (ALL,):
            raise UsageError("With --regions each region's probabilities are written: --probabilities all.")
        return ProbabilityWriter() if words else None
    if model.meaning.outputs is Outputs.REGIONS:
        raise UsageError(
            "The bundle's outputs are regions that may overlap, so the labels of a merged mask have no probabilities. Add "
            "--regions, which writes those of each region.",
            code="needs-regions",
        )
    if not model.table:
        raise UsageError(f"No label has probabilities of its own: {model.meaning.why}.", code="no-label")
    if not words:
        return None
    background = Label(BACKGROUND, "background")
    chosen = set(model.table.indices)
    if words != (ALL,):
        chosen = {BACKGROUND for word in words if word.casefold() in BACKGROUNDS}
        chosen |= {*model.table.find(word for word in words if word.casefold() not in BACKGROUNDS)}
    beyond = chosen.difference(model.table.indices, (BACKGROUND,))
    if beyond:
        known = listed([model.table.told(index) for index in model.table.indices])
        raise UsageError(
            f"--probabilities names {min(beyond)}, which no label has. There are {known}.", code="no-label"
        )
    return ProbabilityWriter.of(label for label in (background, *model.table.labels) if label.index in chosen)
