"""Which tests `./dev test NAME...` runs: tests/run.py, chosen()."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests"))

import run


class Selection(unittest.TestCase):
    def test_every_suite_of_the_build_has_its_name(self):
        listed = subprocess.run(["/usr/bin/meson", "introspect", "--tests", BUILD], check=True,
                                stdout=subprocess.PIPE).stdout
        names = {test["name"] for test in json.loads(listed)}
        self.assertGreater(len(names), 40)
        for name in names:
            self.assertIn(("unit", {name: set()}), run.chosen([name]))

    def test_every_python_file_has_its_name(self):
        for name in run.python_files():
            self.assertIn(("python", {name: set()}), run.chosen([f"tests/e2e/{name}.py"]))

    def test_a_name_of_both_means_both(self):
        both = sorted(run.c_tests() & set(run.python_files()))
        self.assertTrue(both)
        self.assertEqual([("unit", {both[0]: set()}), ("python", {both[0]: set()})],
                         run.chosen(both[:1]))

    def test_a_case_is_looked_for_where_it_is(self):
        case = f"Selection.{self._testMethodName}"
        self.assertEqual([("python", {"selection_test": {case}})],
                         run.chosen([f"selection_test.{case}"]))
        self.assertEqual([("python", {"selection_test": set()})],
                         run.chosen([f"selection_test.{case}", "selection_test"]))

    def test_what_is_not_there_is_an_error(self):
        for name in ("no_such_test", "selection_test.NoSuch" + "Case", "lint.tidy", "aca_fuzz.x"):
            with self.subTest(name), self.assertRaises(SystemExit):
                run.chosen([name])

    def test_a_part_is_all_of_it(self):
        self.assertEqual([("lint", {}), ("unit", {})], run.chosen(["unit", "lint", "cli_test"])[:2])
        self.assertEqual(["lint", "unit", "python", "sanitize", "leaks", "fuzz"],
                         [part for part, _ in run.chosen([])])
        self.assertEqual(list(run.PARTS), [part for part, _ in run.chosen([], set())])
        self.assertEqual([("roots", {})], run.chosen(["roots"]))


if __name__ == "__main__":
    unittest.main()
