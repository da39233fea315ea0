#!/usr/bin/env python3
"""What `cargo xtask bench` calls: measures Pelago, with --peers beside other systems, alternately in one run.

    cargo xtask bench [--peers] [--rounds 3] [--seconds 5] [--only propose,task,turn,task3,failover,tell,ask,…]

Every round asks each system in turn (A B A B), so that what the machine does besides falls on both. Each run is a line
of JSON in bench/results/DATE.jsonl; the table with medians and ratios goes to stdout and between the marks of
bench/README.md. Data goes below --scratch, which must be on a real disk and, if PostgreSQL is started as root, in a place
that the user `postgres` can reach. Everything listens on loopback, and every process that is started is ended by its id.
What is not there is left out, and said to be.
"""

import argparse
import contextlib
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
READY_MAX = 30.0
# After so long whoever waits tries again. etcd would keep a write that it handed to the lost leader for 7 seconds.
WAIT_MAX = 1.0
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
BYTES = 256
KEYS = 1024
ASKED_BYTES = 64


def main():
    args = arguments()
    scratch = pathlib.Path(args.scratch).resolve() / f"pelago-bench-{os.getpid()}"
    scratch.mkdir(parents=True)
    scratch.chmod(0o755)
    results = []
    try:
        for group in args.only.split(","):
            if group == "failover":
                results += failover(args, scratch)
                continue
            with contextlib.ExitStack() as started:
                cases = GROUPS[group](args, scratch / group, started)
                for in_flight in IN_FLIGHT[group]:
                    results += alternate(args, group, in_flight, cases)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        # What was measured before something went wrong was measured all the same.
        keep(args, results)
        print(table(results))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", default="/var/tmp")
    parser.add_argument("--shown", default="cargo xtask bench", help=argparse.SUPPRESS)
    parser.add_argument("--peers", action="store_true", help="beside other systems")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--only", default=",".join([*GROUPS, "failover"]))
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="in results and README")
    parser.add_argument("--pelago", default=HERE.parent / "target/release/pelago")
    parser.add_argument("--etcd", default=shutil.which("etcd"))
    parser.add_argument("--etcd-load", default=HERE / "peers/etcd/target/release/etcd-load")
    parser.add_argument("--tonic-load", default=HERE / "peers/tonic/target/release/tonic-load")
    parser.add_argument("--tcp-load", default=HERE / "peers/tcp/target/release/tcp-load")
    parser.add_argument("--postgres", default=(glob.glob("/usr/lib/postgresql/*/bin") or [None])[0])
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - {*GROUPS, "failover"}
    if unknown:
        parser.error(f"there is no group {', '.join(unknown)}")
    return args


def keep(args, results):
    """Appends the lines to the results of the day, and puts the table into the README."""
    if not args.keep or not results:
        return
    day = time.strftime("%Y-%m-%d", time.gmtime())
    with open(HERE / f"results/{day}.jsonl", "a") as lines:
        lines.writelines(json.dumps(line) + "\n" for line in results)
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    build = next((line["figures"] for line in results if "commit" in line.get("figures", {})), {})
    of = f"Commit {build.get('commit')}, {build.get('build')}; {build.get('cores')} cores of {build.get('processor')}, "
    of += f"{build.get('memory_mib')} MiB, {build.get('kernel')}. "
    of += f"{results[0]['at']} to {results[-1]['at']}; load before each run "
    loads = [line["load_before"] for line in results]
    of += f"{min(loads):.1f} to {max(loads):.1f}."
    of = textwrap.fill(of, 120)
    readme.write_text(f"{before}{BEGIN}\n{of}\n\n```sh\n{args.shown}\n```\n\n{table(results)}\n{END}{after}")


