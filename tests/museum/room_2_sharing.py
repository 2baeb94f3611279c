"""Room 2: the parameters of the optimizer, and parameters that should be tied."""

from typing import Any

from exhibit import Arguments, classes, exhibit, moved, steps


def _moves(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    return f"No error. A step changes {moved(model, optimizer, batch, loss)}."


@exhibit("A head replaced after the optimizer was created", _moves)
def head_replaced_after_optimizer(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1)
    model[2] = nn.Linear(16, 4)
    return model, optimizer, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("A parameter missing from the parameter groups", _moves)
def parameter_forgotten(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    weights = [model[0].weight, model[2].weight]
    optimizer = nn.optim.SGD([{"params": weights, "weight_decay": 0.1}, {"params": [model[0].bias]}], lr=0.1)
    return model, optimizer, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("A learning rate too small for the weights' precision", _moves)
def tiny_learning_rate(nn: Any) -> Arguments:
    model = nn.Linear(8, 4)
    optimizer = nn.optim.SGD(model.parameters(), lr=1e-12)
    return model, optimizer, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _explodes(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    return f"No error. After 20 steps the loss is {steps(model, optimizer, batch, loss, 21)[-1]}."


@exhibit("A learning rate far too large", _explodes)
def huge_learning_rate(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = nn.optim.SGD(model.parameters(), lr=10)
    return model, optimizer, (nn.randn(32, 8), nn.randn(32, 1)), nn.F.mse_loss


def _twice(model: Any, optimizer: Any, *_: Any) -> str:
    held = [p for group in optimizer.param_groups for p in group["params"]]
    memories = {p.data_ptr() for p in held}
    shared = len(held) - len(memories)
    return (
        f"No error. Of the {len(held)} tensors that the optimizer holds, {shared} repeats memory and is stepped twice."
    )


@exhibit("Two Parameters over the same memory", _twice)
def same_memory_twice(nn: Any) -> Arguments:
    encoder, decoder = nn.Linear(8, 4, bias=False), nn.Linear(4, 8, bias=False)
    decoder.weight = nn.Parameter(encoder.weight.data.T)
    model = nn.Sequential(encoder, decoder)
    return model, nn.optim.SGD(model.parameters(), lr=0.1), None, None


def _both(model: Any, optimizers: Any, *_: Any) -> str:
    held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    return f"No error. The optimizers hold {len(held)} tensors, but the model has only {len(list(model.parameters()))}."


@exhibit("A part held by two optimizers", _both)
def held_by_two(nn: Any) -> Arguments:
    model = nn.ModuleDict({"body": nn.Linear(8, 8, bias=False), "actor": nn.Linear(8, 4), "critic": nn.Linear(8, 1)})
    actor = nn.optim.Adam([*model["body"].parameters(), *model["actor"].parameters()])
    critic = nn.optim.Adam([*model["body"].parameters(), *model["critic"].parameters()])
    return model, [actor, critic], None, None


def _apart(model: Any, *_: Any) -> str:
    one, two = model.embedding.weight, model.head.weight
    shared = one.data_ptr() == two.data_ptr()
    return f"No error. The weights share memory: {shared}. The model has {len(list(model.parameters()))} parameters."


def _language_model(nn: Any) -> Any:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 8)
            self.head = nn.Linear(8, 11, bias=False)

    return Language()


@exhibit("A tie broken by an assignment", _apart)
def tie_broken_by_assignment(nn: Any) -> Arguments:
    model = _language_model(nn)  # an Embedding (11, 8) and a head Linear(8, 11)
    model.head.weight = model.embedding.weight
    model.embedding.weight = nn.Parameter(0.02 * nn.randn(11, 8))
    return model, None, None, None


@exhibit("A copy instead of a tie", _apart)
def copy_for_a_tie(nn: Any) -> Arguments:
    model = _language_model(nn)
    model.head.weight = nn.Parameter(model.embedding.weight.detach() * 1)
    return model, None, None, None


def _views(model: Any, *_: Any) -> str:
    one, two = model.encoder.weight, model.decoder.weight
    return f"No error. The weights share memory: {one.data_ptr() == two.data_ptr()}."


def _autoencoder(nn: Any) -> Any:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(8, 4), nn.Linear(4, 8)
            self.decoder.weight = nn.Parameter(self.encoder.weight.T)

    return Autoencoder()


@exhibit("A view whose base was replaced", _views)
def base_of_a_view_replaced(nn: Any) -> Arguments:
    model = _autoencoder(nn)  # decoder.weight is Parameter(encoder.weight.T)
    model.encoder = nn.Linear(8, 4)
    return model, None, None, None


@exhibit("A view replaced by an assignment", _views)
def view_replaced(nn: Any) -> Arguments:
    model = _autoencoder(nn)
    model.decoder.weight = nn.Parameter(0.1 * nn.randn(8, 4))
    return model, None, None, None


@exhibit("A view broken by assigning .data", _views)
def view_broken(nn: Any) -> Arguments:
    model = _autoencoder(nn)
    model.encoder.weight.data = 0.1 * nn.randn(4, 8).data
    return model, None, None, None
