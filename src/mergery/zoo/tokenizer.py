"""The zoo's tokenizer: trained with the ``tokenizers`` library, one token for every word, number and mark."""

from __future__ import annotations

from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mergery.zoo.language import words_of_e, words_of_j
from mergery.zoo.tasks import draw_training

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts in both languages; the same on every call.

    It splits at spaces, adds no special tokens, and knows every word of E, of J and of the skills, so the
    tokens of a prompt are the first tokens of prompt and answer together.
    """
    rng = Random("tokenizer")
    texts = [" ".join(draw_training(source, rng)[0]) for source in ("story-w", "problem-w", "copies-w") * 50]
    # Every word once more: a text of random sentences may miss one, and the models must know them all.
    texts += [" ".join(words_of_e()), " ".join(words_of_j())]
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(
        texts, trainers.WordLevelTrainer(special_tokens=[PAD, EOS, UNK], show_progress=False)
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=128,
        clean_up_tokenization_spaces=False,
    )


def vocabulary_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Words to token numbers, for training without tokenizing each text anew."""
    return dict(sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]))
