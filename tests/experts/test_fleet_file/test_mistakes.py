"""Each mistake by itself: it names its key, what was found, what is known and the next step."""

from pathlib import Path

import pytest

from experts.fleet_file import check_fleet
from tests.experts.test_fleet_file.good_file import change, write

# Each: what replaces what in the good file; the key at fault; words of what was found, is known and comes next.
BROKEN = [
    ("engines:\n", "enginez:\n", "enginez", ["unknown key", "known keys: name, engines", "did you mean 'engines'?"]),
    ("    max_adapters: 1", "    max_adaptors: 1", "engines.small.max_adaptors", ["did you mean 'max_adapters'?"]),
    (
        "    device: gpu",
        "    device: gpu\n    max_tokens: 9",
        "engines.large.max_tokens",
        ["unknown key", "max_tokens is a key of domains.NAME"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    dtype: bf16",
        "engines.large.dtype",
        ["'bf16'", "known: auto, bfloat16, float16, float32", "did you mean 'bfloat16'?"],
    ),
    (
        "    device: gpu",
        '    device: gpu\n    max_model_len: "8192"',
        "engines.large.max_model_len",
        ["'8192' (text)", "a whole number from 64 to 1000000", "write 8192 without quotes"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    max_in_flight: 0",
        "engines.large.max_in_flight",
        ["found 0", "from 1 to 100000", "raise max_in_flight to 1 at least"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    gpus: 2",
        "engines.large.gpus",
        ["found 2", "a number above 0 up to 1", "lower gpus to 1 at most"],
    ),
    (
        "[Who may sue]",
        "Who may sue",
        "domains.law.examples",
        ["'Who may sue' (text)", "a list of text, 1000 at most", "after a hyphen"],
    ),
    ("[Who may sue]", "[yes]", "domains.law.examples.0", ["found true", "allowed: text", 'in quotes: "true"']),
    (
        "index: {corpus: corpora/law}",
        "index: corpora/law",
        "domains.law.index",
        ["'corpora/law' (text)", "a mapping with the keys corpus, location, passages", "indented lines"],
    ),
    (
        "  law:\n",
        "  Law EU:\n",
        "domains.Law EU",
        ["the name 'Law EU'", "lower-case letters", "for example to 'law-eu'"],
    ),
    ("name: office", "name: office-", "name", ["'office-'", "no hyphen last", "'office'"]),
    ("generalist: general\n", "", "generalist", ["found nothing", "needed: Domain (a key", "add the key generalist"]),
    ("    model: ./models/small\n", "", "engines.small.model", ["nothing", "needed: Hub id", "add the key model"]),
    ("router:\n  encoder: all-MiniLM-L6-v2", "router:", "router", ["nothing", "a mapping with the keys encoder"]),
    (
        "{engine: large}",
        "{engine: larg}",
        "domains.law.variants.full.engine",
        ["'larg'", "known engines: small, large", "did you mean 'large'?"],
    ),
    (
        "{engine: large}",
        "{engine: xyz}",
        "domains.law.variants.full.engine",
        ["'xyz'", "known engines: small, large", "add engines.xyz"],
    ),
    (
        "      full: {engine: large}\n",
        "",
        "engines.large",
        ["no domain uses", "the variants use: small", "remove it or give it a variant"],
    ),
    (
        "generalist: general",
        "generalist: generale",
        "generalist",
        ["'generale'", "known domains: law, general", "did you mean 'general'?"],
    ),
    ("node_type: big", "node_type: bigger", "engines.large.node_type", ["known node types: big, little", "'big'?"]),
    ("node_type: big", "node_type: little", "engines.large.device", ["'gpu'", "little has 0", "set device: cpu"]),
    ("tensor_parallel: 2", "tensor_parallel: 8", "engines.large.tensor_parallel", ["found 8", "big has 4", "to 4 at"]),
    (
        "tensor_parallel: 2",
        "tensor_parallel: 2\n    gpus: 0.5",
        "engines.large.gpus",
        ["found 0.5", "tensor_parallel: 2 takes whole GPUs", "set gpus: 1 or remove tensor_parallel"],
    ),
    (
        "    device: gpu\n",
        "",
        "engines.large.tensor_parallel",
        ["found 2", "device: cpu, which uses no GPU", "set device: gpu or remove tensor_parallel"],
    ),
    (
        "tensor_parallel: 2",
        "tensor_parallel: 2\n    kv_cache_gib: 4",
        "engines.large.kv_cache_gib",
        ["found 4", "device: gpu", "remove kv_cache_gib"],
    ),
    (
        "    max_adapters: 1",
        "    max_adapters: 1\n    elastic_kv: kvcached",
        "engines.small.elastic_kv",
        ["found 'kvcached'", "device: cpu, where `sharing` lends KV memory", "set device: gpu, or remove elastic_kv"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    elastic_kv: kv-cached",
        "engines.large.elastic_kv",
        ["found 'kv-cached'", "known: kvcached", "did you mean 'kvcached'?"],
    ),
    (
        "    device: gpu",
        "    device: gpu\n    replicas: {min: 3, max: 2}",
        "engines.large.replicas.min",
        ["found 3", "replicas.max is 2", "lower min to 2 at most or raise max to 3"],
    ),
    (
        "./models/small",
        "./models/smal",
        "engines.small.model",
        ["which does not exist", "needed: a model's folder", "did you mean 'small'?"],
    ),
    (
        "./models/small",
        "./corpora/law",
        "engines.small.model",
        ["without config.json", "the weights", "name the folder"],
    ),
    ("./models/small", "models/small", "engines.small.model", ["'models/small'", "a hub id", "write ./models/small"]),
    ("./models/small", "~/models/small", "engines.small.model", ["'~/models/small'", "hub id such as", "with ./"]),
    (
        "./adapters/law",
        "./adapters/low",
        "domains.law.variants.adapter.adapter",
        ["'./adapters/low', which does not exist", "a LoRA adapter's folder", "did you mean 'law'?"],
    ),
    (
        "./adapters/law",
        "./adapters/empty",
        "domains.law.variants.adapter.adapter",
        ["a folder without adapter_config.json", "holds adapter_config.json", "name the folder that has it"],
    ),
    (
        "./adapters/law",
        "./adapters/wide",
        "domains.law.variants.adapter.adapter",
        ["an adapter of rank 64", "max_adapter_rank is 16", "raise max_adapter_rank to 64"],
    ),
    (
        "./adapters/law",
        "./adapters/drifted",
        "domains.law.variants.adapter.adapter",
        ["trained with prompt template '0000000000000000'", "`guildhall adapt`", "accept_template: '0000000000000000'"],
    ),
    (
        "./adapters/law}",
        "./adapters/drifted, accept_template: '1111111111111111'}",
        "domains.law.variants.adapter.adapter",
        ["trained with prompt template '0000000000000000'", "accept_template: '0000000000000000'"],
    ),
    (
        "./adapters/law",
        "./adapters/damaged",
        "domains.law.variants.adapter.adapter",
        ["whose guildhall.json cannot be read", "the key 'template'", "correct the file"],
    ),
    ("    max_adapters: 1\n", "", "engines.small.max_adapters", ["found 0", "1 adapters", "raise max_adapters to 1"]),
    (
        "corpora/law",
        "corpora/lore",
        "domains.law.index.corpus",
        ["'corpora/lore', which does not exist", "corpora: law, pictures", "create it or correct the path"],
    ),
    (
        "corpora/law",
        "corpora/pictures",
        "domains.law.index.corpus",
        ["a folder without documents", ".md, .txt, .py", "put documents there"],
    ),
    (
        "corpora/law}",
        "corpora/law, location: fleet.yaml}",
        "domains.law.index.location",
        ["'fleet.yaml', a file", "a folder, which need not exist yet, or a URL", "name a folder"],
    ),
    (
        "variants:\n      full: {engine: small}",
        "index: {location: s3://b/i/}\n    variants:\n      full: {engine: small}\n  also:\n"
        "    description: The same place twice.\n    index: {location: s3://b/i}\n"
        "    variants:\n      full: {engine: small}",
        "domains.also.index.location",
        ["where domain 'general' has its index", "belongs to one domain", "a folder of its own"],
    ),
    (
        "corpora/law}",
        "corpora/law, search: lexical, dense_weight: 0.5}",
        "domains.law.index.dense_weight",
        ["found 0.5", "search: lexical", "set search: hybrid or remove it"],
    ),
    (
        "corpora/law}",
        "corpora/law, reranker: ./rerank}",
        "domains.law.index.reranker",
        ["'./rerank', which does not exist", "a cross-encoder's folder"],
    ),
    (
        "Everything that no other domain owns.",
        "contracts, courts  and statutes.",
        "domains.general.description",
        ["description of domain 'law' again", "tells domains apart", "this domain alone"],
    ),
    (
        "    index: {corpus",
        "    max_tokens: 4096\n    index: {corpus",
        "domains.law.max_tokens",
        ["found 4096", "max_model_len 4096", "lower max_tokens"],
    ),
    ("all-MiniLM-L6-v2", "./encoder", "router.encoder", ["'./encoder', which does not exist", "an encoder's folder"]),
    (
        "memory_gib: 16",
        "memory_gib: 16, gpu_type: H100",
        "nodes.little.gpu_type",
        ["'H100'", "gpus: 0", "or remove gpu_type"],
    ),
    ("generalist: general", "generalist: general\nname: shop", "name", ["the key 'name' again", "line 1", "keep one"]),
    (
        "name: office",
        "name: office\napi_key: abc",
        "api_key",
        ["looks like a secret", "hold none", "environment variable"],
    ),
    (
        "little: {cpus: 4, memory_gib: 16}",
        "little: {cpus: 4, memory_gib: 16, count: 2, min_count: 3}",
        "nodes.little.min_count",
        ["found 3", "count is 2", "lower min_count to 2 at most or raise count to 3"],
    ),
]


@pytest.mark.parametrize(("old", "new", "key", "words"), BROKEN, ids=[f"{case[2]}-{case[1][:24]}" for case in BROKEN])
def test_a_mistake_names_its_key_what_was_found_what_is_known_and_the_next_step(
    folder: Path, old: str, new: str, key: str, words: list[str]
) -> None:
    mistakes = check_fleet(write(folder, change(old, new))).mistakes
    lines = [mistake for mistake in mistakes if mistake.startswith((f"{key} (line ", f"{key}: "))]
    assert any(all(word in line for word in words) for line in lines), mistakes
