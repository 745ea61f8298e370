"""Convert a folder of DICOM to NIfTI images, with a sidecar each, a ``dataset.json`` and a ledger."""

from volseg.dataset.pairing import CONVERSION_JSON as LEDGER_FILE
from volseg.verbs.convert.folder import convert
from volseg.verbs.convert.options import DEFAULTS, NATIVE, ConvertOptions
from volseg.verbs.convert.preview import PreviewRow, preview

__all__ = ["DEFAULTS", "LEDGER_FILE", "NATIVE", "ConvertOptions", "PreviewRow", "convert", "preview"]
