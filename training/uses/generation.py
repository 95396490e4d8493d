"""A decoder's use: a text goes on.

Place in the data's way: a pre-trained decoder and the beginning of a text -> `continue_text` -> what
follows. To serve it, export it: `export.from_scratch`.

Example:
    continue_text(decoder, "The river ", max_tokens=30)
"""

from __future__ import annotations

from ..pretrain import Pretrained
from .fitting import require_architecture


def continue_text(
    decoder: Pretrained, text: str, max_tokens: int = 50, temperature: float = 0.0, seed: int = 7
) -> str:
    """Return what follows a text, without the text.

    Args:
        decoder: A pre-trained decoder.
        text: The beginning; "" to begin with anything. Of one that is too long the end is read.
        max_tokens: Tokens of the continuation at most.
        temperature: 0 for the likeliest token each time.
        seed: Of what is drawn.

    Raises:
        TrainingError: The model is no decoder.
        ValueError: `max_tokens` leaves no room for the text.
    """
    import torch
    from transformers import GenerationConfig, set_seed

    from ..pretraining.vocabulary import encode_plain

    require_architecture(decoder, "decoder", "Generation")
    window = int(decoder.model.config.max_position_embeddings)
    if not 0 < max_tokens < window:
        raise ValueError(f"max_tokens must be from 1 to {window - 1}, not {max_tokens}.")
    end = decoder.tokenizer.eos_token_id
    tokens = [end, *encode_plain(decoder.tokenizer, [text])[0]][-(window - max_tokens) :]
    set_seed(seed)
    sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_tokens,
        do_sample=temperature > 0,
        eos_token_id=end,
        pad_token_id=decoder.tokenizer.pad_token_id,
        **sampling,
    )
    decoder.model.eval()
    prompt = torch.tensor([tokens], device=decoder.model.device)
    with torch.inference_mode():
        written = decoder.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), generation_config=config
        )
    return str(decoder.tokenizer.decode(written[0, len(tokens) :], skip_special_tokens=True))
