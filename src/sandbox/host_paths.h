/*
 * host_paths: what of the host a session may read. The read-only root shows these; without mount
 * namespaces Landlock allows these and nothing else. What a host does not have is left out.
 */
#ifndef SANDBOX_HOST_PATHS_H
#define SANDBOX_HOST_PATHS_H

/* Whole trees, at the same place. Not all of /usr: /usr/local is whatever an administrator put
 * there (its Python packages come apart), /usr/src and /usr/games are of no use. */
static const char *const host_trees[] = {
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/libexec",
    "/usr/share",
    "/usr/include",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/fonts",
    "/etc/alternatives",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/var/cache/fontconfig",
};

/* Single files of /etc. Never accounts' secrets, keys, the machine's identity, or its resolvers. */
static const char *const host_etc_files[] = {
    "ld.so.cache",
    "ld.so.conf",
    "timezone",
    "mime.types",
    "matplotlibrc",
    "services",
    "protocols",
    "ssl/openssl.cnf",
    "debian_version",
    "papersize",
};

static const char *const host_devices[] = {
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
};

/* What commands outside sessions read besides: they have the network, and an administrator's own
 * programs. Of /proc what says something of the machine and nothing of its processes. */
static const char *const command_trees[] = {
    "/usr",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/resolv.conf",
    "/etc/resolver",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/networks",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/os-release",
    "/etc/whois.conf",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/sys",
    "/sys/devices/system/cpu",
};

#define HOST_LOCAL_LIB "/usr/local/lib" /* its python3* directories */
#define HOST_PYTHON_PREFIX "python3"    /* of those, and of /etc/python3* */

#endif
