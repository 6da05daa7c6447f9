"""An index as its users see it: what is written is found, whole, by every reader."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from experts.errors import ConfigurationError, EncoderMismatch, IndexDamaged
from experts.search_mode import SearchMode
from retrieval.encoder import SHIPPED_ENCODER, load_encoder
from retrieval.filters import parse_filter
from retrieval.index_reader import IndexReader
from retrieval.index_writer import ADD_PASSAGES, IndexWriter
from retrieval.passage import IndexedDocument, Passage, searched_text
from retrieval.snapshot import SearchQuery
from tests.retrieval.corpus_folder import load_corpus
from tests.retrieval.index_cases import (
    DIMENSIONS,
    assert_holds,
    document,
    documents,
    embed,
    find_passage,
    local,
    open_reader,
    refuse_to_embed,
    writer_of,
)


def test_what_is_built_is_found_and_named(tmp_path: Path) -> None:
    storage = local(tmp_path)
    change = writer_of(storage).build(documents(0, 40), embed)
    snapshot = open_reader(storage).snapshot()
    assert_holds(snapshot, documents(0, 40))
    assert (change.added, change.passages, change.embedded) == (40, 80, 80)
    assert change.label == snapshot.label
    assert snapshot.search(SearchQuery(embed(["x"])[0], "x", 3)).version == snapshot.label


def test_an_add_is_searchable_right_after_a_refresh_and_not_before(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 10), embed)
    reader = open_reader(storage)
    before = reader.snapshot()
    writer.add(documents(10, 12), embed)
    assert_holds(reader.snapshot(), documents(0, 10))
    assert reader.refresh()
    assert_holds(reader.snapshot(), documents(0, 12))
    assert_holds(before, documents(0, 10))
    assert not reader.refresh()


def test_an_index_of_additions_alone_needs_no_build(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer_of(storage).add(documents(0, 3), embed)
    assert_holds(open_reader(storage).snapshot(), documents(0, 3))


def test_a_document_added_again_replaces_the_one_before_whole(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.add([document("a", passages=5), document("b")], embed)
    change = writer.add([document("a", passages=2, edition=1)], embed)
    assert (change.added, change.replaced) == (0, 1)
    assert_holds(open_reader(storage).snapshot(), [document("a", passages=2, edition=1), document("b")])


def test_an_unchanged_document_is_neither_embedded_nor_committed_again(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    label = writer.add(documents(0, 3), embed).label
    change = writer.add(documents(0, 3), refuse_to_embed)
    assert (change.changed, change.unchanged, change.label) == (False, 3, label)


def test_removed_documents_are_found_no_more_in_base_and_delta(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.add(documents(0, 20), embed)
    writer.compact()
    writer.add(documents(20, 30), embed)
    change = writer.remove(["d3", "d25", "nothing"])
    assert (change.removed, change.missing) == (2, ("nothing",))
    left = [one for one in documents(0, 30) if one.id not in ("d3", "d25")]
    assert_holds(open_reader(storage).snapshot(), left)
    writer.compact()
    assert_holds(open_reader(storage).snapshot(), left)


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_base_and_delta_are_searched_as_one(tmp_path: Path, mode: SearchMode) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 20), embed)
    writer.add(documents(20, 40), embed)
    reader = open_reader(storage)
    for name in ("d5", "d25"):
        passage = reader.snapshot().passages_of(name)[1]
        query = SearchQuery(embed([searched_text(passage)])[0], f"{name} part 1", 3, mode)
        hits = reader.snapshot().search(query).hits
        assert hits[0].passage == passage
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    writer.compact()
    whole = open_reader(storage).snapshot().search(SearchQuery(embed(["x"])[0], "part of d5", 10, mode))
    parts = reader.snapshot().search(SearchQuery(embed(["x"])[0], "part of d5", 10, mode))
    assert [hit.passage for hit in whole.hits][:2] == [hit.passage for hit in parts.hits][:2]


def test_a_filter_finds_only_what_matches_in_base_and_delta(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build([*documents(0, 20), document("e", edition=3)], embed)
    writer.add([document("f", edition=4), document("g", edition=1)], embed)
    writer.add([document("h", edition=3)], embed)
    writer.remove(["h"])
    snapshot = open_reader(storage).snapshot()
    for mode in ("dense", "hybrid"):
        query = SearchQuery(embed(["x"])[0], "part", 9, mode, filter=parse_filter({"edition": {"gte": 3}}))
        assert {hit.passage.document for hit in snapshot.search(query).hits} == {"e", "f"}
        assert len(snapshot.search(query).hits) == 4


def test_building_again_embeds_only_what_changed_and_keeps_what_was_added(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 30), embed)
    writer.add([document("mine")], embed)
    texts: list[str] = []
    change = writer.build(
        [*documents(5, 29), document("d29", edition=1), document("new")],
        lambda batch: (texts.extend(batch), embed(batch))[1],  # type: ignore[func-returns-value]
    )
    assert (change.added, change.replaced, change.removed, change.unchanged) == (1, 1, 5, 24)
    assert sorted(text.split("\n")[0] for text in texts) == ["Title of d29"] * 2 + ["Title of new"] * 2
    expected = [*documents(5, 29), document("d29", edition=1), document("new"), document("mine")]
    assert_holds(open_reader(storage).snapshot(), expected)


def test_building_fewer_of_the_same_documents_removes_the_others_and_embeds_none(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 12), embed)
    writer.add([document("mine")], embed)
    change = writer.build(documents(3, 9), refuse_to_embed)
    assert (change.removed, change.unchanged, change.embedded) == (6, 6, 0)
    assert_holds(open_reader(storage).snapshot(), [*documents(3, 9), document("mine")])


def test_building_the_same_again_commits_nothing(tmp_path: Path) -> None:
    storage = local(tmp_path)
    label = writer_of(storage).build(documents(0, 5), embed).label
    change = writer_of(storage).build(documents(0, 5), refuse_to_embed)
    assert (change.changed, change.label, change.unchanged) == (False, label, 5)


def test_duplicates_are_embedded_once_and_each_is_found(tmp_path: Path) -> None:
    storage = local(tmp_path)
    same = [
        IndexedDocument(f"copy{number}", "f", (Passage("the same words", "Same", f"copy{number}#1"),))
        for number in range(700)
    ]
    change = writer_of(storage).build(same, embed)
    assert (change.added, change.embedded) == (700, 1)
    snapshot = open_reader(storage).snapshot()
    hits = snapshot.search(SearchQuery(embed(["Same\nthe same words"])[0], "same words", 700, "dense")).hits
    assert len({hit.passage.document for hit in hits}) == 700


def test_a_document_without_passages_is_known_and_not_found(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build([document("empty", passages=0)], embed)
    writer.add([document("void", passages=0)], embed)
    assert_holds(open_reader(storage).snapshot(), [document("empty", passages=0), document("void", passages=0)])
    assert open_reader(storage).snapshot().search(SearchQuery(embed(["x"])[0], "x", 3)).hits == ()


def test_a_document_of_the_corpus_is_neither_removed_nor_replaced_by_hand(tmp_path: Path) -> None:
    writer = writer_of(local(tmp_path))
    writer.build([document("a")], embed)
    with pytest.raises(ConfigurationError, match=r"'a' is of the domain's corpus; .* `guildhall index build DOMAIN`"):
        writer.remove(["a"])
    with pytest.raises(ConfigurationError, match="'a' is of the domain's corpus"):
        writer.add([document("b"), document("a", edition=1)], embed)
    assert_holds(writer.snapshot(), [document("a")])


def test_an_id_given_twice_counts_once(tmp_path: Path) -> None:
    writer = writer_of(local(tmp_path))
    assert writer.add([document("a"), document("a", edition=1)], embed).repeated == ("a",)
    assert writer.build([document("b"), document("b", edition=1)], embed).repeated == ("b",)
    assert_holds(writer.snapshot(), [document("a"), document("b")])


def test_an_add_too_large_for_a_delta_becomes_a_version(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 5), embed)
    writer.add([document("small")], embed)
    many = (document(f"m{number}", passages=100) for number in range(ADD_PASSAGES // 100 + 2))
    assert writer.add(many, embed).added == ADD_PASSAGES // 100 + 2
    status = open_reader(storage).snapshot().status()
    assert (status.delta_passages, status.documents) == (0, ADD_PASSAGES // 100 + 8)
    with pytest.raises(ConfigurationError, match="of the domain's corpus"):
        writer.add([document("huge", passages=ADD_PASSAGES), document("d1", passages=2)], embed)


def test_compacting_keeps_everything_and_embeds_nothing(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 10), embed)
    writer.add(documents(10, 30), embed)
    writer.remove(["d12"])
    assert writer.compact() is not None
    assert writer.compact() is None
    expected = [one for one in documents(0, 30) if one.id != "d12"]
    assert_holds(open_reader(storage).snapshot(), expected)
    origins = {record.origin for record in writer.snapshot().iterate_documents()}
    assert origins == {"corpus", "added"}
    assert open_reader(storage).snapshot().status().delta_passages == 0


def test_rolling_back_serves_a_version_as_it_was(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 5), embed)
    first = writer.versions()[0].name
    writer.add([document("later")], embed)
    writer.build(documents(0, 9), embed)
    reader = open_reader(storage)
    writer.rollback(first)
    assert reader.refresh()
    for each in (reader, open_reader(storage)):
        assert_holds(each.snapshot(), documents(0, 5))
        assert each.snapshot().label.startswith(f"{first}.")
    assert [record.is_current for record in writer.versions()] == [True, False]
    assert writer.versions()[0].reason == "rollback"
    writer.add([document("after")], embed)
    assert_holds(open_reader(storage).snapshot(), [*documents(0, 5), document("after")])


def test_rolling_back_to_nothing_known_names_what_is(tmp_path: Path) -> None:
    writer = writer_of(local(tmp_path))
    writer.build(documents(0, 5), embed)
    with pytest.raises(ConfigurationError, match=f"keeps no version 'x'; choose one of {writer.versions()[0].name}"):
        writer.rollback("x")


def test_three_versions_stay_and_the_log_with_them(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    reader = None
    for number in range(6):
        writer.add([document(f"d{number}")], embed)
        writer.compact()
        reader = reader or open_reader(storage)
    names = {record.name for record in writer.versions()}
    assert len(names) == 3
    assert {path.name for path in (tmp_path / "index" / "versions").iterdir()} == names
    assert len(list((tmp_path / "index" / "log").iterdir())) < 8
    assert not list((tmp_path / "index" / "aside").iterdir())
    assert_holds(open_reader(storage).snapshot(), documents(0, 6))


def test_a_reader_that_slept_while_its_place_in_the_log_was_removed_wakes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.add([document("d0")], embed)
    reader = open_reader(storage)
    for number in range(1, 6):
        writer.add([document(f"d{number}")], embed)
        writer.compact()
    monkeypatch.setattr("retrieval.log_follower._PLACE_CHECK_S", 0.0)
    assert reader.refresh()
    assert_holds(reader.snapshot(), documents(0, 6))


def test_a_published_version_opens_beside_the_additions(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 5), embed)
    reader = open_reader(storage)
    old = reader.snapshot().status().version
    writer.build(documents(0, 8), embed)
    writer.add([document("late")], embed)
    reader.refresh(wait=False)
    assert reader.snapshot().find("late") is not None
    while reader.snapshot().status().version == old:
        reader.refresh(wait=False)
    assert_holds(reader.snapshot(), [*documents(0, 8), document("late")])
    reader.close()


def test_another_encoder_is_refused_until_the_index_is_built_with_it(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer_of(storage).build(documents(0, 5), embed)
    writer_of(storage).add([document("added")], embed)
    running = open_reader(storage)
    other = writer_of(storage, "encoder-2")
    with pytest.raises(EncoderMismatch, match=r"of encoder hash-encoder-1, .* encoder-2; run `guildhall index build"):
        IndexReader(storage, "encoder-2").refresh()
    for refused in (lambda: other.add([document("x")], embed), lambda: other.remove(["added"]), other.compact):
        with pytest.raises(EncoderMismatch, match="run `guildhall index build"):
            refused()
    assert other.build(documents(0, 5), embed).embedded == 12
    reader = IndexReader(storage, "encoder-2")
    reader.refresh()
    assert_holds(reader.snapshot(), [*documents(0, 5), document("added")])
    running.refresh()
    assert running.snapshot().encoder_fingerprint == "hash-encoder-1"
    assert "encoder-2" in running.snapshot().damage[0]
    other.add([document("y")], embed)
    running.refresh()
    assert_holds(running.snapshot(), [*documents(0, 5), document("added")])


def test_a_vector_of_another_length_is_refused(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer_of(storage).build(documents(0, 3), embed)
    snapshot = open_reader(storage).snapshot()
    with pytest.raises(ConfigurationError, match=r"has shape \(384,\), index version \w+\.2 takes \(32,\)"):
        snapshot.search(SearchQuery(np.zeros(384, dtype=np.float32), "x", 4))
    with pytest.raises(ValueError, match="at least 1"):
        snapshot.search(SearchQuery(np.zeros(DIMENSIONS, dtype=np.float32), "x", 0))
    with pytest.raises(ValueError, match="needs a vector"):
        snapshot.search(SearchQuery(None, "x", 3))
    with pytest.raises(ConfigurationError, match="expected 32 dimensions"):
        writer_of(storage).add([document("x")], lambda texts: np.zeros((len(texts), 8), dtype=np.float32))


def test_a_vector_that_is_not_finite_gives_no_wrong_passage(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 3), embed)
    writer.add(documents(3, 6), embed)
    query = SearchQuery(np.full(DIMENSIONS, np.nan, dtype=np.float32), "x", 4, "dense")
    assert open_reader(storage).snapshot().search(query).hits == ()


def test_no_index_says_how_to_make_one(tmp_path: Path) -> None:
    reader = IndexReader(local(tmp_path))
    with pytest.raises(IndexDamaged, match=r"there is no index at .*; run `guildhall index build DOMAIN`"):
        reader.refresh()
    with pytest.raises(IndexDamaged, match="is not open"):
        reader.snapshot()


def test_progress_is_told_up_to_the_last_passage(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    writer_of(local(tmp_path)).build(documents(0, 300), embed, lambda done, total: told.append((done, total)))
    assert told[-1] == (600, 600)
    assert told == sorted(told)
    assert len(told) > 2


def test_writers_in_many_threads_lose_nothing_while_searches_go_on(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writers = [writer_of(storage) for _ in range(3)]
    writers[0].build(documents(0, 10), embed)
    reader = open_reader(storage)
    trouble: list[BaseException] = []
    done = threading.Event()

    def write(number: int) -> None:
        try:
            for place in range(12):
                writers[number].add([document(f"w{number}-{place}")], embed)
                if place % 5 == 4:
                    writers[number].compact()
        except BaseException as error:  # noqa: BLE001 - the thread's edge
            trouble.append(error)

    def search() -> None:
        try:
            while not done.is_set():
                snapshot = reader.snapshot()
                result = snapshot.search(SearchQuery(embed(["x"])[0], "part of d1", 5))
                assert len(result.hits) == 5
                assert result.version == snapshot.label
        except BaseException as error:  # noqa: BLE001 - the thread's edge
            trouble.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    searcher = threading.Thread(target=search)
    for thread in (*threads, searcher):
        thread.start()
    while any(thread.is_alive() for thread in threads):
        reader.refresh(wait=False)
    for thread in threads:
        thread.join()
    done.set()
    searcher.join()
    assert trouble == []
    reader.refresh()
    expected = [*documents(0, 10), *(document(f"w{number}-{place}") for number in range(3) for place in range(12))]
    assert_holds(reader.snapshot(), expected)
    assert_holds(open_reader(storage).snapshot(), expected)


def test_builds_and_adds_at_once_end_with_both(tmp_path: Path) -> None:
    storage = local(tmp_path)
    builder, adder = writer_of(storage), writer_of(storage)
    builder.build(documents(0, 3), embed)
    added: list[IndexedDocument] = []

    def embed_slowly(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        added.append(document(f"meanwhile{len(added)}"))
        adder.add(added[-1:], embed)
        adder.compact()
        return embed(texts)

    builder.build(documents(0, 400, edition=1), embed_slowly)
    assert len(added) > 2
    assert_holds(open_reader(storage).snapshot(), [*documents(0, 400, edition=1), *added])


def test_a_build_overtaken_by_a_rollback_is_written_again_on_top_of_it(tmp_path: Path) -> None:
    storage = local(tmp_path)
    builder, other = writer_of(storage), writer_of(storage)
    builder.build(documents(0, 3), embed)
    other.add([document("dropped")], embed)
    first = other.versions()[0].name

    def embed_and_roll_back(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        other.rollback(first)
        return embed(texts)

    builder.build(documents(0, 6), embed_and_roll_back)
    assert_holds(open_reader(storage).snapshot(), documents(0, 6))


def test_a_question_finds_the_section_that_answers_it_with_the_real_encoder(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "finance.md").write_text(
        "# Finance\n\n## Compound interest\n\nInterest is added to the principal and earns interest itself.\n\n"
        "## Bonds\n\nA bond pays coupons until it matures.\n\n## Inflation\n\nPrices rise and money buys less.\n"
    )
    encoder = load_encoder(SHIPPED_ENCODER)
    storage = local(tmp_path)
    corpus = IndexedDocument("finance.md", "f", load_corpus(tmp_path / "corpus"))
    IndexWriter(storage, encoder.fingerprint, encoder.dimensions).build([corpus], encoder.encode)
    reader = IndexReader(storage, encoder.fingerprint)
    reader.refresh()
    question = "Why does my money lose value every year?"
    hits = reader.snapshot().search(SearchQuery(encoder.encode([question])[0], question, 3)).hits
    assert hits[0].passage.title == "Finance - Inflation"


def test_find_passage_of_the_cases_tells_two_from_one(tmp_path: Path) -> None:
    storage = local(tmp_path)
    twins = [IndexedDocument(name, "f", (Passage("twin", "t", f"{name}#1"),)) for name in ("a", "b")]
    writer_of(storage).add(twins, embed)
    assert len(find_passage(open_reader(storage).snapshot(), Passage("twin", "t", ""))) == 2