def alternate(args, group, in_flight, cases):
    lines = []
    for turn in range(args.rounds):
        for name, run in cases:
            load = os.getloadavg()[0]
            command, figures = run(in_flight)
            line = {"group": group, "system": name, "round": turn, "in_flight": in_flight, "load_before": load}
            line |= {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": command, "figures": figures}
            lines.append(line)
            print(f"{group} {in_flight:>4} {name:28} {figures['per_second']:>10.0f}/s", file=sys.stderr)
    return lines


# What is measured: for each group, systems and how each is asked.


def propose(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 3)
    cases = [("pelago, 3 nodes", lambda n: mesh.bench("propose", n, "--bytes", BYTES))]
    if args.peers and is_there("etcd", args.etcd) and is_there("etcd-load", args.etcd_load):
        etcd = Etcd(args, scratch / "etcd", started)
        cases.append((f"etcd {etcd.version}, 3 nodes", etcd.put))
    return cases


def task(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 1)
    cases = [
        ("pelago, 1 node", lambda n: mesh.bench("task", n)),
        ("pelago, 1 node, over HTTP", lambda n: mesh.bench("task", n, "--http")),
    ]
    if args.peers and is_there("PostgreSQL", args.postgres):
        postgres = Postgres(args, scratch / "postgres", started)
        cases.insert(1, (f"PostgreSQL {postgres.version}, 1 node", postgres.cycle))
    return cases


def task3(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 3)
    return [("pelago, 3 nodes", lambda n: mesh.bench("task", n))]


def turn(args, scratch, started):
    three = Mesh(args, scratch / "three", started, 3)
    one = Mesh(args, scratch / "one", started, 1)
    return [
        ("pelago, 3 nodes", lambda n: three.bench("turn", n, "--keys", KEYS)),
        ("pelago, 1 node", lambda n: one.bench("turn", n, "--keys", KEYS)),
    ]


def tell(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 1)
    cases = [("pelago, 1 node", lambda size: mesh.bench("tell", 1, "--bytes", size.split()[0]))]
    if args.peers and is_there("tonic-load", args.tonic_load):
        tonic = Tonic(args, scratch / "tonic", started)
        cases.append(("tonic 0.14 stream", tonic.tell))
    return cases


def ask(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 1)
    cases = [("pelago, 1 node", lambda n: mesh.bench("ask", n, "--bytes", ASKED_BYTES))]
    if args.peers and is_there("tonic-load", args.tonic_load):
        tonic = Tonic(args, scratch / "tonic", started)
        cases.append(("tonic 0.14 unary", tonic.ask))
    return cases


def pinned(args, scratch, started):
    """One in flight, the node on one core and whoever asks on another."""
    mesh = Mesh(args, scratch / "pelago", started, 1, on=(0,))
    cases = [("pelago, 1 node, pinned", lambda n: mesh.bench("ask", n, "--bytes", ASKED_BYTES, on=(1,)))]
    if args.peers and is_there("tcp-load", args.tcp_load):
        tcp = Tcp(args, scratch / "tcp", started)
        cases.append(("blocking TCP, pinned", tcp.ask))
    if args.peers and is_there("tonic-load", args.tonic_load):
        tonic = Tonic(args, scratch / "tonic", started, on=(0,))
        cases.append(("tonic 0.14 unary, pinned", lambda n: tonic.ask(n, on=(1,))))
    return cases


def half(args, scratch, started):
    """What is due at half of full speed: latency counts from then."""
    mesh = Mesh(args, scratch / "pelago", started, 1)

    def ask(_):
        _, full = mesh.bench("ask", 256, "--bytes", ASKED_BYTES)
        return mesh.bench("ask", 256, "--bytes", ASKED_BYTES, "--rate", int(full["per_second"] / 2))

    def tell(_):
        _, full = mesh.bench("tell", 1, "--bytes", ASKED_BYTES)
        return mesh.bench("tell", 1, "--bytes", ASKED_BYTES, "--rate", int(full["per_second"] / 2))

    return [("pelago, ask at half of full speed", ask), ("pelago, tell at half of full speed", tell)]


def same_node(args, scratch, started):
    mesh = Mesh(args, scratch / "pelago", started, 1)
    return [
        ("pelago, tell 16 B", lambda _: mesh.bench("tell", None, "--bytes", 16, "--same-node")),
        ("pelago, ask 64 B", lambda _: mesh.bench("ask", None, "--bytes", ASKED_BYTES, "--same-node")),
    ]


GROUPS = {"propose": propose, "task": task, "task3": task3, "turn": turn, "tell": tell, "ask": ask}
GROUPS |= {"pinned": pinned, "half": half, "same node": same_node}
# Of `tell`: the size of a message.
IN_FLIGHT = {"propose": (1, 16, 64, 256), "task": (1, 16, 64), "task3": (1, 64, 256), "turn": (1, 64)}
IN_FLIGHT |= {"tell": ("16 B", "128 B", "1024 B"), "ask": (1, 64, 256)}
IN_FLIGHT |= {"pinned": (1,), "half": ("half",), "same node": ("1",)}


def failover(args, scratch):
    """Kills a node of a fresh mesh each time, and says how long somebody had to wait."""
    lines = []
    with_etcd = args.peers and is_there("etcd", args.etcd)
    for turn in range(args.rounds):
        with contextlib.ExitStack() as started:
            mesh = Mesh(args, scratch / f"gap-{turn}", started, 3)
            lines.append(waited("leader killed: longest wait for a write", "pelago, 3 nodes", turn, mesh.gap()))
        if with_etcd:
            with contextlib.ExitStack() as started:
                etcd = Etcd(args, scratch / f"etcd-{turn}", started)
                name = f"etcd {etcd.version}, 3 nodes"
                lines.append(waited("leader killed: longest wait for a write", name, turn, etcd.gap()))
        with contextlib.ExitStack() as started:
            mesh = Mesh(args, scratch / f"home-{turn}", started, 3)
            lines.append(waited("holder killed: an agent's next turn", "pelago, 3 nodes", turn, mesh.new_home()))
    return lines


def waited(what, system, turn, ms):
    print(f"failover {what}: {system} {ms:.0f} ms", file=sys.stderr)
    return {"group": "failover", "what": what, "system": system, "round": turn, "load_before": os.getloadavg()[0],
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "waited_ms": ms}


def longest_wait(write, kill, seconds=6.0):
    """Writes one after the other, tries again what failed, and kills after a third of the time."""
    begun, killed, longest = time.monotonic(), False, 0.0
    while time.monotonic() - begun < seconds:
        if not killed and time.monotonic() - begun > seconds / 3:
            kill()
            killed = True
        asked = time.monotonic()
        while not write():
            time.sleep(0.005)
        if killed:
            longest = max(longest, time.monotonic() - asked)
    return longest * 1000


def post(address, path, body):
    """Whether it was taken."""
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode(), method="POST")
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=WAIT_MAX) as answer:
            return answer.status < 300
    except OSError:
        return False


