"""What SAM 2.1's segmenter of images and its tracker have in common: weights, network, device."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pixano_cli.models.base import ModelCard, ModelDeploymentConfig
from pixano_cli.models.sam2.checkpoints import BASE_PLUS, LARGE, SMALL, TINY, Checkpoint, Published

if TYPE_CHECKING:
    from pixano_cli.models.sam2.networks import Network

_SIZES = {
    TINY: "tiny (156 MB)",
    SMALL: "small (184 MB)",
    BASE_PLUS: "base-plus (324 MB)",
    LARGE: "large (898 MB)",
}


def card_of(published: Published, use: str) -> ModelCard:
    """Say which weights they are, and what they are used for."""
    return ModelCard(
        description=f"SAM 2.1 {_SIZES[published]}: {use}",
        license="Apache-2.0",
        origin=f"{published.file} of {published.repository} on Hugging Face (Meta, 2024)",
    )


class Sam2Weights:
    """A model of published weights, or of one's own.

    Parameters (`model_params`):
        device: "cpu" (default), "cuda", "cuda:N", "mps" or "auto".
        checkpoint: One's own file of weights, .pt or .safetensors; `path` is the same.
        config: The network of those weights: a YAML file, or a name inside the package sam2.
        overrides: Changes to that network, a list of "model.KEY=VALUE".
        compile: Whether to compile the image encoder (default no).
    """

    published: ClassVar[Published]
    config: ModelDeploymentConfig

    _network: Network | None = None
    _digest: str | None = None

    @property
    def digest(self) -> str:
        """Hex digest of weights and network; of a published model the sha256 of its file.

        Raises:
            ModelError: If one's own weights or configuration cannot be read.
        """
        if self._digest is None:
            self._digest = self._checkpoint().digest
        return self._digest

    def load_model(self) -> None:
        """Load the weights, and fetch them before if they are published ones.

        Raises:
            UsageError: If a parameter is unknown or cannot be used.
            ModelError: If torch or sam2 is missing, the weights cannot be had or used, or the
                device is not there.
        """
        from pixano_cli.models.sam2.networks import load_network

        parameters = self.config.model_params
        self._network = load_network(
            self._checkpoint(),
            str(parameters.get("device", "cpu")),
            compiled=bool(parameters.get("compile", False)),
        )

    def unload(self) -> None:
        """Free the network."""
        network, self._network = self._network, None
        if network is not None and network.device.type == "cuda":
            import torch

            del network
            torch.cuda.empty_cache()

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint.of(self.published, self.config.model_params)

    def _loaded(self) -> Network:
        if self._network is None:
            raise RuntimeError("load_model() must be called first")
        return self._network
