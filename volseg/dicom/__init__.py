"""DICOM: find, classify, group, order, verify, decode."""
