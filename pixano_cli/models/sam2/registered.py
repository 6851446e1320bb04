"""The names of SAM 2.1's models, each of which stands for a segmenter of images and a tracker."""

from pixano_cli.models.sam2 import image, video

__all__ = ["image", "video"]
