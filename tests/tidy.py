#!/usr/bin/env python3
"""tidy.py - what the compiler does not check of the house rules

Usage: tests/tidy.py        from anywhere; prints each offence as file:line: words; 1 if there is one

- Includes point one way: core includes nothing of ours, tls and queue include core only, mta
  includes all three; bench and tests include anything. They name the folder.
- Every source and header begins with a comment that names the file and says what it is for.
- Memory on a message's way comes from pools: malloc and friends only in the files listed here.
- Only core/ring.c knows liburing, only tls/tls_boringssl.h includes <openssl/...>. No test sleeps or looks at the clock to pass or fail.
- The top level has no other entries than the fixed ones.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAY_INCLUDE = {
    "core": {"core"},
    "tls": {"tls", "core"},
    "queue": {"queue", "core"},
    "mta": {"mta", "queue", "tls", "core"},
}
TOP_LEVEL = {"mta", "core", "tls", "queue", "bench", "tests", "deploy", "meson.build", "README.md",
             "LICENSE", "meson_options.txt"}
LIBURING = {"core/ring.c"}
BORINGSSL = {"tls/tls_boringssl.h"}
LINES_MAX = 900
# Start-up, control thread, and libraries that hand out malloc'd memory; none of them per message.
MAY_ALLOCATE = {
    "core/dns.c", "core/fetch.c", "core/log.c", "core/metrics.c", "core/ring.c",
    "queue/compact.c", "queue/recovery.c", "queue/recovery_disk.c", "queue/recovery_table.c", "queue/segment.c",
    "queue/spool.c", "queue/spool_check.c", "queue/spool_log.c", "queue/spool_read.c", "queue/spool_salvage.c",
    "tls/tls_client.c", "tls/tls_credential.c", "tls/tls_crl.c", "tls/tls_id_cache.c", "tls/tls_keyshare.c",
    "tls/tls_pem.c", "tls/tls_roots.c", "tls/tls_server.c", "tls/tls_session.c", "tls/tls_ticket.c",
    "tls/tls_verify.c",
    "mta/admin.c", "mta/cert_watch.c", "mta/control_queue.c", "mta/queue_orders.c", "mta/queue_top.c", "mta/check.c", "mta/check_fleet.c", "mta/check_outbound.c", "mta/cli.c", "mta/client_cli.c", "mta/config.c",
    "mta/config_file.c", "mta/config_memory.c", "mta/config_text.c", "mta/connection.c", "mta/connector_horizon_cli.c",
    "mta/connector_import_cli.c", "mta/connector_marks.c", "mta/connector_slots.c", "mta/control.c", "mta/control_census.c",
    "mta/control_connector_json.c",
    "mta/control_connector_metrics.c", "mta/control_connector_sums.c", "mta/control_crl.c", "mta/control_floor.c",
    "mta/control_sts.c", "mta/control_tls.c", "mta/control_tlsrpt_send.c", "mta/tlsrpt_count.c", "mta/generation_tls.c", "mta/inbound_set.c", "mta/limits.c",
    "mta/networks.c", "mta/pattern.c", "mta/server.c", "mta/store.c", "mta/wire.c",
    "mta/control_connector_metrics.c", "mta/control_connector_waiting.c", "mta/control_connector_sums.c", "mta/control_crl.c", "mta/control_floor.c",
    "mta/control_connector_metrics.c", "mta/control_connector_waiting.c", "mta/control_connector_sums.c", "mta/control_crl.c", "mta/control_probes.c", "mta/control_floor.c",
    "mta/control_sts.c", "mta/control_tls.c", "mta/control_tlsrpt_send.c", "mta/tlsrpt_count.c", "mta/tlsrpt_mail.c", "mta/generation_tls.c", "mta/inbound_set.c", "mta/limits.c",
    "mta/networks.c", "mta/pattern.c", "mta/server.c", "mta/store.c",
}
ALLOCATE = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|strdup|strndup|asprintf)\s*\(")
SLEEP = re.compile(r"\b(usleep|nanosleep|sleep)\s*\(")
offences = []


def offence(path, line, words):
    offences.append(f"{path}:{line}: {words}")


def code_files():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        if name.endswith((".c", ".h")) and (ROOT / name).exists():
            yield name


def check_head(name, text):
    first = pathlib.PurePath(name).name
    if not re.match(r"/\*\n \* " + re.escape(first) + r" - \S", text):
        offence(name, 1, f"begins with a comment ' * {first} - what it is for'")


def check_lines(name, lines):
    folder = name.split("/")[0]
    for number, line in enumerate(lines, 1):
        include = re.match(r'#include "([^"]+)"', line)
        if include:
            parts = include.group(1).split("/")
            if len(parts) < 2:
                offence(name, number, f'"{include.group(1)}" names no folder')
            elif folder in MAY_INCLUDE and parts[0] not in MAY_INCLUDE[folder]:
                offence(name, number, f"{folder} must not include {parts[0]}")
        if re.match(r"#include <liburing", line) and name not in LIBURING:
            offence(name, number, "only core/ring.c uses liburing")
        if re.match(r"\s*#\s*include\s*[<\"]openssl/", line) and name not in BORINGSSL:
            offence(name, number, "only tls/tls_boringssl.h includes these: it looks whose they are")
        code = re.sub(r"/\*.*?\*/|//.*|\"(\\.|[^\"])*\"", "", line)
        if line.lstrip().startswith(("*", "/*")):
            continue
        if folder in MAY_INCLUDE and name not in MAY_ALLOCATE and ALLOCATE.search(code):
            offence(name, number, "allocates: take it from a pool, or say in tidy.py why not")
        if folder in MAY_INCLUDE and SLEEP.search(code):
            offence(name, number, "sleeps: use a timer")
    if len(lines) > LINES_MAX:
        offence(name, len(lines), f"has {len(lines)} lines, more than {LINES_MAX}: several rooms?")


def check_tests_mirror():
    for folder in ("core", "queue", "mta", "tls"):
        for test in sorted((ROOT / "tests" / folder).glob("test_*.c")):
            source = ROOT / folder / (test.name[len("test_"):])
            if not source.exists() and not source.with_suffix(".h").exists():
                offence(test.relative_to(ROOT), 1, f"mirrors {folder}/{source.name}, which is not there")


def check_top_level():
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                             cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for entry in {name.split("/")[0] for name in tracked}:
        if entry not in TOP_LEVEL and not entry.startswith("."):
            offence(entry, 1, "is not one of the fixed top-level entries")


def main():
    if len(sys.argv) > 1:
        print(__doc__)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    count = 0
    for name in code_files():
        text = (ROOT / name).read_text(encoding="utf-8")
        count += 1
        check_head(name, text)
        check_lines(name, text.splitlines())
    check_tests_mirror()
    check_top_level()
    print("\n".join(offences) if offences else f"tidy: {count} files, all in order")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
