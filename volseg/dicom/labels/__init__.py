"""Label objects: segmentations and structure sets, read and matched with the series that they were drawn on."""
