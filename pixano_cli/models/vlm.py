"""Text from images and a prompt: the contract between a vision-language model and its callers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pixano_cli.models.base import InferenceModel, RGBImage


class UsageInfo(BaseModel):
    """Usage metadata for generation.

    Attributes:
        prompt_tokens: Number of tokens in the prompt.
        completion_tokens: Number of tokens in the completion.
        total_tokens: Total number of tokens.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class VLMInput(BaseModel):
    """Input for vision-language model generation.

    Attributes:
        prompt: Prompt for the generation. Can be a string or a list of dicts for chat templates.
        images: Images for the generation. Can be None if images are passed in the prompt. Pixels
            [height, width, 3], RGB uint8, as displayed, are what the local provider hands over; a
            model may also accept paths or URLs from other callers.
        max_new_tokens: Maximum number of new tokens to generate.
        temperature: Temperature for the generation; 0 takes the likeliest token each time.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt: str | list[dict[str, Any]]
    images: list[RGBImage | str | Path] | None = None
    max_new_tokens: int = 100
    temperature: float = 1.0


class VLMOutput(BaseModel):
    """Output for vision-language model generation.

    Attributes:
        generated_text: Generated text.
        usage: Usage metadata.
        generation_config: Configuration used for the generation.
    """

    generated_text: str
    usage: UsageInfo
    generation_config: dict[str, Any] = Field(default_factory=dict)


class VLMModel(InferenceModel[VLMInput, VLMOutput]):
    """Base class for vision-language models.

    Example:
        ```python
        @register_model("my-vlm")
        class MyVLM(VLMModel):
            def load_model(self):
                self.model = load_weights(self.config.model_params["path"])

            def predict(self, input: VLMInput) -> VLMOutput:
                text = self.model.generate(input.prompt, input.images)
                return VLMOutput(generated_text=text, usage=..., generation_config=...)
        ```
    """

    capability_name: ClassVar[str | None] = "vlm"
