"""Which series a person wants, as channels of which case, and what the cases are called."""
