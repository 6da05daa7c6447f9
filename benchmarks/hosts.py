"""Machines for `ray up` on one machine: each with processes, folders and an address of its own, and an ssh server.

A host is a process that leads namespaces of its own, and dies with the one that started it: with it go its processes,
its network and its mounts, so nothing is left however a run ends. `ray stop`, which kills by process name, reaches
nobody else's. Needs root on Linux with iproute2, util-linux, openssh-server and rsync.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("ip", "nsenter", "setpriv", "unshare", "rsync", "ssh", "/usr/sbin/sshd")
SUBNET = "10.77.1"
OPERATOR = "operator"
# Not root's own home, which may hold the Python that runs this.
HOME = Path("/mnt/root")
READY_FILE = Path("/run/guildhall-host")
"""What is only on a host, once it is up."""
DATA = "guildhall-data"
"""The folder of a host's home that is on a disk which all hosts share."""

_KEY = ".ssh/id_ed25519"
_START_TIMEOUT_S = 20.0
# The ssh server is the host's first process, which ends with a signal only from outside.
_SSHD = "/usr/sbin/sshd -D -e -f /run/sshd_config"
_SSHD_CONFIG = f"""\
HostKey {HOME}/.host_key
AuthorizedKeysFile {HOME}/.ssh/authorized_keys
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
"""


@dataclass(slots=True)
class Host:
    """One machine; `boot` and `power_off` are its switch, and its disk outlives both."""

    name: str
    address: str
    disk: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def home(self) -> Path:
        """Its home folder as this process sees it."""
        return self.disk / "home"

    @property
    def pid(self) -> int:
        """Its first process as this process sees it."""
        assert self._process is not None, f"host {self.name} is off"
        (child,) = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(child)

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def plan_command(self, command: str) -> list[str]:
        """A shell command as one that runs on the host, from its home, without asking its ssh server."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid"]
        variables = ["env", "-i", f"HOME={HOME}", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"]
        return [*enter, *variables, "bash", "-c", f"cd {HOME}; . ./.profile; {command}"]

    def run(self, command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host; what it says on both streams is its `stdout`."""
        return subprocess.run(
            self.plan_command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def power_off(self) -> None:
        """End all its processes at once; their connections are closed, as by a machine that goes down in order."""
        if self._process is not None:
            # unshare takes its child along, the child being the first of its namespace takes all others.
            self._process.kill()
            self._process.wait(_START_TIMEOUT_S)
            self._process = None


@dataclass(frozen=True, slots=True)
class Hosts:
    """The machines, and among them the operator's, where `ray up` is run."""

    operator: Host
    machines: tuple[Host, ...]

    def boot(self, host: Host) -> None:
        """Switch a machine on and return once its ssh server listens; its network is the operator's."""
        _start(host)
        if host is self.operator:
            _run_in(host.pid, "ip link add switch type bridge", "ip link set switch up", _own(host, "switch"))
            return
        cable = _name_cable(host)
        _run_in(
            self.operator.pid,
            # What is left of a machine that was switched off goes with its namespace, but not at once.
            f"ip link delete {cable} 2>/dev/null || true",
            # The same card after every start, so that nobody holds an old one's address.
            f"ip link add {cable} type veth peer name eth0 address {_plan_card(host)} netns {host.pid}",
            f"ip link set {cable} master switch up",
        )
        # A way out that leads nowhere: Ray asks the system which of its addresses it would use for one.
        _run_in(host.pid, _own(host, "eth0"), f"ip route add default via {self.operator.address}")
        _await_ssh(self.operator, host)

    def unplug(self, host: Host) -> None:
        """Take a machine away as a power cut does: nobody hears from it again, and no connection is closed."""
        _run_in(self.operator.pid, f"ip link set {_name_cable(host)} down")
        host.power_off()


@contextmanager
def open_hosts(names: Sequence[str], folder: Path) -> Iterator[Hosts]:
    """An operator's machine and others that are on, with one key that opens all, until the end of the block.

    Each has the packages of this Python in `~/.guildhall-venv`, so that installing the project there has nothing to do.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid():
        what = f"no {', '.join(missing)}" if missing else f"user {os.geteuid()}"
        raise RuntimeError(
            f"hosts need root and {', '.join(TOOLS)}, found {what}; on Debian: apt-get install iproute2 util-linux "
            "openssh-server rsync"
        )
    (folder / "shared").mkdir(parents=True)
    machines = [
        Host(name, f"{SUBNET}.{number}", folder / name) for number, name in enumerate([OPERATOR, *names], start=1)
    ]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    for host in machines:
        _furnish(host, folder)
    hosts = Hosts(machines[0], tuple(machines[1:]))
    with ExitStack() as stack:
        for host in machines:
            stack.callback(host.power_off)
            hosts.boot(host)
        yield hosts


def _furnish(host: Host, folder: Path) -> None:
    """Make a host's disk: its keys, and a Python environment that borrows the packages of this one."""
    ssh = host.home / ".ssh"
    ssh.mkdir(parents=True)
    (host.home / DATA).mkdir()
    shutil.copy(folder / "key.pub", ssh / "authorized_keys")
    if host.name == OPERATOR:
        shutil.copy(folder / "key", host.home / _KEY)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.home / ".host_key")], check=True)
    (host.home / ".profile").write_text("test ! -f ~/.bashrc || . ~/.bashrc\n")
    (host.home / ".bashrc").write_text("")
    venv = host.home / ".guildhall-venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(venv)], check=True)
    (lent,) = venv.glob("lib/python*/site-packages")
    (venv / "packages").mkdir()
    # Python reads no .pth file of a folder that another .pth names: what says where this checkout is stays unread.
    (lent / "guildhall.pth").write_text(f"{HOME}/guildhall\n{HOME}/.guildhall-venv/packages\n")
    for name in ("ray", "guildhall"):
        script = Path(sys.executable).parent / name
        lines = script.read_text().splitlines(keepends=True)
        (venv / "bin" / name).write_text("".join([f"#!{HOME}/.guildhall-venv/bin/python\n", *lines[1:]]))
        (venv / "bin" / name).chmod(0o755)
    (venv / ".installed-cpu").touch()


