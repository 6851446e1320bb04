"""SAM 2.1 through torch and the package sam2 (the extra `sam2`), for videos and for images.

`checkpoints` says which weights a model has, `networks` makes the network of them. Importing the
modules that register models imports neither torch nor sam2.
"""
