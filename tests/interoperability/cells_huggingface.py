"""Our files, opened by the libraries around the Hugging Face hub: transformers, accelerate, huggingface_hub, timm."""

# These libraries are in environments of their own.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cells import add

from statezoo.checkpoints import save_file

TABLE = "written"
KINDS: dict[str, dict[str, Any]] = {
    ".safetensors": {},
    ".safetensors, expand": {"expand": True},
    "shards, expand": {"expand": True, "max_shard_size": "20KB"},
    "shards": {"max_shard_size": "20KB"},
}


def saved(model: Any, folder: Path, kind: str) -> Path:
    """Save the state of a torch model as transformers names its files, and return the path."""
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", **KINDS[kind])
    assert (folder / "model.safetensors").exists() != ("shards" in kind)
    return folder / "model.safetensors"


def gpt2() -> Any:
    """Return a small GPT-2 with random weights, whose head is its embedding, and the tokens of an example."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    return GPT2LMHeadModel(config).eval(), torch.arange(12)[None]


def _from_pretrained(folder: Path, kind: str) -> str:
    """Save a GPT-2, open the folder with transformers, and compare outputs and ties."""
    import torch
    from transformers import GPT2LMHeadModel

    model, tokens = gpt2()
    saved(model, folder, kind)
    model.config.save_pretrained(folder)
    results: Any = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    loaded, about = results
    assert not about["missing_keys"], about
    assert not about["unexpected_keys"], about
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, model(tokens).logits)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    return "yes"


def _load_checkpoint_in_model(folder: Path, kind: str) -> str:
    import torch
    from accelerate import load_checkpoint_in_model
    from transformers import GPT2LMHeadModel

    model, tokens = gpt2()
    path = saved(model, folder, kind)
    other = GPT2LMHeadModel(model.config).eval()
    load_checkpoint_in_model(other, str(folder if "shards" in kind else path))
    with torch.no_grad():
        assert torch.equal(other(tokens).logits, model(tokens).logits)
    return "yes"


def _dispatch(folder: Path, kind: str) -> str:
    import torch
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch
    from transformers import GPT2LMHeadModel

    model, tokens = gpt2()
    path = saved(model, folder, kind)
    with init_empty_weights():
        other = GPT2LMHeadModel(model.config)
    other.tie_weights()
    other = load_checkpoint_and_dispatch(other, str(folder if "shards" in kind else path), device_map={"": "cpu"})
    with torch.no_grad():
        assert torch.equal(other.eval()(tokens).logits, model(tokens).logits)
    return "yes"


def _load_torch_model(folder: Path, kind: str) -> str:
    """Load with huggingface_hub, strictly, into a model without a tie."""
    import torch
    from huggingface_hub import load_torch_model

    torch.manual_seed(0)
    model: Any = torch.nn.Sequential(torch.nn.Embedding(50, 64), torch.nn.Linear(64, 50, bias=False))
    model[1].weight = model[0].weight
    path = saved(model, folder, kind)
    other: Any = torch.nn.Sequential(torch.nn.Embedding(50, 64), torch.nn.Linear(64, 50, bias=False))
    if "expand" not in kind:
        other[1].weight = other[0].weight
    result: Any = load_torch_model(other, path if path.exists() else folder, strict="expand" in kind)
    assert not result.unexpected_keys
    assert torch.equal(other[1].weight, model[0].weight)
    return "yes" if "expand" in kind else "yes, with strict=False"


def _import_torchvision() -> None:
    """Import torchvision, which timm needs for its transforms of images, beside any PyTorch.

    Its operators in C++ are for one build of PyTorch. Without them, two must be declared before it can be imported.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)
        import torchvision
    assert torchvision.__version__


def _timm(folder: Path, kind: str) -> str:
    _import_torchvision()
    import timm
    import torch
    from timm.models import load_checkpoint

    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    path = saved(model, folder, kind)
    other = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    load_checkpoint(other, str(path))
    image = torch.ones(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(other(image), model(image))
    with_argument = timm.create_model("resnet10t", pretrained=False, num_classes=3, checkpoint_path=str(path))
    assert torch.equal(with_argument.conv1[0].weight, model.conv1[0].weight)
    return "yes"


def _add(row: str, run: Callable[[Path, str], str], kinds: tuple[str, ...], *packages: str, environment: str) -> None:
    for kind in kinds:
        add(TABLE, row, kind, lambda folder, kind=kind: run(folder, kind), *packages, environment=environment)


for _version in ("4", "5"):
    _environment = f"transformers-{_version}"
    _add(f"transformers {_version}", _from_pretrained, tuple(KINDS), "transformers", environment=_environment)
    _add(
        f"huggingface_hub.load_torch_model, transformers {_version}",
        _load_torch_model,
        (".safetensors", ".safetensors, expand"),
        "huggingface_hub",
        environment=_environment,
    )
_add(
    "accelerate.load_checkpoint_in_model",
    _load_checkpoint_in_model,
    tuple(KINDS),
    "accelerate",
    environment="transformers-5",
)
_add("accelerate.load_checkpoint_and_dispatch", _dispatch, tuple(KINDS), "accelerate", environment="transformers-5")
_add("timm.load_checkpoint", _timm, (".safetensors",), "timm", environment="others")