def _start(host: Host) -> None:
    """Start a host's first process and wait until it stands in its own namespaces."""
    packages = sysconfig.get_path("purelib")
    script = " && ".join(
        [
            f"mount -t tmpfs none {HOME.parent} && mkdir {HOME}",
            f"mount --bind {shlex.quote(str(host.home))} {HOME}",
            f"mount --bind {shlex.quote(packages)} {HOME}/.guildhall-venv/packages",
            f"mount --bind {shlex.quote(str(host.disk.parent / 'shared'))} {HOME}/{DATA}",
            # Last of all /tmp, below which the folders above may be.
            *(f"mount -t tmpfs none {folder}" for folder in ("/run", "/dev/shm", "/tmp")),
            f"sed 's,^root:.*,root:x:0:0:root:{HOME}:/bin/bash,' /etc/passwd > /run/passwd",
            "mount --bind /run/passwd /etc/passwd",
            # Else a name that is looked up has no answer for 10 s, and an engine asks for its machine's a dozen times.
            f"printf '127.0.0.1 localhost\\n{host.address} {host.name}\\n' > /run/hosts && : > /run/resolv.conf",
            *(f"mount --bind /run/{name} /etc/{name}" for name in ("hosts", "resolv.conf")),
            "mkdir /run/sshd",
            f"printf %s {shlex.quote(_SSHD_CONFIG)} > /run/sshd_config",
            f"hostname {host.name}",
            "ip link set lo up",
            f"touch {READY_FILE}",
            f"exec {_SSHD}",
        ]
    )
    with (host.disk / "console.log").open("ab") as console:
        host._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("bash", "-c", script),
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (_has_child(host) and Path(f"/proc/{host.pid}/root{READY_FILE}").exists()):
        if host._process.poll() is not None or time.monotonic() > deadline:
            said = (host.disk / "console.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"host {host.name} is not up within {_START_TIMEOUT_S:g} s; its console says:\n{said}")
        time.sleep(0.02)


def _has_child(host: Host) -> bool:
    process = host._process
    assert process is not None
    try:
        return bool(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    except OSError:
        return False


def _await_ssh(operator: Host, host: Host) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    knock = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{host.address}/22'"
    while operator.run(knock).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"host {host.name} at {host.address} has no ssh server after {_START_TIMEOUT_S:g} s")
        time.sleep(0.1)


def _name_cable(host: Host) -> str:
    return f"to-{host.name}"


def _plan_card(host: Host) -> str:
    return f"02:77:01:00:00:{int(host.address.rpartition('.')[2]):02x}"


def _own(host: Host, interface: str) -> str:
    return f"ip address add {host.address}/24 dev {interface} && ip link set {interface} up"


def _run_in(pid: int, *commands: str) -> None:
    """Shell commands in the network of a process."""
    for command in commands:
        done = subprocess.run(
            ["nsenter", "--target", str(pid), "--net", "sh", "-c", command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr.strip()}")
