"""The Python API: each verb as a function of paths, volumes and keyword options."""
