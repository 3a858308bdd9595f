#!/usr/bin/python3
"""A fresh Debian of its own for a command over a clean copy of this tree.

    root.py RELEASE [COMMAND...]    as root; without a command FIRST_HOUR below

The system of a release (bookworm, trixie) is made by debootstrap the first time, beneath CARREL_ROOTS or
/var/tmp/carrel-roots, and kept with what `./dev` installs there. Packages come from this machine's
own mirror. The tree's files are copied to /src in it, without anything built. The command has process,
mount and IPC namespaces of its own, and leaves no process behind. Its process 1 is the command itself,
which reaps no orphans, as in many containers.
"""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOTS = pathlib.Path(os.environ.get("CARREL_ROOTS", "/var/tmp/carrel-roots"))
RELEASES = ("bookworm", "trixie")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

# pivot_root, since the kernel makes no user namespace for a process in a chroot.
ENTER = """
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc -o nosuid,nodev,noexec proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
[ ! -f "/$2" ] || mount --bind -o ro "/$2" "$2"
mkdir -p old-root
pivot_root . old-root
umount -l old-root
cd /src
shift 2
exec "$@"
"""


# What README.md says first, in a tree where nothing was built, and again once there is a user named
# carrel; then all tests, whose process 1 is the one that runs them.
FIRST_HOUR = """
set -e
first_cell() {
    PORT=0 ./dev run >run.log 2>&1 &
    until grep -q 'Ctrl-C stops the server' run.log; do
        kill -0 $! 2>/dev/null || { cat run.log; exit 1; }
        sleep 1
    done
    grep -q '"executionResult":42' run.log
    kill -TERM $!
    wait $!
    rm run.log
}
first_cell
id carrel >/dev/null 2>&1 || useradd --system --no-create-home carrel
first_cell
exec ./dev test
"""


def said(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def mirror():
    """The base of the archive that this machine's apt has Debian's packages from."""
    urls = said("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
                "Origin: Debian").split()
    if not urls:
        sys.exit("root.py: apt has no lists of Debian's packages here: apt-get update")
    return urls[0].rstrip("/")


def apt_settings():
    """How this machine reaches its mirror, as a file for apt.conf.d."""
    kept = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    return "".join(f"{line}\n" for line in said("apt-config", "dump", "Acquire").splitlines()
                   if line.startswith(kept))


def make(release):
    """The directory of that release's system."""
    root = ROOTS / release
    if root.exists():
        return root
    if not pathlib.Path("/usr/sbin/debootstrap").exists():
        sys.exit("root.py: not installed: debootstrap")
    ROOTS.mkdir(parents=True, exist_ok=True)
    making = ROOTS / f"{release}.{os.getpid()}"
    url = mirror()
    subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", release,
                    str(making), url], check=True, stdin=subprocess.DEVNULL)
    (making / "etc/apt/sources.list").write_text(
        "".join(f"deb {url} {suite} main\n" for suite in (release, f"{release}-updates")))
    (making / "etc/apt/apt.conf.d/90mirror").write_text(apt_settings())
    making.rename(root)
    return root


def copy_tree(root):
    """This tree's files, and nothing made from them, to /src."""
    def is_made(directory, names):
        at_top = pathlib.Path(directory) == ROOT
        return [name for name in names if name in (".git", "__pycache__", "node_modules") or
                (at_top and (name == "build" or name.startswith("build-")))]
    shutil.rmtree(root / "src", ignore_errors=True)
    shutil.copytree(ROOT, root / "src", symlinks=True, ignore=is_made)


def environment():
    kept = ("TERM", "LANG", "CARREL_LONG")
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
            **{name: value for name, value in os.environ.items()
               if name in kept or name.lower().endswith("_proxy") or value == f"/{CERTIFICATES}"}}


def enter(root, command):
    """The exit status of a command in /src of that system."""
    for name in ("etc/resolv.conf", "etc/hosts"):
        if pathlib.Path("/", name).exists():
            (root / name).unlink(missing_ok=True)
            (root / name).write_bytes(pathlib.Path("/", name).read_bytes())
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child",
         "--propagation=private", "--", "sh", "-c", ENTER, "enter", str(root), CERTIFICATES,
         *command], stdin=subprocess.DEVNULL, env=environment(), check=False).returncode


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in RELEASES:
        sys.exit(f"usage: root.py {'|'.join(RELEASES)} [COMMAND...]")
    root = make(sys.argv[1])
    copy_tree(root)
    return enter(root, sys.argv[2:] or ["sh", "-c", FIRST_HOUR])


if __name__ == "__main__":
    sys.exit(main())