class Processes:
    """Processes of one system; ended by their ids, politely first."""

    def __init__(self, args, scratch, started):
        self.args, self.scratch, self.running = args, scratch, []
        scratch.mkdir(parents=True)
        started.callback(self.end)

    def start(self, command, log, on=None, **more):
        with open(self.scratch / log, "ab") as stderr:
            process = subprocess.Popen(words_of(command, on), stderr=stderr, stdin=subprocess.DEVNULL, **more)
        self.running.append(process)
        return process

    def end(self):
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Mesh(Processes):
    def __init__(self, args, scratch, started, nodes, on=None):
        super().__init__(args, scratch, started)
        self.nodes, self.processes = [], {}
        for n in range(nodes):
            command = [args.pelago, "serve", "--found" if n == 0 else "--join"]
            command += [self.nodes[0]["mesh"]] if n > 0 else []
            command += ["--name", f"n{n + 1}", "--data-dir", scratch / f"n{n + 1}", "--port", "0"]
            command += ["--mesh-addr", "127.0.0.1:0", "--print-addr", "json", "--log-level", "warn"]
            process = self.start(command, f"n{n + 1}.log", on, stdout=subprocess.PIPE, text=True)
            line = process.stdout.readline()
            if not line:
                sys.exit(f"a node did not start: {(scratch / f'n{n + 1}.log').read_text()}")
            self.nodes.append(json.loads(line))
            self.processes[self.nodes[-1]["node"]] = process
        until(lambda: len(self.status()["voters"]) == (3 if nodes >= 3 else 1), "the voters are chosen")

    def status(self):
        with urllib.request.urlopen(f"http://{self.nodes[0]['http']}/api/v1/status", timeout=10) as answer:
            return json.load(answer)

    def leader(self):
        leader = self.status()["leader"]
        return next(node for node in self.nodes if node["node"] == leader)

    def gap(self):
        leader = self.leader()
        other = next(node for node in self.nodes if node != leader)
        task = {"agent": "echo", "prompt": "x"}
        write = lambda: post(other["http"], "/api/v1/tasks", task)
        return longest_wait(write, self.processes[leader["node"]].kill)

    def new_home(self):
        """Kills the node that holds an agent, which does not lead, and asks the agent at the leader."""
        leader = self.leader()
        for n in range(100):
            agent = f"counter:a{n}"
            assert post(leader["http"], f"/api/v1/agents/{agent}/ask", 1)
            with urllib.request.urlopen(f"http://{leader['http']}/api/v1/agents/{agent}", timeout=10) as answer:
                holder = json.load(answer)["node"]
            if holder != leader["node"]:
                break
        self.processes[holder].kill()
        killed = time.monotonic()
        while not post(leader["http"], f"/api/v1/agents/{agent}/ask", 1):
            time.sleep(0.005)
        return (time.monotonic() - killed) * 1000

    def bench(self, what, in_flight, *more, on=None):
        node = self.leader()
        url = f"http://{node['http']}" if "--http" in more else node["mesh"]
        command = [self.args.pelago, "bench", what, "--seconds", self.args.seconds]
        command += ["--in-flight", in_flight] if in_flight else []
        command += ["--warm-up", self.args.warm_up, "--url", url, "-o", "json", *more]
        shown = ["pelago", *command[1:]]
        return " ".join(str(word) for word in shown), json.loads(out(command, on))


