"""Share of items whose answer greedy decoding writes, token for token, in one forward pass.

No text is generated. Greedy decoding writes the gold answer a_1 … a_n if and only if, for every i, a_i has
the highest probability given the prompt and a_1 … a_{i-1}: the first token is right if its arg max is a_1;
given that, the second position sees exactly the text of the teacher-forced pass, and so on by induction. A
position after the first mistake cannot rescue the item. So one teacher-forced pass over prompt and answer
decides what n steps of generation would.

Per item the outcome is 1 or 0 and the metric is the mean. What the model would write after the answer does
not count.
"""

from __future__ import annotations

from mergery.evaluate.answers import AnswerEvaluator
from mergery.evaluate.api import register_evaluator

__all__ = ["EXACT_MATCH"]

EXACT_MATCH = AnswerEvaluator("exact_match", proportion=True)
register_evaluator(EXACT_MATCH)
