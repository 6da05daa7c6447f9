"""The judge of written code against programs that do not want to be judged."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experts.pocket.sandbox import (
    Call,
    Limits,
    Program,
    Sandbox,
    Verdict,
    judge_programs,
    judge_report,
    passes_checks,
    read_program,
)

# Programs reach loaded modules like this; importing what is not loaded fails.
REACH = "import sys\nos = sys.modules['os']\n"


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "audit hook"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(Limits(cpu_s=1, wall_s=1.5), namespaces=request.param) as opened:
        yield opened


def judge(sandbox: Sandbox, body: str, before: str = "") -> Verdict:
    """The verdict on `f`, whose right answer for 3 is 4."""
    source = before + "def f(x):\n" + "\n".join(f"    {line}" for line in body.split("\n"))
    return sandbox.judge(Program(source, "f", (Call((3,), 4),)))


def test_a_right_program_passes(sandbox: Sandbox) -> None:
    assert judge(sandbox, "return x + 1").passed


def test_a_wrong_value_is_shown_with_the_wanted_one(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, "return x")
    assert verdict.outcome == "wrong value"
    assert verdict.detail == "call 1: 3 instead of 4"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError(x)", "KeyError: 3"),
        ("return y", "NameError"),
        ("return (", "SyntaxError"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("a = []\nfor _ in range(9999):\n    a = [a]\nreturn a", "RecursionError"),
        ("return 10 ** 10 ** 4", "ValueError"),
        ("import socket", "ModuleNotFoundError"),
    ],
)
def test_what_a_program_raises_is_named(sandbox: Sandbox, body: str, why: str) -> None:
    verdict = judge(sandbox, body)
    assert verdict.outcome == "raised"
    assert why in verdict.detail


def test_a_missing_function_is_an_error_of_the_program(sandbox: Sandbox) -> None:
    verdict = sandbox.judge(Program("x = 1", "f", (Call((3,), 4),)))
    assert (verdict.outcome, verdict.detail) == ("raised", "NameError: no function 'f'")


def test_an_endless_loop_times_out(sandbox: Sandbox) -> None:
    assert judge(sandbox, "while True:\n    pass").outcome == "timed out"


def test_ignoring_the_signal_of_the_limit_does_not_help(sandbox: Sandbox) -> None:
    ignoring = "import sys\ns = sys.modules['signal']\ns.signal(s.SIGXCPU, s.SIG_IGN)\n"
    assert judge(sandbox, "while True:\n    pass", ignoring).outcome == "timed out"


def test_sleeping_times_out_by_the_clock(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, "import time\ntime.sleep(60)")
    assert verdict.outcome == "timed out"
    assert verdict.cpu_s < 0.5


@pytest.mark.parametrize(
    "body", ["return len('a' * 10 ** 10)", "a = []\nwhile True:\n    a.append('x' * 10 ** 6 + str(x))"]
)
def test_a_memory_bomb_runs_out_of_memory(sandbox: Sandbox, body: str) -> None:
    assert judge(sandbox, body).outcome == "out of memory"


def test_a_fork_bomb_does_not_start(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, "while True:\n    os.fork()", REACH)
    assert verdict.outcome == "raised"
    assert "BlockingIOError" in verdict.detail or "may not" in verdict.detail


def test_another_program_cannot_be_started(sandbox: Sandbox) -> None:
    assert judge(sandbox, "os.execv('/bin/true', ['true'])", REACH).outcome == "raised"


def test_files_are_neither_written_nor_read(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "written"
    readable = tmp_path / "readable"
    readable.write_text("secret")
    for body in (
        f"open({str(target)!r}, 'w').write('x')",
        "open('here', 'w').write('x')",
        f"open({str(readable)!r}).read()",
    ):
        assert judge(sandbox, f"{body}\nreturn 4").outcome == "raised"
    assert judge(sandbox, f"os.mkdir({str(target)!r})\nreturn 4", REACH).outcome == "raised"
    assert judge(sandbox, f"os.unlink({str(readable)!r})\nreturn 4", REACH).outcome == "raised"
    assert not target.exists()
    assert readable.exists()


def test_printing_megabytes_changes_nothing(sandbox: Sandbox) -> None:
    assert judge(sandbox, "for _ in range(20):\n    print('x' * 10 ** 6)\nreturn 4").passed


def test_values_of_megabytes_are_not_read(sandbox: Sandbox) -> None:
    assert judge(sandbox, "return 'x' * 10 ** 7").outcome == "wrong value"


@pytest.mark.parametrize(
    "line", [b'{"values": [4]}', b'{"written": "{\\"values\\": [4]}", "too_long": false, "late": false, "cpu_s": 0}\n']
)
@pytest.mark.parametrize("ending", ["os._exit(0)", "return 4"])
def test_a_faked_result_line_is_no_result(sandbox: Sandbox, line: bytes, ending: str) -> None:
    fake = f"for n in range(30):\n    try:\n        os.write(n, {line!r})\n    except OSError:\n        pass\n{ending}"
    assert judge(sandbox, fake, REACH).outcome == "killed"
    assert judge(sandbox, "return x + 1").passed


def test_leaving_at_once_is_no_result(sandbox: Sandbox) -> None:
    assert judge(sandbox, "os._exit(0)", REACH).outcome == "killed"


def test_patching_what_writes_the_result_sends_wrong_values_only(sandbox: Sandbox) -> None:
    patched = "import json, sys\njson.dumps = lambda *a, **k: '{\"values\": [true]}'\n"
    assert not judge(sandbox, "return 5", patched).passed
    everything = "class Always(int):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
    assert judge(sandbox, "return Always(5)", everything).outcome == "wrong value"
    seen = "import sys\nmain = sys.modules['__main__']\nmain.encode_value = lambda value: 5\n"
    assert judge(sandbox, "return x", seen).outcome == "wrong value"
    assert judge(sandbox, "return x + 1").passed


def test_the_expected_values_are_not_in_the_sandbox(sandbox: Sandbox) -> None:
    looking = (
        "found = []\nframe = sys._getframe()\nwhile frame:\n    found.append(str(frame.f_locals))\n"
        "    frame = frame.f_back\nreturn '98765' + str(1000 * x + 1321) in ''.join(found)"
    )
    source = "import sys\ndef f(x):\n" + "\n".join(f"    {line}" for line in looking.split("\n"))
    program = Program(source, "f", (Call((3,), 987654321),))
    assert sandbox.judge(program).detail == "call 1: false instead of 987654321"


def test_the_environment_of_the_caller_is_not_seen(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "1")
    with Sandbox(namespaces=sandbox.isolation == "namespaces") as fresh:
        verdict = judge(fresh, "return 'SECRET_OF_A_TEST' in os.environ", REACH)
        assert verdict.detail == "call 1: false instead of 4"
        for pid in ("self", "1", str(os.getpid()), "' + str(os.getppid()) + '"):
            assert judge(fresh, f"return len(open('/proc/{pid}/environ').read())", REACH).outcome == "raised"


def test_no_network_is_reached(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # `_socket` is a built-in or an extension that is not loaded; either way it stays out of reach.
        verdict = judge(sandbox, f"import _socket\ns = _socket.socket()\ns.connect(('127.0.0.1', {port}))\nreturn 4")
        assert verdict.outcome == "raised"


def test_signals_reach_nobody_else(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, f"os.kill({os.getpid()}, 0)\nreturn 4", REACH)
    assert verdict.outcome == "raised"
    assert judge(sandbox, "os.kill(-1, 9)\nreturn 4", REACH).outcome == "raised"
    assert judge(sandbox, "return x + 1").passed


def test_limits_cannot_be_raised(sandbox: Sandbox) -> None:
    raising = "import sys\nr = sys.modules['resource']\nr.setrlimit(r.RLIMIT_CPU, (99, 99))\nreturn 4"
    assert judge(sandbox, raising).outcome == "raised"


def test_a_crash_of_the_interpreter_is_one_program_killed() -> None:
    with Sandbox() as sandbox:
        if sandbox.isolation != "namespaces":
            pytest.skip("the audit hook refuses what would crash")
        verdict = judge(sandbox, "sys.modules['ctypes'].string_at(0)", "import sys\n")
        assert (verdict.outcome, verdict.detail) == ("killed", "ended with status -11 and no result")
        assert judge(sandbox, "return x + 1").passed


def test_arguments_are_fresh_and_keep_their_order_and_types() -> None:
    source = (
        "seen = []\ndef f(x, y):\n    x.append(1)\n    seen.append(1)\n    return (list(y), type(x).__name__, len(x))"
    )
    calls = tuple(Call(([0], {"b": 1, "a": 2}), (["b", "a"], "list", 2)) for _ in range(2))
    assert judge_programs([Program(source, "f", calls)])[0].passed


@pytest.mark.parametrize(
    ("returned", "expected", "same"),
    [
        ("1", True, False),
        ("True", 1, False),
        ("1.0", 1, False),
        ("0.1 + 0.2", 0.3, True),
        ("(1, 2)", [1, 2], False),
        ("{2: 'b', 1: 'a'}", {1: "a", 2: "b"}, True),
        ("{3, 1}", {1, 3}, True),
        ("None", None, True),
        ("float('nan')", float("nan"), True),
        ("[1, [2, {'a': (3,)}]]", [1, [2, {"a": (3,)}]], True),
        ("range(3)", [0, 1, 2], False),
    ],
)
def test_values_count_as_same_only_in_type_and_value(returned: str, expected: object, same: bool) -> None:
    program = Program(f"def f():\n    return {returned}", "f", (Call((), expected),))
    assert judge_programs([program])[0].passed is same


def test_many_programs_share_one_start() -> None:
    started = time.monotonic()
    programs = [Program(f"def f(x):\n    return x + {n % 2}", "f", (Call((3,), 4),)) for n in range(100)]
    passed = [verdict.passed for verdict in judge_programs(programs)]
    assert passed == [bool(n % 2) for n in range(100)]
    assert time.monotonic() - started < 20


def test_checks_are_read_as_one_call_and_one_literal() -> None:
    program = read_program("…", ["assert f([1, -2], 'a') == {'b': [3]}", "f([], '') == {}"])
    assert program.function == "f"
    assert program.calls == [Call(([1, -2], "a"), {"b": [3]}), Call(([], ""), {})]


@pytest.mark.parametrize("check", ["f(1)", "f(1) < 2", "f(g(1)) == 2", "f(x=1) == 2", "a.f(1) == 2", "f(1) == g(2)"])
def test_checks_of_another_form_are_refused(check: str) -> None:
    with pytest.raises(ValueError, match=r"check|malformed"):
        read_program("", [check])


def test_checks_of_two_functions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['f', 'g'\]"):
        read_program("", ["f(1) == 2", "g(1) == 2"])


def test_one_source_is_judged_by_its_checks() -> None:
    assert passes_checks("def f(x):\n    return x * 2", ["f(2) == 4", "f(0) == 0"])
    assert not passes_checks("def f(x):\n    return x * 2", ["f(2) == 4", "f(1) == 1"])


def test_a_report_without_the_nonce_is_no_result() -> None:
    report = {"written": '{"values": [4]}', "too_long": False, "late": False, "status": 0, "cpu_s": 0.0}
    assert judge_report(report, Program("", "f", (Call((3,), 4),)), "abcd").outcome == "killed"
    right = {**report, "written": 'abcd{"values": [4]}'}
    assert judge_report(right, Program("", "f", (Call((3,), 4),)), "abcd").passed
    assert (
        judge_report({**right, "written": 'abcd{"values": []}'}, Program("", "f", (Call((3,), 4),)), "abcd").outcome
        == "killed"
    )
