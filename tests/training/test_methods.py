"""Methods that can be merged give a plain model that answers as the trained one; their page is true."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
from localsmith.training.bases import Base, load_trainable
from localsmith.training.methods.lora import Lora
from localsmith.training.methods.prompts import PrefixTuning
from localsmith.training.methods.registry import method_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "peft-methods.md"


def moved(model: Any) -> Any:
    """Give what is trained random values, as a long training would."""
    import torch

    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize(("rank", "alpha"), [(4, 8.0), (8, 4.0)])
def test_merged_lora_weights_are_w_plus_ba_times_scale(rank: int, alpha: float, tiny_base: Base) -> None:
    import torch

    before = {name: p.detach().clone() for name, p in load_trainable(tiny_base).named_parameters()}
    method = Lora(rank=rank, alpha=alpha)
    model = moved(method.prepare(load_trainable(tiny_base)))
    thin = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}
    merged = dict(method.merged(model).named_parameters())
    assert merged.keys() == before.keys()
    num_changed = 0
    for name, w in before.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        b, a = (thin.get(f"{key}.lora_{part}.default.weight") for part in "BA")
        expected = w if a is None or b is None else w + b @ a * (alpha / rank)
        num_changed += a is not None
        torch.testing.assert_close(merged[name].detach(), expected, atol=1e-6, rtol=1e-5)
    assert num_changed == 14  # seven linear layers in each of two blocks


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_the_merged_model_gives_the_logits_of_the_unmerged_one(name: str, tiny_base: Base) -> None:
    import torch

    method = method_of(name)
    model = moved(method.prepare(load_trainable(tiny_base)))
    tokens = torch.tensor([[5, 9, 30, 31, 12, 7]])
    with torch.no_grad():
        base = load_trainable(tiny_base).eval()(input_ids=tokens).logits
        beside = model(input_ids=tokens).logits
        merged = method.merged(copy.deepcopy(model))(input_ids=tokens).logits
    torch.testing.assert_close(merged, beside, atol=1e-5, rtol=1e-4)
    assert float((beside - base).abs().max()) > 1e-2


def test_a_prefix_begins_as_what_the_base_holds_of_real_tokens(tiny_base: Base) -> None:
    import torch

    num_virtual_tokens, prompt = 6, [5, 9, 30, 31]
    torch.manual_seed(3)
    model = PrefixTuning(num_virtual_tokens).prepare(load_trainable(tiny_base)).eval()
    base = load_trainable(tiny_base).eval()
    torch.manual_seed(3)
    read = torch.randint(base.get_input_embeddings().weight.shape[0], (1, num_virtual_tokens)).tolist()[0]
    with torch.no_grad():
        expected = base(input_ids=torch.tensor([[*read, *prompt]])).logits[:, num_virtual_tokens:]
        logits = model(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long)
        ).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_the_examples_of_the_page_print_what_it_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    outputs = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(code) == len(outputs) == 2
    for block, output in zip(code, outputs, strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(PAGE), "exec"), {})
        assert printed.getvalue() == output
