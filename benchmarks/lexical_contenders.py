"""The lexical libraries that `retrieval.lexical` was chosen over: English words, stemmed, without stop words, BM25."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Search = Callable[[str, int], Sequence[int]]


def build_bm25s(texts: Iterable[str], folder: Path) -> Search:
    """bm25s with its arrays saved and mapped."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    built = bm25s.BM25()
    built.index(bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    built.save(str(folder))
    index = bm25s.BM25.load(str(folder), mmap=True)

    def search(question: str, k: int) -> Sequence[int]:
        words = bm25s.tokenize([question], stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
        rows: list[int] = index.retrieve(words, k=k, show_progress=False)[0][0].tolist()
        return rows

    return search


def build_tantivy(texts: Iterable[str], folder: Path) -> Search:
    """tantivy with one segment on disk; the question is analysed here, its query language is not used."""
    import tantivy

    builder: Any = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.lowercase(),
        tantivy.Filter.stopword("english"),
        tantivy.Filter.stemmer("english"),
    ):
        builder = builder.filter(step)
    analyzer = builder.build()
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("text", stored=False, tokenizer_name="en")
    fields.add_unsigned_field("row", stored=False, fast=True)
    schema = fields.build()
    folder.mkdir(parents=True)
    index = tantivy.Index(schema, path=str(folder))
    index.register_tokenizer("en", analyzer)
    writer = index.writer(heap_size=500_000_000, num_threads=1)
    for row, text in enumerate(texts):
        document = tantivy.Document()
        document.add_text("text", text)
        document.add_unsigned("row", row)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(question: str, k: int) -> Sequence[int]:
        words = [
            (tantivy.Occur.Should, tantivy.Query.term_query(schema, "text", word))
            for word in analyzer.analyze(question)
        ]
        hits = searcher.search(tantivy.Query.boolean_query(words), k, count=False).hits
        rows: Any = searcher.fast_field_values("row", [address for _, address in hits])
        return rows

    return search


CONTENDERS = {"bm25s": build_bm25s, "tantivy": build_tantivy}
