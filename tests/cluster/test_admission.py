from cluster.admission import GIB, StartNeed, admit_start


def test_engine_starts_where_the_memory_is_free_and_the_reason_has_both_numbers() -> None:
    need = StartNeed("coder", "cpu", int(2.5 * GIB))
    admission = admit_start(need, [3 * GIB])
    assert (admission.admitted, admission.reason) == (True, "needs 2.50 GiB of memory, 3.00 GiB free")
    assert not admit_start(need, [2 * GIB]).admitted
    assert admit_start(need, [need.bytes_each]).admitted


def test_engine_over_two_gpus_needs_two_free_ones() -> None:
    need = StartNeed("coder", "gpu", 40 * GIB, devices=2)
    assert admit_start(need, [70 * GIB, 10 * GIB, 41 * GIB]).admitted
    refused = admit_start(need, [70 * GIB, 10 * GIB, 39 * GIB])
    assert (refused.admitted, refused.reason) == (
        False,
        "needs 40.00 GiB on each of 2 GPUs, free GiB by GPU: 70.00, 10.00, 39.00",
    )


def test_node_without_a_device_of_the_kind_admits_nothing() -> None:
    assert admit_start(StartNeed("coder", "gpu", GIB), []).reason.endswith("none")
    assert not admit_start(StartNeed("coder", "gpu", GIB), []).admitted
