"""How likely a model finds the gold answers: mean log-probability per answer token, in nats.

Per item the outcome is ``(1/n) sum_i ln p(a_i | prompt, a_1 … a_{i-1})`` over its n answer tokens, at most
0. The metric is the mean over items, so long answers count no more than short ones.
"""

from __future__ import annotations

from mergery.evaluate.answers import AnswerEvaluator
from mergery.evaluate.api import register_evaluator

__all__ = ["LIKELIHOOD"]

LIKELIHOOD = AnswerEvaluator("likelihood", proportion=False)
register_evaluator(LIKELIHOOD)
