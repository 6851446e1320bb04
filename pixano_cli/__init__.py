"""pixano-annotate: batch pre-annotation of images from the command line and from Python."""

__version__ = "0.1.0"
