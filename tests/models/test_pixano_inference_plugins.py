"""Plugins on the real base classes of pixano-inference, found through real entry points."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pixano_cli import rle
from pixano_cli.annotations import Category
from pixano_cli.errors import ModelError
from pixano_cli.models import (
    DetectionInput,
    DetectionModel,
    EmbeddingInput,
    InferenceModel,
    ModelDeploymentConfig,
    SegmentationInput,
    TrackingInput,
    VLMInput,
)
from pixano_cli.models.base import RGBImage, registered_models
from pixano_cli.models.plugins import discover_models

Offer = Callable[..., Path]

BRIGHT = '''
"""Models that see what is bright, for want of weights."""
import numpy as np
from pixano_inference.models import (
    DetectionInterface, DetectionModel, DetectionOutput, EmbeddingModel, EmbeddingOutput,
    SegmentationModel, SegmentationOutput, TrackedFrame, TrackedObject, TrackingModel,
    TrackingOutput, UsageInfo, VLMModel, VLMOutput, register_model,
)
from pixano_inference.schemas.nd_array import NDArrayFloat
from pixano_inference.schemas.rle import CompressedRLE
from pixano_inference.utils.media import convert_string_to_image


def pixels(image):
    assert isinstance(image, bytes), type(image)
    return np.asarray(convert_string_to_image(image))


def bright(image):
    return pixels(image).min(axis=2) > 200


@register_model("bright-box")
class BrightBox(DetectionModel):
    """Finds what is bright.

    And nothing else.
    """

    @property
    def interface(self):
        return DetectionInterface(
            classes="closed", class_names=["lamp", "moon"], outputs=["box", "score", "class"]
        )

    def load_model(self):
        self.label = self.config.model_params.get("label", "lamp")

    def predict(self, input):
        mask = bright(input.image)
        ys, xs = np.nonzero(mask)
        if input.classes is not None or not len(xs):
            return DetectionOutput(boxes=[], scores=[], classes=[])
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        return DetectionOutput(
            boxes=[box], scores=[0.75], classes=[self.label],
            masks=[CompressedRLE.from_mask(mask.astype(np.uint8))],
        )

    def predict_batch(self, inputs):
        self.batches = [*getattr(self, "batches", []), len(inputs)]
        return [self.predict(each) for each in inputs]

    @property
    def metadata(self):
        return {**super().metadata, "batches": getattr(self, "batches", [])}


@register_model("bright-mask")
class BrightMask(SegmentationModel):
    def load_model(self):
        self.now = self.most = 0

    def predict(self, input):
        import time
        assert input.reset_predictor
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.002)
        self.now -= 1
        masks = []
        for x1, y1, x2, y2 in input.boxes:
            mask = bright(input.image).astype(np.uint8)
            mask[:y1] = mask[y2:] = mask[:, :x1] = mask[:, x2:] = 0
            masks.append([CompressedRLE.from_mask(mask)])
        if input.image_embedding is None:
            embedding = np.full((1, 2), self.most)
        else:
            embedding = input.image_embedding.to_numpy() + 1
        return SegmentationOutput(
            masks=masks, scores=NDArrayFloat.from_numpy(np.full((len(masks), 1), 0.5)),
            image_embedding=NDArrayFloat.from_numpy(embedding),
            high_resolution_features=input.high_resolution_features,
        )


@register_model("bright-track")
class BrightTrack(TrackingModel):
    def load_model(self):
        pass

    def predict(self, input):
        frames = []
        for index, frame in enumerate(input.video):
            objects = []
            for track_id, start, key in zip(
                input.objects_ids, input.frame_indexes, input.keyframes, strict=True
            ):
                assert start == key.frame_index
                if index < start:
                    continue
                mask = bright(frame).astype(np.uint8)
                if key.box is None:
                    [point] = key.points
                    assert point.label == 1
                    mask[:, : point.x] = 0
                else:
                    mask[:, key.box.x + key.box.width :] = 0
                objects.append(TrackedObject(track_id=track_id, mask=CompressedRLE.from_mask(mask)))
            frames.append(TrackedFrame(frame_index=index, objects=objects))
        return TrackingOutput(frames=frames)


@register_model("box-track")
class BoxTrack(TrackingModel):
    def load_model(self):
        pass

    def predict(self, input):
        found = TrackedObject(track_id=1, box=[0, 0, 1, 1], score=1.0)
        return TrackingOutput(frames=[TrackedFrame(frame_index=0, objects=[found])])


@register_model("bright-words")
class BrightWords(VLMModel):
    def load_model(self):
        self.words = "none"

    def predict(self, input):
        sizes = [pixels(image).shape[:2] for image in input.images or []]
        return VLMOutput(
            generated_text=f"{input.prompt} {sizes}",
            usage=UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3),
            generation_config={
                "max_new_tokens": input.max_new_tokens,
                "temperature": input.temperature,
                "num_gpus": self.config.resources.num_gpus,
                "params": self.config.model_params,
            },
        )


@register_model("bright-vector")
class BrightVector(EmbeddingModel):
    def load_model(self):
        pass

    def predict(self, input):
        if input.text is not None:
            rows = [[len(input.text), 1.0]]
        else:
            images = input.image if isinstance(input.image, list) else [input.image]
            rows = [pixels(image).astype(np.float32).ravel() for image in images]
        vectors = np.stack([np.asarray(row) for row in rows])
        return EmbeddingOutput(
            embeddings=NDArrayFloat.from_numpy(vectors), dim=vectors.shape[1]
        )
'''
ENTRY_POINTS = "[pixano_inference.models]\nbright = bright_models\n"


def made(name: str, **model_params: Any) -> InferenceModel[Any, Any]:
    """Make and load a discovered model, as the local provider does."""
    model_class = registered_models()[name]
    assert model_class.capability_name is not None
    model = model_class(
        ModelDeploymentConfig(
            name=name,
            capability=model_class.capability_name,
            model_class=name,
            model_params=model_params,
        )
    )
    model.load_model()
    return model


@pytest.fixture
def bright(offer: Offer) -> None:
    offer("bright-plugins", {"bright_models": BRIGHT}, ENTRY_POINTS, version="2.1")
    assert [each for each in discover_models() if each.distribution == "bright-plugins"] == []


def night(*lamps: tuple[int, int, int, int], width: int = 40, height: int = 30) -> RGBImage:
    """A dark image with a white rectangle (x1, y1, x2, y2) for each lamp."""
    image = np.full((height, width, 3), 20, np.uint8)
    for x1, y1, x2, y2 in lamps:
        image[y1:y2, x1:x2] = 255
    return image


@pytest.mark.usefixtures("bright")
def test_detector_finds_the_rectangle() -> None:
    model = made("bright-box")
    assert isinstance(model, DetectionModel)
    answer = model.predict(DetectionInput(image=night((5, 8, 21, 19)), classes=[]))
    assert (answer.boxes, answer.scores, answer.classes) == ([[5, 8, 21, 19]], [0.75], ["lamp"])
    assert answer.masks is not None
    assert rle.decode(answer.masks[0])[8:19, 5:21].all()
    assert rle.area(answer.masks[0]) == 11 * 16
    assert model.predict(DetectionInput(image=night())).boxes == []


@pytest.mark.usefixtures("bright")
def test_batch_goes_to_a_plugin_that_has_a_pass_for_it() -> None:
    model = made("bright-box")
    batch = [DetectionInput(image=night((x, 0, x + 1, 1))) for x in (3, 9)]
    assert [each.boxes for each in model.predict_batch(batch)] == [[[3, 0, 4, 1]], [[9, 0, 10, 1]]]
    assert model.metadata["batches"] == [2]
    assert registered_models()["bright-words"].predict_batch is InferenceModel.predict_batch
    texts = [VLMInput(prompt="a", images=[]), VLMInput(prompt="b", images=[])]
    answers = made("bright-words").predict_batch(texts)
    assert [each.generated_text for each in answers] == ["a []", "b []"]


@pytest.mark.usefixtures("bright")
def test_card_is_known_where_the_class_set_is() -> None:
    card = registered_models()["bright-box"].card
    assert card is not None
    assert card.categories == (Category(1, "lamp"), Category(2, "moon"))
    assert card.origin == "bright-plugins 2.1"
    assert card.description == "Finds what is bright."
    assert registered_models()["bright-mask"].card is None
    assert registered_models()["bright-mask"].__name__ == "BrightMask"


@pytest.mark.usefixtures("bright")
def test_parameters_and_metadata_reach_and_leave_the_plugin() -> None:
    model = made("bright-box", label="moon")
    assert model.predict(DetectionInput(image=night((1, 1, 2, 2)))).classes == ["moon"]
    assert model.metadata == {
        "model_name": "bright-box",
        "capability": "detection",
        "model_class": "bright-box",
        "batches": [],
    }
    model.unload()
    model.unload()
    with pytest.raises(AttributeError):
        model.predict(DetectionInput(image=night()))


@pytest.mark.parametrize(
    ("device", "num_gpus"), [("cpu", 0.0), ("cuda", 1.0), ("cuda:1", 1.0), ("auto", 0.0)]
)
@pytest.mark.usefixtures("bright")
def test_device_becomes_a_resource(device: str, num_gpus: float) -> None:
    asked = VLMInput(prompt="?", images=[night()], max_new_tokens=7, temperature=0.5)
    answer = made("bright-words", device=device, path="x").predict(asked)
    assert answer.generated_text == "? [(30, 40)]"
    assert answer.usage.model_dump() == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }
    assert answer.generation_config == {
        "max_new_tokens": 7,
        "temperature": 0.5,
        "num_gpus": num_gpus,
        "params": {"path": "x"},
    }


@pytest.mark.usefixtures("bright")
def test_digest_follows_package_version_and_parameters() -> None:
    digests = {
        made("bright-box").digest,
        made("bright-box", label="moon").digest,
        made("bright-mask").digest,
    }
    assert len(digests) == 3
    assert made("bright-box", device="cuda").digest == made("bright-box").digest
    newer = type("Newer", (registered_models()["bright-box"],), {"origin": "bright-plugins 2.2"})
    assert newer(made("bright-box").config).digest not in digests


@pytest.mark.usefixtures("bright")
def test_segmenter_takes_rounded_prompts() -> None:
    lamps = night((2, 2, 10, 10), (20, 12, 30, 20))
    asked = SegmentationInput(image=lamps, boxes=[[0.4, 1.6, 12.2, 11], [18.5, 10, 35, 16.4]])
    answer = made("bright-mask").predict(asked)
    assert answer.scores.dtype == np.float32
    assert answer.scores.tolist() == [[0.5], [0.5]]
    found = [rle.bounding_box(mask) for [mask] in answer.masks]
    assert found == [(2, 2, 10, 10), (20, 12, 30, 16)]


@pytest.mark.usefixtures("bright")
def test_embedding_of_an_image_goes_back_and_forth() -> None:
    features = [np.arange(6, dtype=np.float32).reshape(1, 2, 3)]
    asked = SegmentationInput(
        image=night(),
        boxes=[[0, 0, 1, 1]],
        points=[[[1.2, 3.7]]],
        labels=[[1]],
        image_embedding=np.array([[1.5, -2.0]], np.float32),
        high_resolution_features=features,
    )
    answer = made("bright-mask").predict(asked)
    assert answer.image_embedding.tolist() == [[2.5, -1.0]]
    assert [each.tolist() for each in answer.high_resolution_features] == [features[0].tolist()]


@pytest.mark.usefixtures("bright")
def test_plugin_is_asked_one_call_at_a_time() -> None:
    model = made("bright-mask")
    asked = SegmentationInput(image=night(), boxes=[[0, 0, 9, 9]])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: model.predict(asked), range(24)))
    assert {answer.image_embedding.max() for answer in answers} == {1.0}


@pytest.mark.usefixtures("bright")
def test_tracker_follows_prompted_objects() -> None:
    video: list[Any] = [night((x, 5, x + 4, 9), (x + 12, 5, x + 16, 9)) for x in (2, 4, 6)]
    by_box = made("bright-track").predict(
        TrackingInput(
            video=video,
            objects_ids=[7, 9],
            frame_indexes=[0, 1],
            boxes=[[0.2, 0, 11.6, 20], [0, 0, 15, 20]],
        )
    )
    assert by_box.frame_indexes == [0, 1, 1, 2, 2]
    assert by_box.objects_ids == [7, 7, 9, 7, 9]
    assert [rle.bounding_box(mask)[0] for mask in by_box.masks] == [2, 4, 4, 6, 6]
    by_point = made("bright-track").predict(
        TrackingInput(
            video=video, objects_ids=[1], frame_indexes=[2], points=[[[12.0, 7.4]]], labels=[[1]]
        )
    )
    assert (by_point.objects_ids, by_point.frame_indexes) == ([1], [2])
    assert rle.bounding_box(by_point.masks[0]) == (18, 5, 22, 9)


@pytest.mark.usefixtures("bright")
def test_tracker_of_boxes_is_told() -> None:
    asked = TrackingInput(video=[night()], objects_ids=[], frame_indexes=[])
    with pytest.raises(ModelError, match=r"'box-track' of bright-plugins 2\.1 follows boxes"):
        made("box-track").predict(asked)


@pytest.mark.usefixtures("bright")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_pixels_reach_the_plugin_unchanged(image: RGBImage) -> None:
    answer = made("bright-vector").predict(EmbeddingInput(image=image))
    assert answer.embeddings.tolist() == [image.ravel().tolist()]
    assert answer.dim == image.size


@pytest.mark.usefixtures("bright")
def test_files_are_given_upright(tmp_path: Path) -> None:
    upright = night((3, 2, 8, 4), width=12, height=8)
    quarter_turn = Image.Exif()
    quarter_turn[274] = 6
    stored = tmp_path / "a b.png"
    Image.fromarray(np.rot90(upright)).save(stored, exif=quarter_turn)
    model = made("bright-vector")
    answer = model.predict(EmbeddingInput(image=[stored, str(stored), stored.as_uri(), upright]))
    assert answer.embeddings.shape == (4, upright.size)
    assert (answer.embeddings == upright.ravel()).all()
    assert model.predict(EmbeddingInput(text="abc")).embeddings.tolist() == [[3.0, 1.0]]


def test_class_without_decorator_has_its_own_name(offer: Offer) -> None:
    source = BRIGHT.replace('@register_model("bright-box")', "")
    points = "[pixano_inference.models]\nbox = bright_models:BrightBox\n"
    offer("bare", {"bright_models": source}, points)
    assert "bare" not in {each.distribution for each in discover_models()}
    assert "BrightBox" in registered_models()


def test_plugins_that_fail_are_told_and_others_work(offer: Offer) -> None:
    taken = "@register_model('bright-box')\nclass Twin(DetectionModel): pass\n"
    words = (
        "from pixano_inference.models import *\nfrom pixano_inference.models import NERModel\n"
        "@register_model('names')\nclass Names(NERModel): pass\n"
    )
    modules = {
        "bright_models": BRIGHT,
        "torch_models": "from pixano_inference.models import *\nimport no_such_torch\n",
        "twin_models": "from pixano_inference.models import *\n" + taken,
        "word_models": words,
    }
    points = [f"{name} = {name}" for name in modules]
    offer("mixed", modules, "\n".join(["[pixano_inference.models]", *points]))
    failures = {each.name: each.error for each in discover_models() if each.distribution == "mixed"}
    assert failures == {
        "torch_models": "ModuleNotFoundError: No module named 'no_such_torch'",
        "twin_models": "ValueError: Model class 'bright-box' already registered.",
        "word_models": "word_models has no model for images (models registered there: names)",
    }
    assert registered_models()["bright-box"].__name__ == "BrightBox"


def test_own_model_keeps_its_name(offer: Offer) -> None:
    own = (
        "from pixano_cli.models import DetectionModel, register_model\n"
        "@register_model('bright-mask')\nclass Own(DetectionModel): pass\n"
    )
    offer("own", {"own_models": own}, "[pixano_cli.models]\nown = own_models\n")
    offer("bright", {"bright_models": BRIGHT}, ENTRY_POINTS)
    [failure] = [each for each in discover_models() if each.distribution == "bright"]
    assert failure.error == "ValueError: model 'bright-mask' is already registered by own_models"
    assert registered_models()["bright-mask"].__name__ == "Own"
    assert "bright-box" not in registered_models()


def test_plugin_that_cannot_load_is_told(offer: Offer) -> None:
    source = BRIGHT.replace(
        'self.words = "none"', 'raise OSError("no file\\n  " + self.config.model_params["path"])'
    )
    offer("bright", {"bright_models": source}, ENTRY_POINTS)
    discover_models()
    expected = r"model 'bright-words' of bright 1\.0 cannot be loaded: OSError: no file x\.pt$"
    with pytest.raises(ModelError, match=expected):
        made("bright-words", path="x.pt")
    with pytest.raises(ModelError, match="KeyError: 'path'"):
        made("bright-words")


DISCOVER = """
import json, sys
{before}
from pixano_cli.models.base import registered_models
from pixano_cli.models.plugins import discover_models
failures = [each.error for each in discover_models() if each.name == "bright"]
print(json.dumps([failures, "bright-box" in registered_models()]))
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", [[], True]),
        (
            "sys.modules['pixano_inference'] = None",
            [
                [
                    "it is written for Pixano Inference, which is not installed: "
                    "pip install 'pixano-inference>=0.7'"
                ],
                False,
            ],
        ),
    ],
    ids=["installed", "not installed"],
)
def test_fresh_process(offer: Offer, before: str, expected: list[Any]) -> None:
    folder = offer("bright", {"bright_models": BRIGHT}, ENTRY_POINTS)
    done = subprocess.run(
        [sys.executable, "-c", DISCOVER.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(done.stdout) == expected
