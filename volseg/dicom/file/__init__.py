"""One DICOM file: found, unpacked, its header and nested items read within bounds."""
