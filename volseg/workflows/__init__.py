"""What composes verbs."""
