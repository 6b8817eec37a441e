"""test_reload.py - reloads under load: each session and each delivery by one configuration, whole

tests/reload.py is the load and the judge, and a command for longer runs.
"""
import pathlib
import sys
import unittest

import harness

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import reload  # noqa: E402  (beside this folder)


class Reload(unittest.TestCase):
    def test_one_configuration_each(self):
        exact = not harness.sanitized()     # else what was freed is kept
        load = reload.Reloads(self, 600 if exact else 200)
        before, after = load.run(26, settle_seconds=3 if exact else 0, warm_messages=100)
        self.assertGreater(load.crossed, 0)     # else it has proved nothing
        self.assertGreater(load.later, 0)
        if exact:   # were they all kept, it would be 58 MiB
            self.assertLess(after, before + (32 << 20))
            self.assertLess(load.held_growth, reload.HELD_BYTES)
        load.server.stop()


if __name__ == "__main__":
    harness.main()
