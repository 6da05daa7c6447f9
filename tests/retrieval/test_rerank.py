"""A tiny cross-encoder with random weights: what the stage does, not how well."""

from pathlib import Path

import pytest

from experts.errors import ConfigurationError
from retrieval.passage import Hit, Passage
from retrieval.rerank import Reranker

HITS = tuple(
    Hit(Passage(text=text, title="Bonds", source=f"bonds.md#{number}"), score=1.0 / (number + 1))
    for number, text in enumerate(["a bond pays", "the yield falls", "prices rise", "a coupon is paid"])
)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *sorted({word for hit in HITS for word in hit.passage.text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=1,
            initializer_range=1.0,
        )
    )
    folder = tmp_path_factory.mktemp("cross-encoder")
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    return str(folder)


def test_hits_are_ranked_by_the_cross_encoders_score(cross_encoder: str) -> None:
    ranked = Reranker(cross_encoder).rank("what does a bond pay", HITS, 3)
    assert len(ranked) == 3
    assert [hit.score for hit in ranked] == sorted((hit.score for hit in ranked), reverse=True)
    assert {hit.passage for hit in ranked} < {hit.passage for hit in HITS}
    assert {hit.score for hit in ranked}.isdisjoint(hit.score for hit in HITS)


def test_the_order_of_the_hits_given_does_not_matter(cross_encoder: str) -> None:
    reranker = Reranker(cross_encoder)
    forward, backward = (reranker.rank("yield", hits, 4) for hits in (HITS, HITS[::-1]))
    assert [hit.passage for hit in forward] == [hit.passage for hit in backward]


def test_without_hits_no_model_is_loaded() -> None:
    assert Reranker("./nowhere").rank("a question", (), 3) == ()


def test_a_folder_without_a_model_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"reranker .* does not load"):
        Reranker(str(tmp_path)).load()
