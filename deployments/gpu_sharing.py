"""How engines on shares of one GPU run on it: side by side under NVIDIA's MPS, or else in turns.

With MPS every process has the part of the GPU's processors that CUDA_MPS_ACTIVE_THREAD_PERCENTAGE gives it
(`plan_engine_arguments` sets it to the engine's share); without its daemon the variable has no effect, and the driver
gives processes the whole GPU one after another.
"""

import subprocess

CONTROL = "nvidia-cuda-mps-control"
TIMEOUT_S = 20.0


def start_mps() -> str | None:
    """Start this user's MPS daemon of the node unless it runs; None when it does, else why not.

    Who calls it has the node's turn, so that two never start one. The daemon stays: other processes may use it.
    """
    try:
        if _run("get_server_list").returncode == 0:
            return None
        started = subprocess.run([CONTROL, "-d"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if started.returncode == 0 and _run("get_server_list").returncode == 0:
            return None
    except FileNotFoundError:
        return f"{CONTROL} is not installed on the node"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{CONTROL} does not answer: {error}"
    said = (started.stderr or started.stdout).strip().splitlines()
    return f"{CONTROL} -d ended with {started.returncode}: {said[-1] if said else 'no message'}"


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONTROL], input=f"{command}\n", capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
