"""What all sessions share is the image: memory of the keeper's, which is a file without a name. A session
that writes to it, by whatever way, writes to a copy of its own."""

import unittest

import hostile

# Bytes that are in the image for certain, and where a str of ASCII has them.
FIND = """
text = json.decoder.JSONDecodeError.__doc__
address = id(text) + 48
assert ctypes.string_at(address, 8).decode() == text[:8]


def line_of(address):
    for line in open("/proc/self/maps"):
        begin, end = (int(x, 16) for x in line.split()[0].split("-"))
        if begin <= address < end:
            return line
"""


class Image:
    """At each level."""

    def setUp(self):
        if "asan" in self.server.value(self.session(), "open('/proc/self/maps').read()"):
            self.skipTest("a server with sanitizers does not share its image")

    def image_lines(self):
        return self.ask("found = [l for l in open('/proc/self/maps') if 'memfd:image' in l]")

    def test_every_mapping_of_it_is_private_and_none_can_be_executed(self):
        lines = self.image_lines()
        self.assertGreater(len(lines), 3)
        self.assertEqual({line.split()[1] for line in lines}, {"rw-p"})

    def test_libraries_are_two_mappings_each(self):
        lines = self.ask("found = [l for l in open('/proc/self/maps') if '/lib' in l and '.so' in l]")
        names = {line.split()[-1] for line in lines}
        self.assertGreater(len(names), 5)
        self.assertLess(len(lines), 2 * len(names))

    def test_the_file_itself_is_out_of_reach(self):
        found = self.ask("""
found = []
for fd in os.listdir("/proc/self/fd"):
    name = attempt(os.readlink, f"/proc/self/fd/{fd}")
    if "memfd:image" in name:
        found.append(name)
for line in open("/proc/self/maps"):
    if "memfd:image" in line:
        begin, end = (f"{int(x, 16):x}" for x in line.split()[0].split("-"))
        for flags in (os.O_RDONLY, os.O_RDWR):
            got = attempt(os.open, f"/proc/self/map_files/{begin}-{end}", flags)
            if isinstance(got, int):
                found.append(line)
""")
        self.assertEqual(found, [])

    def test_what_one_session_writes_to_it_no_other_sees(self):
        before = self.session()
        self.assertIn("memfd:image", self.ask(FIND + "found = line_of(address)"))
        wrote = self.ask(FIND + """
ctypes.memmove(address, b"Hijacked", 8)                              # as any bug could
r, w = os.pipe()
os.write(w, b"Hijacked")
libc.read(r, ctypes.c_void_p(address + 8), ctypes.c_size_t(8))       # through the kernel
data = [line for line in open("/proc/self/maps") if "memfd:image" in line]
for line in data[:50]:                                               # libraries' data, with the same bytes
    begin = int(line.split()[0].split("-")[0], 16)
    ctypes.memmove(begin, ctypes.string_at(begin, 4096), 4096)
found = text[:16]
""")
        self.assertEqual(wrote, "HijackedHijacked")
        for identifier in (before, self.session(), self.session()):
            self.assertNotIn("Hijacked", self.ask(FIND + "found = text", identifier))

    def test_a_session_that_lets_go_of_it_harms_itself_alone(self):
        victim = self.session()
        self.server.execute(self.session(), """
for line in open("/proc/self/maps").read().splitlines():
    if "memfd:image" in line:
        begin, end = (int(x, 16) for x in line.split()[0].split("-"))
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), 9)    # MADV_REMOVE
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), 4)    # MADV_DONTNEED
""", check=False)
        for identifier in (victim, self.session(), self.session()):
            self.assertEqual(self.server.value(identifier, "sum(range(10))"), 45)

    def test_memory_of_the_image_can_be_given_back_and_taken_again(self):
        found = self.ask("""
import gc
for _ in range(3):
    blocks = [bytearray(n % 5000 + 1) for n in range(40000)]
    del blocks[::2]
    libc.malloc_trim(0)
    blocks += [bytearray(n % 3000 + 1) for n in range(20000)]
    ok = all(not any(b) for b in blocks)
    del blocks
    gc.collect()
    libc.malloc_trim(0)
found = ok
""")
        self.assertTrue(found)


hostile.each_level(globals(), Image)


def tearDownModule():
    hostile.stop_servers()


if __name__ == "__main__":
    unittest.main()
