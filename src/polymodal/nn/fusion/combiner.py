"""The combination of branches in decision-level fusions, with parameters that are fitted on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import TrainingError
from polymodal.core.types import Space
from polymodal.nn.fusion import decision_rules

CombineRule = Literal["average", "weighted", "vote", "product", "stack"]

#: Maximum number of L-BFGS iterations when the parameters are fitted on held-out rows.
MAX_ITERATIONS = 100


class Combiner(nn.Module):
    """Combines the predictions of named branches by a rule of `nn.fusion.decision_rules`.

    Each output has separate parameters, created by `prepare`:

        weighted: theta [branches], w = softmax(theta) over the present branches; equal at the start
        product:  log T [branches]; every temperature is 1 at the start
        stack:    weight [k, branches * k + branches] and bias [k]; at the start the (log-linear) mean of the
            predictions

    They are not trained with the network, which is overconfident on its training rows. `calibrate` fits them on
    held-out rows (Guo et al., "On Calibration of Modern Neural Networks", 2017; Wolpert, "Stacked Generalization",
    1992).
    """

    def __init__(self, combine: CombineRule, branches: list[str]) -> None:
        super().__init__()
        self.rule, self.branches = combine, list(branches)
        self.outputs: list[str] = []
        self.fitted = nn.ParameterDict()

    def prepare(self, outputs: dict[str, int]) -> None:
        """Create the parameters of each output from its number of values `k`."""
        self.outputs = list(outputs)
        count = len(self.branches)
        for index, k in enumerate(outputs.values()):
            if self.rule in ("weighted", "product"):
                self.fitted[f"{index}"] = nn.Parameter(torch.zeros(count), requires_grad=False)
            elif self.rule == "stack":
                mean = torch.cat([torch.eye(k) / count] * count + [torch.zeros(k, count)], dim=1)
                self.fitted[f"{index}"] = nn.Parameter(mean, requires_grad=False)
                self.fitted[f"{index}_bias"] = nn.Parameter(torch.zeros(k), requires_grad=False)

    def forward(self, decoded: list[Tensor], weight: list[Tensor], space: Space, output: str) -> Tensor:
        """Values `[batch, k]` from the values `[batch, k]` of each branch; a branch is used in rows where its `weight
        [batch]` is not 0.

        Computed in fp32. No gradient reaches the branches: each branch is trained only by its own loss.
        """
        expert = torch.stack(decoded, dim=1).detach().float()
        present = torch.stack(weight, dim=1) > 0
        expert = torch.where(present.unsqueeze(-1), expert, 0.0)
        if self.rule == "average":
            return decision_rules.average(expert, present, space)
        if self.rule == "vote":
            return decision_rules.vote(expert, present, space)
        parameters = self._of_output(output)
        if self.rule == "weighted":
            return decision_rules.average(expert, present, space, parameters[0].softmax(0))
        if self.rule == "product":
            return decision_rules.product(expert, present, space, parameters[0].exp())
        return decision_rules.stack(expert, present, space, *parameters)

    def calibrate(
        self,
        decoded: dict[str, Tensor],
        weight: dict[str, Tensor],
        target_loss: Callable[[Tensor], Tensor],
        space: Space,
        output: str,
    ) -> None:
        """Fit the parameters of one output; see `Fusion.calibrate`.

        Minimizes rows * loss + ||p - p_0||^2 / 2 with initial values p_0, so that few rows change the parameters
        little.

        Raises:
            TrainingError: the loss on the held-out rows is not finite.
        """
        parameters = self._of_output(output)
        if not parameters:
            return
        with torch.inference_mode(False), torch.enable_grad():
            values = [decoded[name].detach().clone() for name in self.branches]
            counts = [weight[name].detach().clone() for name in self.branches]
            start = [parameter.detach().clone() for parameter in parameters]
            rows = values[0].shape[0]

            def objective() -> Tensor:
                moved = sum(((p - s) ** 2).sum() for p, s in zip(parameters, start, strict=True))
                return target_loss(self(values, counts, space, output)) + moved / (2 * rows)

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = objective()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")
            for parameter in parameters:
                parameter.requires_grad_(True)
            try:
                before = objective().item()
                if not math.isfinite(before):
                    raise TrainingError(f"outputs.{output}: the validation loss is not finite: {before}")
                optimizer.step(closure)  # type: ignore[no-untyped-call]
                better = objective().item() <= before
            finally:
                for parameter in parameters:
                    parameter.requires_grad_(False)
                    parameter.grad = None
            if not better:  # also if the final loss is NaN
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)

    def _of_output(self, output: str) -> list[nn.Parameter]:
        index = self.outputs.index(output)
        return [self.fitted[key] for key in (f"{index}", f"{index}_bias") if key in self.fitted]
