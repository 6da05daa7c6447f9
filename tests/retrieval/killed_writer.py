"""A writer that tells, in a file, what each of its operations will have made of the index, until it is killed."""

import json
import os
import random
from pathlib import Path

import faiss  # noqa: F401 - imported once in the process that others are forked from

from tests.retrieval.index_cases import document, embed, local, writer_of

Content = dict[str, list[int | str]]
"""By document id its edition and origin."""


def write_until_killed(folder: Path, seed: int, content: Content, versions: dict[str, Content]) -> None:
    """Build, add, remove, compact and roll back by chance; `journal.jsonl` has what came of it."""
    chance = random.Random(seed)
    writer = writer_of(local(folder))
    journal = os.open(folder / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def tell(**entry: object) -> None:
        os.write(journal, (json.dumps(entry) + "\n").encode())

    edition = 1000 * seed
    while True:
        edition += 1
        added = [name for name, (_, origin) in content.items() if origin == "added"]
        kind = chance.choice(["build", "add", "add", "remove", "compact", "rollback"])
        after = dict(content)
        if kind == "build":
            names = chance.sample([f"c{number}" for number in range(8)], 5)
            after = {name: content[name] for name in added} | {name: [edition, "corpus"] for name in names}
            tell(begin=kind, after=after)
            writer.build([document(name, edition=edition) for name in names], embed)
        elif kind == "add":
            names = chance.sample([f"a{number}" for number in range(8)], 2)
            after |= {name: [edition, "added"] for name in names}
            tell(begin=kind, after=after)
            writer.add([document(name, edition=edition) for name in names], embed)
        elif kind == "remove" and added:
            names = chance.sample(added, min(2, len(added)))
            after = {name: value for name, value in content.items() if name not in names}
            tell(begin=kind, after=after)
            writer.remove(names)
        elif kind == "compact":
            tell(begin=kind, after=after)
            writer.compact()
        elif kind == "rollback":
            known = [record.name for record in writer.versions() if record.name in versions]
            if not known:
                continue
            version = chance.choice(known)
            after = dict(versions[version])
            tell(begin=kind, after=after)
            writer.rollback(version)
        else:
            continue
        tell(end=kind)
        content = after
        if kind in ("build", "compact"):
            versions[writer.versions()[0].name] = content
            tell(versions=versions)
