"""Measures `grimace serve` beside a FastAPI service of the same model, in turn.

    python3 scripts/serve/measure.py RUN --face face.png --photo photo.jpg --out results.json

Needs a release build, `cargo build --release --example serve_load`, and an environment with
scripts/serve/requirements.txt and torch (--python). Prints requests per second, latencies, failures
and memory.
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GRIMACE = ROOT / "target/release/grimace"
LOAD = ROOT / "target/release/examples/serve_load"


def free_port() -> int:
    """A port on which nothing listens, so that no other service is measured instead."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A running service, and its memory. `{port}` in its command is a free port."""

    def __init__(self, command: list[str], env: dict[str, str]):
        self.port = port = free_port()
        command = [part.replace("{port}", str(port)) for part in command]
        self.process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"{command[0]} ended with {self.process.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    time.sleep(1)
                    return
            time.sleep(0.1)
        sys.exit(f"{command[0]} does not listen on port {port}")

    def memory(self) -> float:
        """Resident memory of the process and its children in MB."""
        pids = [str(self.process.pid)]
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", pids[0]], capture_output=True, text=True, check=False)
        total = 0
        for pid in pids + listed.stdout.split():
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        return total / 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def load(port: int, file: Path, query: str, content_type: str, *args: str) -> dict:
    url = f"http://127.0.0.1:{port}/v1/predict{query}"
    command = [str(LOAD), url, str(file), "--type", content_type, *args]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def services(args) -> dict:
    run, cores = str(args.run), os.cpu_count() or 1
    command = [str(GRIMACE), "serve", run, "--addr", "127.0.0.1:{port}", "--quiet", *args.serve.split()]
    found = {"grimace": lambda: Service(command, {"OMP_WAIT_POLICY": "passive"})}
    model = args.out.with_name(args.out.stem + "-model.pt")
    subprocess.run([str(GRIMACE), "export", run, "--out", str(model), "--force"], check=True, capture_output=True)
    env = {"MODEL": str(model.resolve()), "WEIGHTS": str(args.weights or ""), "OMP_WAIT_POLICY": "passive"}
    # All cores either way: threads of one process, or a process for each core.
    for workers, threads in sorted({(1, cores), (cores, 1)}):
        peer = [str(args.python), "-m", "uvicorn", "fastapi_peer:app", "--app-dir", "scripts/serve"]
        peer += ["--port", "{port}", "--workers", str(workers), "--log-level", "warning", "--no-access-log"]
        settings = {**env, "THREADS": str(threads)}
        found[f"fastapi, {workers} workers, {threads} threads"] = lambda peer=peer, settings=settings: Service(
            peer, settings
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--face", type=Path, required=True, help="a PNG of 48x48 pixels")
    parser.add_argument("--photo", type=Path, help="a JPEG of a megapixel, for faces=detect")
    parser.add_argument("--weights", type=Path, help="centerface.onnx, for the peer")
    parser.add_argument("--python", type=Path, default=sys.executable)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--serve", default="", help="more options of grimace serve")
    parser.add_argument("--only", help="only services whose name contains this")
    parser.add_argument("--soak", type=int, default=0, help="requests to grimace alone, for its memory")
    args = parser.parse_args()
    found = {name: start for name, start in services(args).items() if not args.only or args.only in name}
    cases = {"face": (args.face, "", "image/png")}
    if args.photo:
        cases["photo"] = (args.photo, "?faces=detect", "image/jpeg")
    results = {"machine": platform.processor(), "cores": os.cpu_count(), "seconds": args.seconds, "rows": []}
    for turn in range(args.rounds):
        for name, start in found.items():
            with start() as service:
                for case, (file, query, kind) in cases.items():
                    for connections in args.connections:
                        limits = ["--connections", str(connections), "--seconds", str(args.seconds)]
                        row = load(service.port, file, query, kind, *limits)
                        row |= {"service": name, "case": case, "round": turn, "memory_mb": service.memory()}
                        results["rows"].append(row)
                        print(json.dumps(row), file=sys.stderr, flush=True)
    if args.soak:
        with found["grimace"]() as service:
            load(service.port, args.face, "", "image/png", "--requests", "1000", "--seconds", "60")
            before = service.memory()
            # The time is a bound for a service that hangs: even 20 requests per second are enough.
            limits = ["--requests", str(args.soak), "--seconds", str(60 + args.soak / 20)]
            row = load(service.port, args.face, "", "image/png", *limits)
            if row["requests"] != args.soak:
                sys.exit(f"{row['requests']} of {args.soak} requests succeeded: {row['first_failure']}")
            results["soak"] = row | {"before_mb": before, "after_mb": service.memory()}
            print(json.dumps(results["soak"]), file=sys.stderr)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    table(results["rows"])


def table(rows: list[dict]):
    """Medians over the rounds."""
    keys = {(row["case"], row["connections"], row["service"]): None for row in rows}
    for case, connections, service in sorted(keys):
        wanted = (case, connections, service)
        same = [row for row in rows if (row["case"], row["connections"], row["service"]) == wanted]
        median = {key: statistics.median(row[key] or 0 for row in same) for key in ["per_second", "p50_ms", "p99_ms"]}
        failures = sum(row["failures"] for row in same)
        print(f"{case:6} {connections:4} {service:32} {median} failures {failures}")


if __name__ == "__main__":
    main()
