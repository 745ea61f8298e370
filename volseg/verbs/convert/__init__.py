"""Convert a folder of DICOM to NIfTI images, with a sidecar each, a ``dataset.json`` and a ledger."""

from volseg.verbs.convert.folder import convert
from volseg.verbs.convert.options import DEFAULTS, NATIVE, ConvertOptions
from volseg.verbs.convert.preview import PreviewRow, preview
from volseg.verbs.convert.record import LEDGER_FILE

__all__ = ["DEFAULTS", "LEDGER_FILE", "NATIVE", "ConvertOptions", "PreviewRow", "convert", "preview"]
