"""Writes a small vision-language model with random weights into a cache of the Hugging Face hub.

It is run by the Python that `transformers_server` sets up, with the cache's folder and the
model's name. The model is a whole LLaVA: a picture of 28 pixels is 4 tokens, a text its bytes.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

IMAGE, SIDE, PATCH = "<image>", 28, 14
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def write(cache: Path, name: str) -> None:
    """Write model and processor as a download of them would lie there."""
    folder = cache / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    target = folder / "snapshots" / commit
    target.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)

    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>", IMAGE]
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(special), special_tokens=special, initial_alphabet=alphabet
    )
    letters.train_from_iterator([], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=[IMAGE],
    )
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(target)

    torch.manual_seed(0)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **size,
            hidden_size=16,
            intermediate_size=32,
            image_size=SIDE,
            patch_size=PATCH,
            projection_dim=16,
        ),
        text_config=LlamaConfig(
            **size,
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(target)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
