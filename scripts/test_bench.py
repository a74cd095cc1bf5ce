"""Tests of scripts/bench on synthetic results; nothing is timed.

    python3 scripts/test_bench.py
"""
import contextlib
import dataclasses
import importlib.util
import io
import json
import socket
import sys
import tempfile
import unittest
from xml.etree import ElementTree
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench import chart, comparisons, jobs, machine, measure, overview, render, results as store, workloads  # noqa: E402

# The script and its package have the same name, so the script is loaded by path.
spec = importlib.util.spec_from_file_location("bench_script", Path(__file__).resolve().parent / "bench.py")
script = importlib.util.module_from_spec(spec)
sys.modules["bench_script"] = script
spec.loader.exec_module(script)

SETUP = measure.Setup(root=Path("."), grimace=Path("g"), peers_python=None, peers_error="not installed: no network",
                      device="cpu", threads=2, torch_steps=60, compiled=True, precisions=["f32", "bf16"],
                      auto_precision="f32", train=Path("t"), validation=None, test=Path("x"), work=Path("w"))


def fake_results(rounds: int = 3) -> dict:
    """Results with known speeds: Grimace bf16 3000, 3300, 3600 and so on."""
    settings = {"quick": False, "device": "cpu", "rounds": rounds, "scaling_rounds": 1, "precisions": ["f32", "bf16"],
                "data": {"train": "images.csv", "test": "synthetic", "validation": "v.csv", "sizes": [1], "test_rows": 3589},
                "peers": True, "compiled": True, "keras": True, "torch_steps": 60, "threads": 2,
                "batches": [16, 64], "thread_counts": [1, 2], "program_sha256": "0"}
    found = {"format": store.FORMAT, "finished": "2026-01-02 03:04 UTC", "started": "2026-01-02 02:04 UTC",
             "settings": settings, "load_at_start": [0.1, 0.2, 0.3],
             "versions": {"grimace": "0.1.0", "python": "3.11.7"},
             "machine": {"cpu": "Example | CPU", "cores": 2, "virtual": True, "instructions": ["avx2"],
                         "memory_gib": 16.0, "system": "Example OS"}, "jobs": {}}
    speeds = {"Grimace f32": 2000, "Grimace bf16": 3000, "PyTorch fp32": 1000, "PyTorch fp32 channels_last": 1500,
              "PyTorch bf16 channels_last": 2000, "Keras": 1000}
    for round_ in range(rounds):
        for program, speed in speeds.items():
            speed *= 1 + 0.1 * round_
            add(found, "main", round_, program, images_per_second=speed, ms_per_step=64e3 / speed, rows=100,
                peak_bytes=5e8)
        add(found, "predict", round_, "predict", seconds=2.0 + round_)
        add(found, "start", round_, "start", error="no such flag")
    for program in ("PyTorch fp32 compiled", "PyTorch bf16 channels_last compiled"):
        add(found, "main", 0, program, error="no C++ compiler")
    return found


def add(found: dict, stage: str, round_: int, program: str, error: str | None = None, **metrics) -> None:
    """Adds a record of one program."""
    found["jobs"][store.key(stage, round_, program)] = {
        "stage": stage, "round": round_, "programs": [program], "error": error, "busy_before": 0.0, "others": 0.0,
        "metrics": [] if error else [{"program": program, **metrics}], "took_s": 1.0}