class Etcd(Processes):
    def __init__(self, args, scratch, started):
        super().__init__(args, scratch, started)
        self.version = re.search(r"etcd Version: (\S+)", out([args.etcd, "--version"]))[1]
        self.members = {}
        clients, others = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
        members = ",".join(f"n{n}=http://127.0.0.1:{others[n]}" for n in range(3))
        for n in range(3):
            client, other = f"http://127.0.0.1:{clients[n]}", f"http://127.0.0.1:{others[n]}"
            command = [args.etcd, "--name", f"n{n}", "--data-dir", scratch / f"n{n}", "--log-level", "error"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", other, "--initial-advertise-peer-urls", other]
            command += ["--initial-cluster", members, "--initial-cluster-state", "new"]
            self.members[client.removeprefix("http://")] = self.start(command, f"n{n}.log", stdout=subprocess.DEVNULL)
        self.leader = None
        until(lambda: self.find_leader(clients), "etcd has a leader")

    def gap(self):
        other = next(member for member in self.members if member != self.leader)
        value = {"key": "YQ==", "value": "eA=="}
        return longest_wait(lambda: post(other, "/v3/kv/put", value), self.members[self.leader].kill)

    def find_leader(self, clients):
        for client in clients:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{client}/metrics") as answer:
                if b"etcd_server_is_leader 1" in answer.read():
                    self.leader = f"127.0.0.1:{client}"
        return self.leader

    def put(self, in_flight):
        numbers = [in_flight, self.args.seconds, self.args.warm_up, BYTES, KEYS]
        command = [self.args.etcd_load, self.leader, *numbers]
        return " ".join(["etcd-load", *map(str, command[1:])]), json.loads(out(command))


class Tcp(Processes):
    """Each end on a core of its own."""

    def __init__(self, args, scratch, started):
        super().__init__(args, scratch, started)
        server = self.start([args.tcp_load, "serve"], "log", (0,), stdout=subprocess.PIPE, text=True)
        self.address = server.stdout.readline().strip()

    def ask(self, _):
        command = [self.args.tcp_load, "ask", self.address, self.args.seconds, self.args.warm_up, ASKED_BYTES]
        return " ".join(["tcp-load", *map(str, command[1:])]), json.loads(out(command, (1,)))


class Tonic(Processes):
    def __init__(self, args, scratch, started, on=None):
        super().__init__(args, scratch, started)
        server = self.start([args.tonic_load, "serve"], "log", on, stdout=subprocess.PIPE, text=True)
        self.address = server.stdout.readline().strip()

    def tell(self, size):
        return self.load("tell", self.args.seconds, self.args.warm_up, size.split()[0])

    def ask(self, in_flight, on=None):
        return self.load("ask", in_flight, self.args.seconds, self.args.warm_up, ASKED_BYTES, on=on)

    def load(self, what, *numbers, on=None):
        command = [self.args.tonic_load, what, self.address, *numbers]
        return " ".join(["tonic-load", *map(str, command[1:])]), json.loads(out(command, on))


class Postgres(Processes):
    """One PostgreSQL with its default durability: fsync and synchronous_commit on."""

    def __init__(self, args, scratch, started):
        super().__init__(args, scratch, started)
        self.bin, self.port = pathlib.Path(args.postgres), free_port()
        as_user = {}
        if os.getuid() == 0:
            shutil.chown(scratch, "postgres")
            as_user = {"user": "postgres", "group": "postgres"}
        data = scratch / "data"
        out([self.bin / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], cwd=scratch, **as_user)
        command = [self.bin / "postgres", "-D", data, "-p", self.port, "-k", scratch]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=256MB", "-c", "max_connections=300"]
        self.start(command, "log", stdout=subprocess.DEVNULL, cwd=scratch, **as_user)
        self.address = ["-h", "127.0.0.1", "-p", self.port, "-U", "postgres"]
        until(lambda: answers([self.bin / "pg_isready", *self.address]), "PostgreSQL is ready")
        self.sql("-f", HERE / "peers/postgres/schema.sql")
        self.version = self.sql("-Atc", "show server_version").split()[0]

    def sql(self, *words):
        return out([self.bin / "psql", *self.address, "-q", *words, "postgres"])

    def cycle(self, in_flight):
        self.sql("-c", "truncate q", "-c", "vacuum analyze q")
        logs = self.scratch / "latency"
        script = HERE / "peers/postgres/cycle.sql"
        command = [self.bin / "pgbench", *self.address, "-n", "-M", "prepared", "-f", script, "-c", in_flight]
        command += ["-j", min(in_flight, 2), "-T", self.args.seconds, "-l", "--log-prefix", logs, "postgres"]
        shown = out(command)
        latencies = []
        for log in glob.glob(f"{logs}.*"):
            latencies += [int(line.split()[2]) for line in open(log)]
            os.remove(log)
        latencies.sort()
        rate = float(re.search(r"tps = ([\d.]+) \(without", shown)[1])
        figures = {"answers": len(latencies), "per_second": rate, "max_us": latencies[-1]}
        figures |= {f"p{q}_us": latencies[len(latencies) * q // 100] for q in (50, 95, 99)}
        return f"pgbench -n -M prepared -f cycle.sql -c {in_flight} -j {min(in_flight, 2)} -T {self.args.seconds}", figures


def is_there(what, path):
    if not path or not os.path.exists(path):
        print(f"left out: {what} is not there ({path})", file=sys.stderr)
        return False
    return True


def words_of(command, on):
    """The command, on these cores if there are any."""
    pin = ["taskset", "-c", ",".join(map(str, on))] if on else []
    return [str(word) for word in [*pin, *command]]


def out(command, on=None, **more):
    words = words_of(command, on)
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def answers(command):
    return subprocess.run([str(word) for word in command], capture_output=True).returncode == 0


def until(question, what):
    deadline = time.monotonic() + READY_MAX
    while not question():
        if time.monotonic() > deadline:
            sys.exit(f"not in time: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def table(results):
    """Medians of the rounds, and the ratio to the first system of the group."""
    rows, waits = {}, {}
    for line in results:
        if line["group"] == "failover":
            waits.setdefault((line["what"], line["system"]), []).append(line["waited_ms"])
            continue
        rows.setdefault((line["group"], line["in_flight"]), {}).setdefault(line["system"], []).append(line["figures"])
    text = ["| what | in flight, or size | system | per second (median, least to most) | p50, p95, p99 us | pelago is |"]
    text.append("|---|---|---|---|---|---|")
    median = lambda runs, name: statistics.median(run[name] for run in runs)
    for (group, in_flight), systems in rows.items():
        first = median(next(iter(systems.values())), "per_second")
        for system, runs in systems.items():
            rates = [run["per_second"] for run in runs]
            rate = statistics.median(rates)
            # Only of what does the same.
            ratio = "" if rate == first or group in ("half", "same node") else f"{first / rate:.2f}×"
            spread = f"{rate:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
            names = [name for name in ("p50_us", "p95_us", "p99_us") if name in runs[0]]
            micros = ", ".join(f"{median(runs, name):,.1f}" for name in names)
            text.append(f"| {group} | {in_flight} | {system} | {spread} | {micros} | {ratio} |")
    if waits:
        text += ["", "| what | system | ms (median, least to most) |", "|---|---|---|"]
    for (what, system), ms in waits.items():
        text.append(f"| {what} | {system} | {statistics.median(ms):,.0f} ({min(ms):,.0f} to {max(ms):,.0f}) |")
    return "\n".join(text)


if __name__ == "__main__":
    main()
