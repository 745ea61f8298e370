"""Series that common readers get wrong, each made from a few lines, with what must become of it.

``TRAPS`` holds them all. ``trap.write(folder)`` writes its files and gives the truth: where each pixel lies in the
patient and which value it stands for.
"""

from tests.dicom_traps.stack import Form, Slice, Stack, Truth, save, write_slices, write_stack
from tests.dicom_traps.trap import Action, Trap

__all__ = ["Action", "Form", "Slice", "Stack", "Trap", "Truth", "save", "write_slices", "write_stack"]
