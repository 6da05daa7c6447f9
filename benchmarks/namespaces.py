"""A network for Ray nodes on one machine: a namespace and an address for each, and a switch that can delay.

The switch is a bridge of the kernel, or in its place a process that reads every frame from one node's cable and writes
it to another's `DELAY_S` later.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import ray

Link = Literal["direct", "delayed"]

LINKS: tuple[Link, ...] = ("direct", "delayed")
NODES = 3
DELAY_S = 0.0005
GCS_PORT = 6379
# On two cores at a load of 19 the head took 26 s and the next node 20 s.
START_TIMEOUT_S = 180

# From linux/if_packet.h and linux/prctl.h.
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
VNET_HDR_BYTES = 10
PR_SET_TIMERSLACK = 29

libc = ctypes.CDLL(None, use_errno=True)


def address(node: int) -> str:
    return f"10.77.0.{node + 1}"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}; run as root on Linux with iproute2")


class Network:
    """Namespaces, one per node, and between them the bridge or the relay.

    The process that switches and relays stays in the namespace where it was started; this one may enter another.
    """

    def __init__(self) -> None:
        self.namespaces = [f"gh{os.getpid()}n{node}" for node in range(NODES)]
        self.bridge = f"gh{os.getpid()}"
        self._control: Connection | None = None

    @contextmanager
    def built(self) -> Iterator[None]:
        """The network, connected directly, until the end of the block."""
        context = multiprocessing.get_context("spawn")
        self._control, control = context.Pipe()
        operator = context.Process(target=operate, args=(self.bridge, self.namespaces, control), daemon=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "link", "set", self.bridge, "up")
            for node, name in enumerate(self.namespaces):
                # The switch's end of a node's cable has the name of the node's namespace.
                run("ip", "netns", "add", name)
                run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                run("ip", "-n", name, "address", "add", f"{address(node)}/24", "dev", "eth0")
                run("ip", "-n", name, "link", "set", "eth0", "up")
                run("ip", "link", "set", name, "master", self.bridge, "up")
            operator.start()
            yield
        finally:
            if operator.is_alive():
                operator.terminate()
                operator.join()
            enter_namespace(home)
            os.close(home)
            for name in self.namespaces:
                subprocess.run(["ip", "netns", "delete", name], check=False)
            subprocess.run(["ip", "link", "delete", self.bridge], check=False)

    def connect(self, link: Link) -> None:
        """Connect the nodes this way from now on; connections between them stay."""
        assert self._control is not None
        self._control.send(link)
        if self._control.recv() != link:
            raise RuntimeError(f"the network was not switched to {link}")

    def enter(self, node: int) -> None:
        """Move this thread, and what it starts, into a node's namespace."""
        namespace = os.open(f"/run/netns/{self.namespaces[node]}", os.O_RDONLY)
        enter_namespace(namespace)
        os.close(namespace)

    def crossed_bytes(self) -> int:
        """What all nodes have sent to each other so far, as their interfaces count it, headers included."""
        # Files of the first namespace wherever this process is by now: /sys belongs to the one that mounted it.
        counters = (Path(f"/sys/class/net/{name}/statistics/rx_bytes") for name in self.namespaces)
        return sum(int(counter.read_text()) for counter in counters)


def enter_namespace(namespace: int) -> None:
    if libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def operate(bridge: str, cables: Sequence[str], control: Connection) -> None:
    """Switch between bridge and relay when told to, and be the relay; runs in a process of its own."""
    # Else the kernel wakes a waiting process up to 50 microseconds late.
    libc.prctl(PR_SET_TIMERSLACK, 1)
    ends: list[socket.socket] = []
    learned: dict[bytes, socket.socket] = {}
    held: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        waited: list[Connection | socket.socket] = [control, *ends]
        readable, _, _ = select.select(waited, [], [], wait)
        for end in readable:
            if isinstance(end, Connection):
                continue
            frame = end.recv(2**17)
            due = time.monotonic() + DELAY_S
            target, source = frame[VNET_HDR_BYTES:][:6], frame[VNET_HDR_BYTES + 6 :][:6]
            learned[source] = end
            for to in [learned[target]] if target in learned else [other for other in ends if other is not end]:
                held.append((due, to, frame))
        while held and held[0][0] <= time.monotonic():
            _, to, frame = held.popleft()
            to.send(frame)
        if control in readable:
            link = control.recv()
            for end in ends:
                end.close()
            ends, learned = [], {}
            held.clear()
            for cable in cables:
                if link == "direct":
                    run("ip", "link", "set", cable, "master", bridge)
                else:
                    run("ip", "link", "set", cable, "nomaster")
                    ends.append(open_cable(cable))
            control.send(link)


def open_cable(name: str) -> socket.socket:
    """A socket that gets what the node sends through its cable, and sends to it."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # With each frame goes what the sender left to its card to do (checksum, splitting), so that it stays undone.
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.bind((name, ETH_P_ALL))
    return end


@contextmanager
def ray_node(network: Network, node: int, folder: Path) -> Iterator[None]:
    """A Ray node in its namespace; the first is the head."""
    where = ["--head", f"--port={GCS_PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
    if node:
        where = [f"--address={address(0)}:{GCS_PORT}"]
    ray_command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    size = ["--num-cpus=1", f"--object-store-memory={80 * 2**20}"]
    with (folder / f"node-{node}.log").open("w") as log:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", network.namespaces[node]),
                *ray_command,
                *where,
                *size,
                f"--node-ip-address={address(node)}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_listening() -> None:
    """Wait until the head's control store takes connections."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection((address(0), GCS_PORT), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def join_cluster() -> None:
    """Connect this process to the head, from the head's namespace."""
    ray.init(f"{address(0)}:{GCS_PORT}", _node_ip_address=address(0), log_to_driver=False, logging_level="ERROR")


def wait_for_node(node: int) -> str:
    """Wait until a node has joined; its id.

    Nodes are to be started one after another: two that start at once choose the same names for their sockets.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        found: dict[str, str] = {
            entry["NodeManagerAddress"]: entry["NodeID"] for entry in ray.nodes() if entry["Alive"]
        }
        if address(node) in found:
            return found[address(node)]
        if time.monotonic() > deadline:
            raise RuntimeError(f"Ray node {address(node)} has not joined after {START_TIMEOUT_S} s; joined: {found}")
        time.sleep(0.2)
