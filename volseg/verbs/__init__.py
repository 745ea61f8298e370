"""The verbs: one module each, which never imports another."""
