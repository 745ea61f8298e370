"""DICOM files: finding them, unpacking archives, parsing headers and nested sequences within bounds."""