class Numbers(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        self.assertEqual(store.ratios({0: 10.0, 1: 30.0, 2: 7.0}, {0: 5.0, 1: 10.0, 3: 1.0}), [2.0, 3.0])
        self.assertEqual(store.ratios({0: 1.0}, {0: 0.0}), [])

    def test_best_has_the_highest_median(self):
        found = fake_results()
        self.assertEqual(store.best(found, "main", comparisons.GRIMACE), "Grimace bf16")
        self.assertEqual(store.best(found, "main", comparisons.TORCH_F32), "PyTorch fp32 channels_last")
        self.assertIsNone(store.best(found, "batch 16", comparisons.GRIMACE))

    def test_errors_are_of_missing_metrics_only(self):
        found = fake_results()
        record = found["jobs"]["main/0/Keras"]
        record["error"], record["programs"] = "broke half-way", ["Keras", "Other"]
        self.assertIsNone(store.error(found, "main", "Keras"))
        self.assertEqual(store.error(found, "main", "Other"), "broke half-way")

    def test_verdicts_distinguish_median_and_rounds(self):
        for values, expected in [([1.3, 1.4], "yes"), ([1.2, 1.3, 1.4], "yes, but not in every round"),
                               ([1.1, 1.2], "no"), ([1.1, 1.2, 1.3], "no, though in some rounds"),
                               ([], "not measured"), ([1.25], "yes")]:
            self.assertEqual(render.check_min(values, 1.25)[1], expected, values)
        self.assertEqual(render.check_max([2.0, 2.0], 2.0), ["2.00 (2.00–2.00) s", "no"])


class Pages(unittest.TestCase):
    def line(self, page: str, beginning: str) -> list[str]:
        """The cells of the first table line with this beginning."""
        line = next(line for line in page.splitlines() if line.startswith(f"| {beginning}"))
        return [cell.strip() for cell in line.strip("|").split("|")]

    def test_main_table(self):
        page = render.page(fake_results())
        self.assertEqual(self.line(page, "Grimace bf16")[1:], ["3,300", "3,000–3,600", "19.4", "1"])
        self.assertEqual(self.line(page, "PyTorch bf16 channels_last ")[1:],
                         ["2,200", "2,000–2,400", "29.1", "1.50 (1.50–1.50)"])
        self.assertEqual(self.line(page, "PyTorch fp32 compiled")[1:], ["failed: no C++ compiler", "-", "-", "-"])

    def test_targets(self):
        page = render.page(fake_results())
        self.assertEqual(self.line(page, "Grimace bf16 to PyTorch bf16 channels_last")[1:],
                         ["1.25 or more", "1.50 (1.50–1.50)", "yes"])
        self.assertEqual(self.line(page, "Grimace bf16 to Keras")[1:], ["2.5 or more", "3.00 (3.00–3.00)", "yes"])
        self.assertEqual(self.line(page, "start to first step")[1:], ["under 2 s", "-", "not measured"])
        self.assertEqual(self.line(page, "predict 3,589 images")[1:],
                         ["under 3 s", "3.00 (2.00–4.00) s", "no, though in some rounds"])

    def test_columns_are_aligned_and_bars_are_escaped(self):
        lines = render.table(["a", "b"], [["x|y", "1"], ["long text", "1,000"]]).splitlines()
        self.assertEqual(len({len(line) for line in lines}), 1)
        self.assertIn("x\\|y", lines[2])
        self.assertTrue(lines[1].endswith(":|") or lines[1].endswith(": |"))

    def test_missing_results_are_listed(self):
        found = fake_results()
        del found["jobs"]["main/1/Keras"]
        found["finished"] = None
        page = render.page(found)
        self.assertIn("Keras (1 of 3 rounds missing)", page)
        self.assertIn("not finished", page)
        self.assertIn("- start: failed: no such flag", page)
        self.assertIn("Not measured: all results above are from the CPU", page)
        found["jobs"] = {}
        self.assertIn("not measured", render.page(found))
        found["settings"] |= {"device": "cuda", "quick": True, "peers": False, "thread_counts": []}
        found["settings"]["precisions"] = ["f32"]
        self.assertIn("Do not quote", render.page(found))

    def test_a_disturbed_machine_is_reported_at_the_top(self):
        found = fake_results()
        self.assertNotIn("**In", render.page(found))
        found["jobs"]["main/0/Keras"]["others"] = 0.9
        self.assertIn("**In 1 of", render.page(found))
        self.assertNotIn("unreliable", render.page(found))
        for record in found["jobs"].values():
            record["others"] = 0.9
        self.assertIn("unreliable", render.page(found))


class Workloads(unittest.TestCase):
    def results(self) -> dict:
        """Three rounds with the record network, inference and a busy process."""
        found = fake_results()
        for round_ in range(3):
            for program, speed in {"Grimace f32": 200, "Grimace bf16": 300, "PyTorch fp32": 100,
                                   "PyTorch bf16 channels_last": 200}.items():
                add(found, "record", round_, program, images_per_second=speed, ms_per_step=1.0)
                add(found, "shared", round_, program, images_per_second=speed * 5, ms_per_step=1.0)
            for program, seconds in {"Grimace": 0.5, "PyTorch TorchScript": 3.0, "ONNX Runtime": 1.0}.items():
                add(found, "notebook, 3,589 images", round_, program, seconds=seconds + round_)
            for processes, seconds in ((1, 30.0), (2, 20.0)):
                add(found, "sweep", round_, f"--parallel {processes}", seconds=seconds + round_)
        add(found, "notebook, 1 image", 0, "Grimace", error="no model")
        return found

    def test_sections(self):
        page = render.page(self.results())
        for line in ["| f32       |     200 (200–200) | 100 (100–100) | 2.00 (2.00–2.00) |",
                     "| Grimace bf16               | 3,300 (3,000–3,600) | 1,500 (1,500–1,500) | 0.45 (0.42–0.50) |",
                     "Beside the busy process, Grimace bf16 is 1.50 (1.50–1.50) times as fast as PyTorch bf16"]:
            self.assertIn(line.replace(" ", ""), page.replace(" ", ""))
        self.assertIn("- notebook, 1 image, Grimace: failed: no model", page)
        # 30 / 20, 31 / 21, 32 / 22.
        self.assertIn("| 31.0 (30.0–32.0) | 21.0 (20.0–22.0) | 1.48 (1.45–1.50) |", page)
        for line in ["| record network, Grimace f32 to PyTorch's best | 1.3 or more | 2.00 (2.00–2.00) | yes |",
                     "| speed kept beside a busy process, Grimace bf16 | 0.6 or more | 0.45 (0.42–0.50) | no |"]:
            self.assertIn(line.replace(" ", ""), page.replace(" ", ""))
        # The faster peer over Grimace, round by round: 1.0 / 0.5, 2.0 / 1.5, 3.0 / 2.5.
        self.assertIn("1.33 (1.20–2.00)", page)
        self.assertNotIn("Record network", render.page(fake_results()))

    def test_overview_has_a_column_for_each_instruction_set(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("avx2", "avx512-bf16", "cuda"):
                found = self.results()
                if name == "cuda":
                    found["settings"]["device"] = "cuda"
                store.save(found, Path(folder) / f"benchmarks-{name}.json")
            page = overview.page(Path(folder))
        self.assertIn("| avx512-bf16 |", " ".join(page.split()))
        self.assertLess(page.index("benchmarks-avx512-bf16.md"), page.index("benchmarks-avx2.md"))
        self.assertNotIn("cuda", page)
        names = ["none", "avx512-bf16-epyc", "other", "avx2", "avx512-bf16"]
        self.assertEqual(sorted(names, key=overview.rank), ["avx512-bf16", "avx512-bf16-epyc", "avx2", "none", "other"])
        self.assertEqual(page.count("2.00 (2.00–2.00)"), 4, "Keras and the record network, float32, twice")

    def test_instruction_sets_name_files(self):
        for kernels, name in [("AVX-512, bf16, Winograd", "avx512-bf16"), ("AVX2, Winograd also in bf16", "avx2"), ("AVX2", "avx2"),
                              ("none", "none")]:
            self.assertEqual(workloads.instruction_set({"custom_kernels": kernels}), name)

    def test_a_busy_process_is_no_disturbance_and_ends(self):
        child = measure.Child(0, "", "", 1.0, 0, others=1.0)
        processes = []
        with mock.patch.object(workloads.subprocess, "Popen", lambda _: processes.append(mock.Mock()) or processes[0]):
            self.assertIsNone(workloads.shared(lambda: ([], child))[1].others)
        processes[0].kill.assert_called_once()


class Running(unittest.TestCase):
    def test_messages_lose_folders_and_host(self):
        with mock.patch.object(socket, "gethostname", return_value="buildbox"):
            text = measure.clean("error: /home/me/x/python: no\n file '/tmp/a b' on buildbox, 5 images/s ~/data/x.csv")
        self.assertEqual(text, "error: python: no file 'a b' on this machine, 5 images/s x.csv")
        self.assertLessEqual(len(measure.clean("x" * 500)), 160)

    def test_reasons(self):
        def child(code, stderr):
            return measure.Child(code, "", stderr, 1.0, 0, None)
        self.assertEqual(measure.reason(child(-9, "")), "killed by SIGKILL")
        self.assertEqual(measure.reason(child(2, "error: unexpected\n\nUsage: x\n")), "error: unexpected")
        self.assertEqual(measure.reason(child(1, "Traceback\nValueError: no\nhint\n")), "ValueError: no")
        self.assertEqual(measure.reason(child(3, "")), "exit code 3")

    def test_csv_pieces(self):
        with tempfile.TemporaryDirectory() as folder:
            csv = Path(folder) / "a.csv"
            csv.write_text("h\n1\n2\n3")
            self.assertEqual(measure.head(csv, 2, Path(folder) / "b.csv").read_text(), "h\n1\n2\n")
            self.assertEqual(measure.repeated(csv, 2, Path(folder) / "c.csv").read_text(), "h\n1\n2\n3\n1\n2\n3\n")

    def test_results_round_trip_and_other_formats_are_rejected(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "r.json"
            store.save(fake_results(), path)
            self.assertEqual(store.load(path), json.loads(json.dumps(fake_results())))
            for text in ("{", "[]", '{"format": 99}'):
                path.write_text(text)
                with self.assertRaises(ValueError):
                    store.load(path)

    def test_the_order_alternates_and_keys_are_unique(self):
        jobs = script.all_jobs(SETUP, fake_results()["settings"])
        self.assertEqual(len({store.key(job.stage, job.round, job.name) for job in jobs}), len(jobs))
        order = {round_: [job.name for job in jobs if job.stage == "main" and job.round == round_] for round_ in (0, 1)}
        self.assertEqual(order[0], order[1][::-1])

    def test_limited_to_avx2(self):
        found = fake_results()
        found["settings"] |= {"isa": "avx2", "precisions": ["f32"]}
        page = render.page(found)
        self.assertIn("`make bench ARGS='--isa avx2'`", page)
        self.assertIn("limited all programs to AVX2", page)
        self.assertNotIn("limited", render.page(fake_results()))
        setup = dataclasses.replace(SETUP, precisions=["f32"])
        programs = {program for job in jobs.all_jobs(setup, found["settings"]) for program in job.programs}
        self.assertIn("PyTorch fp32 channels_last compiled", programs)
        self.assertFalse([program for program in programs if "bf16" in program])

    def test_targets_of_avx2_are_for_the_cpu(self):
        found = fake_results()
        found["versions"]["custom kernels"] = "AVX2, Winograd"
        self.assertIn("| 3.0 or more ", render.page(found))
        found["settings"]["device"] = "cuda"
        self.assertNotIn("| 3.0 or more ", render.page(found))

    def test_without_rounds_there_is_no_scaling(self):
        found = fake_results()
        self.assertIn("## Scaling", render.page(found))
        found["settings"]["scaling_rounds"] = 0
        self.assertNotIn("## Scaling", render.page(found))
        self.assertFalse([job for job in jobs.all_jobs(SETUP, found["settings"]) if job.stage.startswith("batch")])

    def test_a_missing_peer_is_a_record(self):
        job = next(job for job in jobs.main_jobs(SETUP, fake_results()["settings"], 0) if job.name == "Keras")
        with mock.patch.object(machine, "wait_until_idle", return_value=0.0):
            record = script.run_job(job, 0.0)
        self.assertEqual((record["metrics"], record["error"]), ([], "not installed: no network"))

    def test_render_writes_the_page_beside_its_numbers(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            path = Path(folder) / "r.json"
            store.save(fake_results(), path)
            with mock.patch.object(sys, "argv", ["bench.py", "--render", str(path)]):
                self.assertEqual(script.main(), 0)
            self.assertEqual((Path(folder) / "r.md").read_text(encoding="utf-8"), render.page(fake_results()))


class Chart(unittest.TestCase):
    def test_bars_are_sorted_and_parse(self) -> None:
        for theme in chart.COLORS:
            svg = chart.speed_chart(fake_results(), theme)
            root = ElementTree.fromstring(svg)
            bars = [float(rect.get("width")) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
            self.assertEqual(len(bars), 6, "programs that failed have no bar")
            self.assertEqual(bars, sorted(bars, reverse=True))
            self.assertAlmostEqual(bars[0] / bars[-1], 3.0, places=2)
            self.assertIn("Example | CPU, 2 cores", svg)


if __name__ == "__main__":
    unittest.main()
