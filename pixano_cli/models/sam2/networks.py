"""Making SAM 2's network from a checkpoint, on a device.

The network is sam2's own `SAM2VideoPredictor`, with the settings that its
`build_sam2_video_predictor` applies. Hydra's global configuration is not used: its `compose` is
replaced by OmegaConf alone, so that whatever else uses Hydra in the process is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_cli.errors import ModelError, UsageError
from pixano_cli.models.sam2.checkpoints import INSTALL, Checkpoint
from pixano_cli.models.sam2.shared_work import FirstAttention, keep_encodings

if TYPE_CHECKING:
    import torch

_PREDICTOR = "sam2.sam2_video_predictor.SAM2VideoPredictor"
# What build_sam2_video_predictor(apply_postprocessing=True) sets, unless it is overridden.
_POSTPROCESSING = (
    "model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=true",
    "model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta=0.05",
    "model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=0.98",
    "model.binarize_mask_from_pts_for_mem_enc=true",
    "model.fill_hole_area=8",
)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Network:
    """A network of SAM 2 that is ready to be asked.

    Attributes:
        model: sam2's `SAM2VideoPredictor`, in evaluation mode; it is a `SAM2Base` too.
        device: Where it is.
        first_attention: What its objects in one frame share.
    """

    model: Any
    device: torch.device
    first_attention: FirstAttention

    @contextmanager
    def running(self) -> Iterator[None]:
        """Compute without gradients, and on CUDA in bfloat16, as the official scripts do.

        Raises:
            ModelError: If the GPU's memory is not enough.
        """
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.device.type == "cuda":
                stack.enter_context(torch.autocast("cuda", dtype=torch.bfloat16))
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"SAM 2 runs out of memory on {self.device}: use a smaller model, or fewer "
                    f"objects at once ({_one_line(error)})"
                ) from error


def load_network(checkpoint: Checkpoint, device: str = "cpu", *, compiled: bool = False) -> Network:
    """Make the network and fill in its weights.

    Args:
        checkpoint: Weights and configuration.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the first of CUDA, MPS and CPU
            that is there.
        compiled: Whether to compile the image encoder: minutes at the first image, and for image
            encoders that torch can compile only.

    Raises:
        UsageError: If `device` is none of these.
        ModelError: If a package is missing, the device is not there, or the weights or the
            configuration cannot be used.
    """
    _check_packages(checkpoint)
    where = _device(device)
    weights_file = checkpoint.weights_file()
    model = _instantiate(checkpoint)
    _fill(model, _read(weights_file), checkpoint, weights_file)
    model = model.to(where).eval()
    model.requires_grad_(False)
    if compiled:
        import torch

        model.image_encoder.forward = torch.compile(
            model.image_encoder.forward, mode="max-autotune", fullgraph=True, dynamic=False
        )
    elif where.type == "cpu":
        from pixano_cli.models.sam2.onednn import share_with_onednn

        share_with_onednn(model)
    network = Network(model, where, FirstAttention(model))
    with network.running():
        keep_encodings(model)
    return network


def _check_packages(checkpoint: Checkpoint) -> None:
    for package in ("torch", "sam2", "omegaconf", "safetensors"):
        try:
            import_module(package)
        except ImportError as error:
            raise ModelError(
                f"{checkpoint.published.name} needs the package {package}, which cannot be "
                f"imported ({_one_line(error)}): {INSTALL}"
            ) from error


def _device(name: str) -> torch.device:
    import torch

    if not re.fullmatch(r"cpu|auto|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown device {name!r}: use cpu, cuda, cuda:N, mps or auto")
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if name == "mps" and not has_mps:
        raise ModelError("device mps was asked for, but this is no Mac that has it: use cpu")
    if name.startswith("cuda"):
        number = int(name.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ModelError(
                f"device {name} was asked for, but torch {torch.__version__} finds "
                f"{torch.cuda.device_count()} CUDA devices: check the driver, or use --device cpu"
            )
        return torch.device("cuda", number)
    return torch.device(name)


def _instantiate(checkpoint: Checkpoint) -> Any:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    name = checkpoint.config or checkpoint.published.config
    text = checkpoint.config_text()
    try:
        config = OmegaConf.merge(
            OmegaConf.create(text),
            OmegaConf.from_dotlist([*_POSTPROCESSING, *checkpoint.overrides]),
        )
        settings = OmegaConf.to_container(config, resolve=True)
    except Exception as error:  # of YAML and of OmegaConf, which have no common base
        raise ModelError(f"configuration {name} cannot be read: {_one_line(error)}") from error
    holds_one = isinstance(settings, dict) and "defaults" not in settings
    network: Any = settings.get("model") if isinstance(settings, dict) and holds_one else None
    if not isinstance(network, dict):
        raise ModelError(
            f"configuration {name} is not one of a SAM 2 network: it must hold a `model`, and "
            "no `defaults`"
        )
    if network.get("clear_non_cond_mem_around_input"):
        raise ModelError(
            f"configuration {name} sets clear_non_cond_mem_around_input, which sam2 1.1 itself "
            "cannot do: set it to false"
        )
    # Weights come from the checkpoint alone, and compiling is asked for when loading.
    _check_targets({**network, "_target_": _PREDICTOR}, name)
    network = _without(network, {"weights_path"})
    network.update(_target_=_PREDICTOR, compile_image_encoder=False)
    try:
        return instantiate(network, _recursive_=True)
    except Exception as error:  # whatever sam2's classes raise for arguments they do not take
        raise ModelError(
            f"configuration {name} makes no network of sam2: {_one_line(error)}"
        ) from error


def _check_targets(settings: Any, name: str) -> None:
    """Refuse a configuration that would call anything but classes of sam2's and torch's layers."""
    if isinstance(settings, Mapping):
        target = settings.get("_target_")
        if target is not None and not _is_layer(target):
            raise ModelError(
                f"configuration {name} asks for {str(target)!r}: only classes of sam2 and of "
                "torch.nn can be used"
            )
        for value in settings.values():
            _check_targets(value, name)
    elif isinstance(settings, list):
        for value in settings:
            _check_targets(value, name)


def _is_layer(target: object) -> bool:
    module_name, _, class_name = str(target).rpartition(".")
    if not re.match(r"(sam2|torch\.nn)(\.|$)", module_name):
        return False
    try:
        named = getattr(import_module(module_name), class_name, None)
    except ImportError:
        return False
    return isinstance(named, type) and re.match(r"(sam2|torch\.nn)\.", named.__module__) is not None


def _without(settings: Any, keys: set[str]) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value, keys) for key, value in settings.items() if key not in keys}
    if isinstance(settings, list):
        return [_without(value, keys) for value in settings]
    return settings


def _read(file: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file, device="cpu")
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of the disk, of safetensors, of zip and of the unpickler
        raise ModelError(
            f"checkpoint {file} cannot be read as weights (damaged, or it holds more than "
            f"weights): {_one_line(error)}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise ModelError(f"checkpoint {file} holds no weights by name")
    return content


def _fill(
    model: torch.nn.Module,
    weights: dict[str, torch.Tensor],
    checkpoint: Checkpoint,
    file: Path,
) -> None:
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    different = [
        name for name, value in weights.items() if name in own and own[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for names, what in (
            (missing, "missing"),
            (unknown, "not in the network"),
            (different, "of another shape"),
        )
        if names
    ]
    if problems:
        config = checkpoint.config or checkpoint.published.config
        raise ModelError(
            f"checkpoint {file} does not fit the network of {config}: "
            f"{'; '.join(problems)}: give the configuration it was trained with, by --config"
        )
    model.load_state_dict(weights)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (f"{text[:300]}..." if len(text) > 300 else text) or type(error).__name__
