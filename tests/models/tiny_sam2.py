"""A SAM 2 network that is small enough for tests: sam2's own classes, few and random weights.

Random weights as torch makes them hardly let one frame's memory reach the next frame's mask. Here
they are made so that it does: any memory that is left out, or is taken from another frame, changes
masks, which are neither empty nor full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixano_cli import rle
from pixano_cli.models.base import ModelDeploymentConfig, RGBImage
from pixano_cli.models.sam2.video import Sam2VideoTiny
from pixano_cli.models.tracking import ObjectPrompt

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
SIDE = 128
OVERRIDES = [
    f"model.image_size={SIDE}",
    "model.image_encoder.trunk.embed_dim=16",
    "model.image_encoder.trunk.stages=[1,1,2,1]",
    "model.image_encoder.trunk.global_att_blocks=[3]",
    "model.image_encoder.neck.d_model=64",
    "model.image_encoder.neck.position_encoding.num_pos_feats=64",
    "model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    "model.memory_attention.d_model=64",
    "model.memory_attention.num_layers=2",
    "model.memory_attention.layer.d_model=64",
    "model.memory_attention.layer.dim_feedforward=128",
    "model.memory_attention.layer.self_attention.embedding_dim=64",
    "model.memory_attention.layer.cross_attention.embedding_dim=64",
    "model.memory_attention.layer.cross_attention.kv_in_dim=16",
    "model.memory_encoder.out_dim=16",
    "model.memory_encoder.in_dim=64",
    "model.memory_encoder.position_encoding.num_pos_feats=16",
    "model.memory_encoder.mask_downsampler.embed_dim=64",
    "model.memory_encoder.fuser.layer.dim=64",
]


def official(overrides: Sequence[str] = (), *, certainty: float = 1.0) -> Any:
    """Return sam2's own predictor with random weights, the same ones each time.

    The logits of an object's being there lie around `certainty`, within about 0.3.
    """
    from sam2.build_sam import build_sam2_video_predictor

    torch.manual_seed(1)
    predictor = build_sam2_video_predictor(
        CONFIG,
        None,
        "cpu",
        hydra_overrides_extra=[f"++{each}" for each in (*OVERRIDES, *overrides)],
    )
    _strengthen(predictor, certainty)
    return _without_failure(predictor)


def _strengthen(predictor: Any, certainty: float) -> None:
    generator = torch.Generator().manual_seed(2)
    parts = ("memory_attention", "memory_encoder", "obj_ptr", "sam_mask_decoder")
    with torch.no_grad():
        for name, weight in predictor.named_parameters():
            if name.startswith(parts):
                if weight.ndim > 1:
                    weight.mul_(2.0)
                elif name.endswith("gamma"):
                    weight.fill_(0.3)
            if name in ("maskmem_tpos_enc", "no_obj_ptr", "no_obj_embed_spatial"):
                weight.copy_(torch.randn(weight.shape, generator=generator))
        if predictor.pred_obj_scores:
            predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(certainty)


def _without_failure(predictor: Any) -> Any:
    """Let memory of bfloat16 alone meet weights of float32, as it would under autocast.

    sam2 1.1 itself fails on a CPU in a frame before an object's first prompt: the memory of the
    prompted frame ahead is bfloat16, and no pointer is there to raise it to float32.
    """
    forward = predictor.memory_attention.forward

    def attend(*, memory: torch.Tensor, **others: Any) -> torch.Tensor:
        attended: torch.Tensor = forward(memory=memory.float(), **others)
        return attended

    predictor.memory_attention.forward = attend
    return predictor


def save_weights(predictor: Any, path: Path) -> Path:
    """Write the predictor's weights, as .pt or .safetensors."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({name: each.clone() for name, each in predictor.state_dict().items()}, path)
    else:
        torch.save({"model": predictor.state_dict()}, path)
    return path


def tracker(weights: Path, overrides: Sequence[str] = (), **parameters: Any) -> Sam2VideoTiny:
    """Return our model with these weights, loaded."""
    model = Sam2VideoTiny(
        ModelDeploymentConfig(
            name="tiny",
            capability="tracking",
            model_class="sam2.1-tiny",
            model_params={
                "checkpoint": str(weights),
                "overrides": [*OVERRIDES, *overrides],
                **parameters,
            },
        )
    )
    model.load_model()
    return model


def clip(count: int, width: int, height: int, seed: int = 0) -> list[RGBImage]:
    """Return frames in which two blocks move over a background that moves a little."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    ground = np.asarray(coarse.resize((width + 2 * count, height)))
    frames = []
    for index in range(count):
        frame = ground[:, 2 * index : 2 * index + width].copy()
        x, y = (5 + 3 * index) % width, (4 + index) % height
        frame[y : y + height // 3, x : x + width // 4] = (230, 40, 30)
        x = (width - 10 - 4 * index) % width
        frame[height // 2 : height // 2 + height // 4, x : x + width // 5] = (20, 220, 60)
        frames.append(frame)
    return frames


def save_frames(frames: Sequence[RGBImage], folder: Path) -> list[RGBImage]:
    """Write frames as the folder of JPEG files that sam2 reads; return what they decode to."""
    decoded = []
    for index, frame in enumerate(frames):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(frame).save(path, quality=95)
        with Image.open(path) as image:
            decoded.append(np.asarray(image.convert("RGB")))
    return decoded


def prompt_official(
    predictor: Any, state: Any, frame: int, prompt: ObjectPrompt
) -> dict[int, NDArray[np.bool_]]:
    """Give sam2's own predictor a prompt of ours; return the masks of the frame by object."""
    if prompt.mask is not None:
        _, objects, logits = predictor.add_new_mask(
            state, frame, prompt.object_id, rle.decode(prompt.mask)
        )
    else:
        _, objects, logits = predictor.add_new_points_or_box(
            state,
            frame,
            prompt.object_id,
            points=np.array(prompt.points, np.float32) if prompt.points else None,
            labels=np.array(prompt.labels, np.int32) if prompt.points else None,
            box=None if prompt.box is None else np.array(prompt.box, np.float32),
            clear_old_points=prompt.box is not None,
        )
    return {each: (logits[index, 0] > 0).numpy() for index, each in enumerate(objects)}


def follow_official(
    predictor: Any, state: Any, **options: Any
) -> Iterator[tuple[int, dict[int, NDArray[np.bool_]]]]:
    """Propagate with sam2's own predictor; give the masks of each frame by object."""
    for frame, objects, logits in predictor.propagate_in_video(state, **options):
        yield frame, {each: (logits[index, 0] > 0).numpy() for index, each in enumerate(objects)}
