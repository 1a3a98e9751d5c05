"""The part of decision-level fusions that combines the views, with what it learns on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from polymodal.core.errors import TrainingError
from polymodal.core.types import Space
from polymodal.nn.fusion import decision

Combine = Literal["average", "weighted", "vote", "product", "stack"]

#: Steps of the optimiser (L-BFGS) when parameters are fitted to held-out rows.
STEPS = 100


class Combiner(nn.Module):
    """Combines the decisions of named views by one of the rules of `nn.fusion.decision`.

    Each output has parameters of its own, made by `prepare`:

        weighted: theta [views], w = softmax(theta) over the present views; equal at the start
        product:  log T [views]; every temperature is 1 at the start
        stack:    weight [k, views * k + views] and bias [k]; at the start the mean of the decisions
        (log-linear)

    They take no part in training: a network that fits its training rows is over-sure there, so they are
    fitted by `calibrate` on rows that were held out (Guo et al., "On Calibration of Modern Neural Networks",
    2017; Wolpert, "Stacked Generalization", 1992).
    """

    def __init__(self, combine: Combine, views: list[str]) -> None:
        super().__init__()
        self.rule, self.views = combine, list(views)
        self.outputs: list[str] = []
        self.fitted = nn.ParameterDict()

    def prepare(self, outputs: dict[str, int]) -> None:
        """Make the parameters of each output, given its number of values `k`."""
        self.outputs = list(outputs)
        count = len(self.views)
        for index, k in enumerate(outputs.values()):
            if self.rule in ("weighted", "product"):
                self.fitted[f"{index}"] = nn.Parameter(torch.zeros(count), requires_grad=False)
            elif self.rule == "stack":
                mean = torch.cat([torch.eye(k) / count] * count + [torch.zeros(k, count)], dim=1)
                self.fitted[f"{index}"] = nn.Parameter(mean, requires_grad=False)
                self.fitted[f"{index}_bias"] = nn.Parameter(torch.zeros(k), requires_grad=False)

    def forward(self, decoded: list[Tensor], weight: list[Tensor], space: Space, output: str) -> Tensor:
        """Values `[batch, k]` from those of each view, `[batch, k]`, which counts where its `weight [batch]`
        is not 0.

        Computed in fp32. No gradient reaches the views: each learns from its own loss alone.
        """
        expert = torch.stack(decoded, dim=1).detach().float()
        present = torch.stack(weight, dim=1) > 0
        expert = torch.where(present.unsqueeze(-1), expert, 0.0)
        if self.rule == "average":
            return decision.average(expert, present, space)
        if self.rule == "vote":
            return decision.vote(expert, present, space)
        parameters = self._of_output(output)
        if self.rule == "weighted":
            return decision.average(expert, present, space, parameters[0].softmax(0))
        if self.rule == "product":
            return decision.product(expert, present, space, parameters[0].exp())
        return decision.stack(expert, present, space, *parameters)

    def calibrate(
        self,
        decoded: dict[str, Tensor],
        weight: dict[str, Tensor],
        target_loss: Callable[[Tensor], Tensor],
        space: Space,
        output: str,
    ) -> None:
        """Fit the parameters of one output; see `Fusion.calibrate`.

        Minimises rows * loss + ||p - p_0||^2 / 2: p_0 are the starting values, so that few rows change
        little.

        Raises:
            TrainingError: the loss of the held-out rows is not finite.
        """
        parameters = self._of_output(output)
        if not parameters:
            return
        with torch.inference_mode(False), torch.enable_grad():
            values = [decoded[name].detach().clone() for name in self.views]
            counts = [weight[name].detach().clone() for name in self.views]
            start = [parameter.detach().clone() for parameter in parameters]
            rows = len(values[0])

            def objective() -> Tensor:
                moved = sum(((p - s) ** 2).sum() for p, s in zip(parameters, start, strict=True))
                return target_loss(self(values, counts, space, output)) + moved / (2 * rows)

            def closure() -> Tensor:
                optimiser.zero_grad()
                loss = objective()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimiser = torch.optim.LBFGS(parameters, max_iter=STEPS, line_search_fn="strong_wolfe")
            for parameter in parameters:
                parameter.requires_grad_(True)
            try:
                before = objective().item()
                if not math.isfinite(before):
                    raise TrainingError(f"the validation loss of output {output!r} is not finite: {before}")
                optimiser.step(closure)  # type: ignore[no-untyped-call]
                better = objective().item() <= before
            finally:
                for parameter in parameters:
                    parameter.requires_grad_(False)
                    parameter.grad = None
            if not better:  # also when the fit ended in a loss that is not a number
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)

    def _of_output(self, output: str) -> list[nn.Parameter]:
        index = self.outputs.index(output)
        return [self.fitted[key] for key in (f"{index}", f"{index}_bias") if key in self.fitted]
