"""Why a regression can fit every point and still have the wrong weights: collinear inputs.

The rows are x = (1, 1), (2, 2), (3, 3), (4, 4) with y = 2*x1 + 3*x2 = 5, 10, 15, 20. The two inputs are always equal
(collinear), so the rows determine only the sum of the two weights: 2 and 3 fit, and so do 1 and 4, or 2.5 and 2.5. The
loss falls either way. The zoo's linear-regression is trained on inputs of full rank and finds 2 and 3.

    python examples/collinear_regression.py
"""

from statezoo.core import Linear, MSELoss, Tensor, manual_seed
from statezoo.core.optim import SGD


def main() -> None:
    manual_seed(0)
    x = Tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    y = Tensor([[5.0], [10.0], [15.0], [20.0]])
    model = Linear(2, 1)
    optimizer = SGD(model.parameters(), lr=0.01)
    criterion = MSELoss()

    for epoch in range(1, 21):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch:2}  loss {loss.item():.6f}")

    w1, w2 = model.weight.data[0]
    print(f"\nweights {w1:.3f} and {w2:.3f}, not 2 and 3; their sum {w1 + w2:.3f} is near 5, as the rows determine")


if __name__ == "__main__":
    main()
