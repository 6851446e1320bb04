"""Models for the tests, offered to the tool by a real entry point of a distribution on the path.

Each call of a network leaves a line in a log before it runs. Lines of one write with O_APPEND never
mix, whatever the number of processes. `COUNTING_DELAY` makes each call take so many seconds more:
what a test does amid a run is amid it on any machine then.
"""

import hashlib
import os
import time

import numpy as np

from pixano_cli import rle
from pixano_cli.models.base import register_model
from pixano_cli.models.detection import DetectionModel, DetectionOutput
from pixano_cli.models.embedding import EmbeddingModel, EmbeddingOutput
from pixano_cli.models.mobile_sam import MobileSam
from pixano_cli.models.picodet import PicoDet
from pixano_cli.models.pplcnet import PPLCNetV2
from pixano_cli.models.tracking import TrackingModel, TrackingOutput


def note(kind, content):
    line = f"{os.getpid()} {kind} {hashlib.sha256(content).hexdigest()}\n".encode()
    log = os.open(os.environ["COUNTING_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line)
    os.close(log)


def wait():
    time.sleep(float(os.environ.get("COUNTING_DELAY", "0")))


@register_model("counting-detector")
class CountingDetector(PicoDet):
    def predict(self, input):  # noqa: A002
        note("detect", input.image.tobytes())
        wait()
        return super().predict(input)


@register_model("counting-detector-2")
class SecondCountingDetector(CountingDetector):
    pass


class Noted:
    def __init__(self, session, kind, name):
        self.session, self.kind, self.name = session, kind, name

    def run(self, outputs, inputs):
        note(self.kind, inputs[self.name].tobytes())
        wait()
        return self.session.run(outputs, inputs)


@register_model("hostile-detector")
class HostileDetector(DetectionModel):
    """Answers by the width of the image, which the tests choose."""

    def load_model(self):
        pass

    def predict(self, input):  # noqa: A002
        note("detect", input.image.tobytes())
        box, score, label = [1.0, 2.0, 30.0, 40.0], 0.9, "thing"
        match input.image.shape[1] - 100:
            case 1:
                raise RuntimeError("out of luck\nand \udce9ncoding")
            case 2:
                raise SystemExit(5)
            case 3:
                box = [float("nan"), 0, 1, 1]
            case 4:
                score = 1.5
            case 5:
                label = "caf\udce9"
            case 6:
                return DetectionOutput(boxes=[box], scores=[], classes=[])
            case 7:
                return None
            case 8:
                label = ""
            case 9:
                score = float("nan")
            case 10:
                box = [1.0, 2.0, 30.0]
            case 11:
                raise MemoryError
            case 12:
                label = "x" * 1_000_000
            case 13:
                box = list(np.array(box, np.float64))
                score = np.float64(score)
                label = np.str_(label)
            case 14:
                box = [-1e300, -1e300, 1e300, 1e300]
            case 15:
                box = [500.0, 500.0, 600.0, 600.0]
            case 16:
                box = [30.0, 40.0, 1.0, 2.0]
        return DetectionOutput(boxes=[box], scores=[score], classes=[label])


@register_model("counting-segmenter")
class CountingSegmenter(MobileSam):
    def load_model(self):
        super().load_model()
        self._encoder = Noted(self._encoder, "encode", "image")
        self._decoder = Noted(self._decoder, "decode", "image_embeddings")


@register_model("counting-embedder")
class CountingEmbedder(PPLCNetV2):
    def predict(self, input):  # noqa: A002
        note("embed", input.image.tobytes())
        return super().predict(input)


@register_model("hostile-embedder")
class HostileEmbedder(EmbeddingModel):
    """Answers by the width of the image, which the tests choose; nobody knows its size before."""

    def load_model(self):
        pass

    def predict(self, input):  # noqa: A002
        note("embed", input.image.tobytes())
        vector = np.array([[0.5, 1.5, 2.5]], np.float32)
        match input.image.shape[1] - 100:
            case 1:
                raise RuntimeError("out of luck\nand \udce9ncoding")
            case 2:
                vector[0, 1] = np.nan
            case 3:
                vector = vector[:, :2]
            case 4:
                return None
            case 5:
                vector = vector.repeat(2, axis=0)
            case 6:
                vector = vector.astype(np.float64) * 1e300
        return EmbeddingOutput(embeddings=vector, dim=vector.shape[1])


@register_model("counting-tracker")
class CountingTracker(TrackingModel):
    """Follows what has about the colour in the middle of the box; takes whole clips."""

    def load_model(self):
        pass

    def predict(self, input):  # noqa: A002
        for frame in input.video:
            note("track", frame.tobytes())
        wait()
        found = []
        for number, first, box in zip(
            input.objects_ids, input.frame_indexes, input.boxes, strict=True
        ):
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            colour = input.video[first][y, x].astype(int)
            for index, frame in enumerate(input.video[first:], start=first):
                mask = np.abs(frame.astype(int) - colour).max(axis=-1) < 60
                found.append((number, index, rle.encode(mask)))
        return TrackingOutput(
            objects_ids=[number for number, _, _ in found],
            frame_indexes=[index for _, index, _ in found],
            masks=[mask for _, _, mask in found],
        )
