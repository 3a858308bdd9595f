#!/usr/bin/python3
"""The escape tests on Debian 12's own kernel, in QEMU, which emulates a machine where there is no KVM.

    kernel.py [TEST_FILE...]    as root; without files: the walls of tests/sandbox

The kernel is the one that apt has as linux-image-amd64 of bookworm, older than what this machine may run;
the system is root.py's bookworm with this tree built in it, copied to an image of a disk. Nothing of
the guest reaches this machine: it has no network, and its disk is a copy. Its last line is that of
tests/run_python.py.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import root

RELEASE = "bookworm"
TESTS = ("tests/sandbox/escapes_test.py", "tests/sandbox/walls_test.py")
MODULES = ("virtio_pci", "virtio_blk", "ext4")
MEMORY_MB = 3072
SECONDS = 3600
COUNTS = re.compile(r"^\d+ passed, (\d+) failed, \d+ skipped\s*$")

# The first process, until the disk is there.
FIRST = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module; done
/bin/busybox mount -t ext4 /dev/vda /disk
/bin/busybox mount --move /dev /disk/dev
exec /bin/busybox switch_root /disk /bin/sh /guest
"""

GUEST = """
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /tmp /run; do mount -t tmpfs -o mode=1777 tmpfs $directory; done
ip link set lo up
hostname guest
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CARREL_BUILD=/src/build
cd /src
echo "Linux $(uname -r)"
build/carrel doctor
/usr/bin/python3 tests/run_python.py --jobs 1 --seconds {seconds} {files}
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL,
                          **options)


def module_files(tree, names):
    """The files of kernel modules and of what they depend on, in the order of loading."""
    files = {path.stem.replace("-", "_"): path for path in tree.glob("lib/modules/*/kernel/**/*.ko")}
    found = []

    def add(name):
        path = files[name]  # those that are built in are nobody's dependency
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes()).group(1).decode()
        for other in filter(None, depends.split(",")):
            add(other.replace("-", "_"))
        if path not in found:
            found.append(path)

    # Which checksums ext4 uses, modules do not say.
    for name in ("crc32c_generic", *names):
        if name in files:
            add(name)
    return found


def make_kernel(base):
    """(the kernel, the archive its first process is in)."""
    system = root.make(RELEASE)
    root.enter(system, ["apt-get", "update", "-q"])
    if root.enter(system, ["sh", "-ec", "cd /var/tmp; rm -f linux-image-*; apt-get download $(apt-cache "
                           "depends linux-image-amd64 | sed -n 's/.*Depends: //p')"]) != 0:
        sys.exit("kernel.py: no kernel")
    package, = (system / "var/tmp").glob("linux-image-*.deb")
    tree = base / "kernel"
    run("dpkg-deb", "-x", package, tree)
    first = base / "first"
    for name in ("bin", "dev", "disk"):
        (first / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", first / "bin/busybox")
    files = module_files(tree, MODULES)
    for path in files:
        shutil.copy(path, first)
    (first / "init").write_text(FIRST.format(modules=" ".join(path.name for path in files)))
    (first / "init").chmod(0o755)
    names = "".join(f"{path.relative_to(first)}\n" for path in sorted(first.rglob("*")))
    archive = base / "first.cpio"
    with archive.open("wb") as out:
        subprocess.run(["/bin/busybox", "cpio", "-o", "-H", "newc"], input=names.encode(), stdout=out,
                       stderr=subprocess.DEVNULL, cwd=first, check=True)
    return next((tree / "boot").glob("vmlinuz-*")), archive


def make_disk(base, files):
    """An image of the system with this tree, built."""
    system = root.make(RELEASE)
    root.copy_tree(system)
    if root.enter(system, ["./dev", "build"]) != 0:
        sys.exit("kernel.py: the build failed")
    (system / "guest").write_text(GUEST.format(files=" ".join(files), seconds=SECONDS))
    disk = base / "disk.ext4"
    used = int(root.said("du", "-sm", "--one-file-system", str(system)).split()[0])
    run("mke2fs", "-q", "-t", "ext4", "-d", system, disk, f"{used * 5 // 4 + 1024}M")
    return disk


def boot(kernel, archive, disk):
    """What the guest said on its console."""
    done = subprocess.run(
        ["qemu-system-x86_64", "-machine", "accel=kvm:tcg", "-cpu", "max", "-smp", "2", "-m",
         str(MEMORY_MB), "-nographic", "-no-reboot", "-nic", "none", "-kernel", str(kernel), "-initrd",
         str(archive), "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on",
         "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", timeout=2 * SECONDS, check=False)
    return done.stdout


def main():
    with tempfile.TemporaryDirectory(prefix="carrel-kernel-", dir="/var/tmp") as directory:
        base = pathlib.Path(directory)
        said = boot(*make_kernel(base), make_disk(base, sys.argv[1:] or TESTS))
    print(said)
    counts = [match for match in map(COUNTS.match, said.splitlines()) if match]
    if not counts:
        sys.exit("kernel.py: the guest did not come to its end")
    print(counts[-1].group(0).strip())
    return 1 if int(counts[-1].group(1)) else 0


if __name__ == "__main__":
    sys.exit(main())
