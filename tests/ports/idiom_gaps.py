"""The idioms of idioms/*.txt that do not work on statezoo, each with the reason."""

_LINEAR_ALGEBRA = "linear algebra is left to NumPy"
_RARE = "rare in scripts: core is kept small"
_TEXT = "a tensor is printed as NumPy prints an array"
_SCALAR = "a scalar of NumPy, not a float of Python; it computes like one"

GAPS: dict[str, str] = {
    "torch.Tensor([1, 2])": "Tensor(data) keeps integers; torch.FloatTensor([1, 2]) is the same in both",
    "torch.finfo(torch.float32).eps": _SCALAR,
    "torch.finfo(x.dtype).max": _SCALAR,
    "x.shape.numel()": "a shape is a tuple",
    "model.compile is not None": "there is no compiler",
    "repr(torch.tensor([1.0, 2.5]))": _TEXT,
    "repr(torch.tensor([True]))": _TEXT,
    "x.resize_(2, 2).shape": "memory is NumPy's",
    "torch.linalg.norm(x)": _LINEAR_ALGEBRA,
    "torch.linalg.vector_norm(x, dim=1)": _LINEAR_ALGEBRA,
    "torch.inverse(torch.eye(3) * 2)": _LINEAR_ALGEBRA,
    "torch.linalg.inv(torch.eye(3) * 2)": _LINEAR_ALGEBRA,
    "torch.linalg.solve(torch.eye(3) * 2, torch.ones(3))": _LINEAR_ALGEBRA,
    "torch.det(torch.eye(3) * 2)": _LINEAR_ALGEBRA,
    "torch.cov(x)": _LINEAR_ALGEBRA,
    "torch.scalar_tensor(2.0)": _RARE,
    "torch.var_mean(x, dim=1)": _RARE,
    "torch.cdist(x, y)": _RARE,
    "torch.diff(v)": _RARE,
    "torch.searchsorted(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5]))": _RARE,
    "torch.bucketize(torch.tensor([0.5, 2.5]), torch.tensor([1.0, 2.0]))": _RARE,
    "torch.heaviside(x, torch.tensor(0.5))": _RARE,
    "torch.hypot(x, y)": _RARE,
    "torch.quantile(v, 0.5)": _RARE,
    "torch.take(x, torch.tensor([0, 5]))": _RARE,
    "torch.block_diag(x, x).shape": _RARE,
    "torch.atleast_2d(v).shape": _RARE,
    "torch.combinations(torch.arange(3))": _RARE,
    "torch.cartesian_prod(torch.arange(2), torch.arange(2))": _RARE,
    "x.fill_diagonal_(1.0)": _RARE,
    "torch.zeros(2, 3).index_put_((torch.tensor([0, 1]), torch.tensor([2, 0])), torch.tensor([5.0, 6.0]))": _RARE,
    "torch.autograd.gradcheck(torch.square, (torch.ones(3, dtype=torch.float64, requires_grad=True),))": (_RARE),
    "F.multi_margin_loss(x, t)": _RARE,
    "step(optim.Rprop(model.parameters()))": _RARE,
    "step(optim.ASGD(model.parameters()))": _RARE,
}
