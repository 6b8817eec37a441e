/*
 * test_dns.c - the resolver against a real name server (NSD) that the test starts on loopback
 *
 * Both shards, the asking one and control, are turned by the test's own thread.
 */
#include "core/dns.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "core/dns_recent.h"

enum { ASK = 3, ANSWER = 4, QUERIES = 2 * HANDOFFS_MAX, STEP_MS = 20, WAIT_MAX_MS = 20'000 };

static const char zone[] = "$ORIGIN example.com.\n"
                           "$TTL 300\n"
                           "@ IN SOA ns hostmaster 1 3600 600 86400 60\n"
                           "@ IN NS ns\n"
                           "ns IN A 127.0.0.1\n"
                           "@ IN MX 20 Backup.Example.COM.\n"
                           "@ IN MX 10 mail\n"
                           "null IN MX 0 .\n"
                           "mail IN A 192.0.2.1\n"
                           "mail IN A 192.0.2.2\n"
                           "mail IN AAAA 2001:db8::1\n"
                           "only4 IN A 192.0.2.9\n"
                           "*.wild IN A 192.0.2.7\n"
                           "alias1 IN CNAME alias2\n"
                           "alias2 IN CNAME Alias3\n"
                           "alias3 IN CNAME mail\n"
                           "dangling IN CNAME nowhere\n"
                           "odd IN MX 1 a\\032b.example.com.\n"
                           "odd IN MX 2 mail\n"
                           "worse IN MX 1 a\\.b.example.com.\n"
                           "pointer IN PTR host.example.net.\n"
                           "text IN TXT \"one\" \"two\"\n"
                           "_25._tcp.mail IN TLSA 3 1 1 "
                           "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
                           "loop1 IN CNAME loop2\n"
                           "loop2 IN CNAME loop1\n";

/* Says that example.com is signed with a key that it does not have. */
static const char wrong_anchor[] =
    "example.com. IN DS 12345 13 2 "
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";

static char directory[64];
static pid_t server;
static struct net_address server_address;
static struct shard_group group;
static struct shard asker;
static struct shard control;
static struct resolver *resolver;
static struct dns dns;

/* ---- the name server ---- */

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    cr_assert_neq(file, NULL);
    cr_assert(fputs(text, file) >= 0);
    cr_assert_eq(fclose(file), 0);
}

/* A datagram socket on a port of loopback that is free for TCP too. */
static int free_port(struct net_address *address)
{
    for (unsigned attempt = 0; attempt < 50; attempt++) {
        struct sockaddr_storage name;
        socklen_t size;
        cr_assert_eq(net_parse(SLICE("127.0.0.1"), 0, address), 0);
        int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        size = net_to_sockaddr(address, &name);
        cr_assert_eq(bind(udp, (struct sockaddr *)&name, size), 0);
        cr_assert_eq(getsockname(udp, (struct sockaddr *)&name, &size), 0);
        bool both = bind(tcp, (struct sockaddr *)&name, size) == 0;
        net_from_sockaddr(&name, address);
        close(tcp);
        if (both)
            return udp;
        close(udp);
    }
    cr_assert_fail("no free port");
    return -1;
}

static bool server_answers(void)
{
    /* SOA of example.com, not recursive */
    static const uint8_t question[] = "\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\3com\0\0\6\0\1";
    struct sockaddr_storage name;
    socklen_t size = net_to_sockaddr(&server_address, &name);
    uint8_t answer[512];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct pollfd polled = { .fd = fd, .events = POLLIN };
    bool answered = connect(fd, (struct sockaddr *)&name, size) == 0 &&
                    send(fd, question, sizeof(question) - 1, 0) > 0 && poll(&polled, 1, 100) == 1 &&
                    recv(fd, answer, sizeof(answer), 0) > 12 && (answer[3] & 15) == 0 &&
                    answer[7] == 1;
    close(fd);
    return answered;
}

/* True: it answers. False: it has ended, for somebody else has its port by now. */
static bool server_try(void)
{
    char config[1024];
    int status;
    close(free_port(&server_address));
    snprintf(config, sizeof(config),
             "server:\n ip-address: 127.0.0.1\n port: %u\n server-count: 1\n username: \"\"\n"
             " chroot: \"\"\n zonesdir: \"%s\"\n pidfile: \"\"\n logfile: \"%s/log\"\n"
             " database: \"\"\n zonelistfile: \"%s/zone.list\"\n xfrdfile: \"%s/xfrd\"\n"
             " xfrdir: \"%s\"\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n"
             "zone:\n name: example.com\n zonefile: zone\n",
             server_address.port, directory, directory, directory, directory, directory);
    write_file("nsd.conf", config);
    char path[128];
    snprintf(path, sizeof(path), "%s/nsd.conf", directory);
    server = fork();
    cr_assert(server >= 0);
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that is killed leaves no server behind */
        execlp("nsd", "nsd", "-d", "-c", path, (char *)NULL);
        execl("/usr/sbin/nsd", "nsd", "-d", "-c", path, (char *)NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 200 && !server_answers(); i++) {
        if (waitpid(server, &status, WNOHANG) == server) {
            server = -1;
            cr_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 127, "nsd is not installed");
            return false;
        }
        nanosleep(&(struct timespec) { .tv_nsec = 50'000'000 }, NULL);
    }
    cr_assert(server_answers(), "nsd does not answer");
    return true;
}

static void server_start(void)
{
    enum { TRIES = 5 };
    strcpy(directory, "/tmp/test_dns_XXXXXX");
    cr_assert_neq(mkdtemp(directory), NULL);
    write_file("zone", zone);
    write_file("anchor", wrong_anchor);
    unsigned tries = 1;
    while (!server_try())
        cr_assert_lt(tries++, TRIES, "nsd ends each time");
}

static void server_stop(void)
{
    if (server > 0) {
        kill(server, SIGTERM);
        waitpid(server, NULL, 0);
    }
    static const char *const files[] = { "nsd.conf", "zone",      "anchor", "resolv.conf",
                                         "log",      "zone.list", "xfrd" };
    char path[128];
    for (unsigned i = 0; i < ARRAY_COUNT(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        unlink(path);
    }
    rmdir(directory);
}

/* ---- the shards ---- */

static struct ring *new_ring(void)
{
    struct ring_options options = {
        .entries = 256, .sockets_max = 16, .recv_buffers = 16, .recv_buffer_bytes = 4096
    };
    struct ring *ring = NULL;
    const char *what = "";
    cr_assert_eq(ring_new(&options, &ring, &what), 0, "%s", what);
    return ring;
}

static void shards_start(const struct dns_options *options)
{
    const char *why = "";
    cr_assert_eq(shard_group_init(&group, 2), 0);
    shard_init(&asker, new_ring(), &group, 0);
    shard_init(&control, new_ring(), &group, 1);
    int r = resolver_new(&control, options, ASK, ANSWER, &resolver, &why);
    cr_assert_eq(r, 0, "%s", why);
    resolver_attach(resolver, &asker, &dns);
}

static void shards_stop(void)
{
    resolver_free(resolver);
    ring_free(asker.ring);
    ring_free(control.ring);
    shard_group_free(&group);
}

static struct dns_options usual_options(void)
{
    return (struct dns_options) { .forwarders = &server_address,
                                  .forwarders_count = 1,
                                  .timeout_ms = 5000,
                                  .queries_max = QUERIES };
}

static void step(struct shard *shard)
{
    int r = shard_step(shard, shard->now_ms + STEP_MS);
    cr_assert(r == 0, "%d", r);
}

/* ---- queries ---- */

struct asked {
    struct dns_query query;
    unsigned answers;
    struct dns_answer answer;
    struct dns_record records[DNS_RECORDS_MAX];
    char text[DNS_RECORDS_MAX][DNS_NAME_MAX + 32]; /* a record's data, and a terminator */
    char canonical[DNS_NAME_MAX];
    char why[256];
};

static void answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct asked *a = container_of(query, struct asked, query);
    cr_assert_eq(query->request, NULL);
    cr_assert(answer->count <= DNS_RECORDS_MAX);
    cr_assert_neq(answer->canonical, NULL);
    a->answers++;
    a->answer = *answer;
    for (unsigned i = 0; i < answer->count; i++) {
        a->records[i] = answer->records[i];
        cr_assert(answer->records[i].size < sizeof(a->text[i]));
        memcpy(a->text[i], answer->records[i].data, answer->records[i].size);
        a->text[i][answer->records[i].size] = '\0';
    }
    snprintf(a->canonical, sizeof(a->canonical), "%s", answer->canonical);
    snprintf(a->why, sizeof(a->why), "%s", answer->why == NULL ? "" : answer->why);
}

static void ask(struct asked *a, const char *name, enum dns_type type)
{
    *a = (struct asked) { .query.answered = answered };
    dns_ask(&dns, &asker, &a->query, name, type);
    cr_assert_eq(a->answers, 0, "answered from within dns_ask");
    cr_assert_neq(a->query.request, NULL);
}

static void wait_for(const unsigned *answers, unsigned count)
{
    uint64_t end_ms = asker.now_ms + WAIT_MAX_MS;
    while (*answers < count && asker.now_ms < end_ms) {
        step(&control);
        step(&asker);
    }
    cr_assert_eq(*answers, count);
}

static struct asked *look_up(const char *name, enum dns_type type)
{
    static struct asked a;
    ask(&a, name, type);
    wait_for(&a.answers, 1);
    return &a;
}

static void start_usual(void)
{
    struct dns_options options = usual_options();
    server_start();
    shards_start(&options);
}

static void stop_usual(void)
{
    shards_stop();
    server_stop();
}

TestSuite(dns, .init = start_usual, .fini = stop_usual, .timeout = 60);
TestSuite(dns_own, .init = server_start, .fini = server_stop, .timeout = 60);

Test(dns, what_is_not_a_name_is_refused_from_the_loop)
{
    char long_name[300];
    char long_label[80];
    memset(long_name, 'a', sizeof(long_name));
    for (unsigned i = 50; i < 299; i += 50)
        long_name[i] = '.';
    long_name[299] = '\0';
    memset(long_label, 'a', sizeof(long_label));
    long_label[64] = '\0';
    const char *const names[] = { "a..b",     ".a", "a b.example.com", "a\\.example.com",
                                  "\xff.com", "..", long_name,         long_label };
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        struct asked *a = look_up(names[i], DNS_A);
        cr_assert_eq(a->answer.status, DNS_SERVFAIL, "%s", names[i]);
        cr_assert_eq(a->answer.count, 0);
    }
}

Test(dns, records_that_are_not_host_names_are_left_out)
{
    struct asked *a = look_up("odd.example.com", DNS_MX);
    cr_assert_eq(a->answer.status, DNS_OK);
    cr_assert_eq(a->answer.count, 1);
    cr_assert(a->answer.cut);
    cr_assert_str_eq(a->text[0], "mail.example.com");
    a = look_up("worse.example.com", DNS_MX);
    cr_assert_eq(a->answer.status, DNS_SERVFAIL);
    cr_assert_str_eq(a->why, "malformed records");
}

Test(dns, a_name_that_is_not_there)
{
    struct asked *a = look_up("nowhere.example.com", DNS_MX);
    cr_assert_eq(a->answer.status, DNS_NXDOMAIN);
    cr_assert_gt(a->answer.ttl_s, 0);
    a = look_up("dangling.example.com", DNS_A);
    cr_assert_eq(a->answer.status, DNS_NXDOMAIN);
    cr_assert_eq(a->answer.cnames, 1);
}

Test(dns, a_type_that_is_not_there)
{
    struct asked *a = look_up("only4.example.com", DNS_AAAA);
    cr_assert_eq(a->answer.status, DNS_NODATA);
    cr_assert_eq(a->answer.count, 0);
    a = look_up("alias1.example.com", DNS_MX);
    cr_assert_eq(a->answer.status, DNS_NODATA);
    cr_assert_eq(a->answer.cnames, 3);
}

Test(dns, a_name_that_the_server_does_not_serve_and_a_loop_are_failures)
{
    cr_assert_eq(look_up("example.org", DNS_A)->answer.status, DNS_SERVFAIL);
    cr_assert_eq(look_up("loop1.example.com", DNS_A)->answer.status, DNS_SERVFAIL);
}

Test(dns, mail_exchangers)
{
    struct asked *a = look_up("EXAMPLE.com", DNS_MX);
    cr_assert_eq(a->answer.status, DNS_OK);
    cr_assert_eq(a->answer.count, 2);
    cr_assert_not(a->answer.secure);
    cr_assert_not(a->answer.cut);
    cr_assert(a->answer.ttl_s > 0 && a->answer.ttl_s <= 300);
    cr_assert_str_eq(a->canonical, "example.com");
    unsigned first = a->records[0].preference == 10 ? 0 : 1;
    cr_assert_eq(a->records[first].preference, 10);
    cr_assert_str_eq(a->text[first], "mail.example.com");
    cr_assert_eq(a->records[1 - first].preference, 20);
    cr_assert_str_eq(a->text[1 - first], "backup.example.com");
    a = look_up("null.example.com.", DNS_MX);
    cr_assert_eq(a->answer.count, 1);
    cr_assert_eq(a->records[0].preference, 0);
    cr_assert_str_eq(a->text[0], "");
}

Test(dns, addresses)
{
    struct asked *a = look_up("mail.example.com", DNS_A);
    cr_assert_eq(a->answer.status, DNS_OK);
    cr_assert_eq(a->answer.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(a->records[i].size, 4);
        cr_assert_eq(memcmp(a->text[i], "\xc0\0\2", 3), 0);
    }
    a = look_up("mail.example.com", DNS_AAAA);
    cr_assert_eq(a->answer.count, 1);
    cr_assert_eq(a->records[0].size, 16);
    cr_assert_eq(memcmp(a->text[0], "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16), 0);
}

Test(dns, aliases_are_followed_and_counted)
{
    struct asked *a = look_up("alias1.example.com", DNS_A);
    cr_assert_eq(a->answer.status, DNS_OK);
    cr_assert_eq(a->answer.count, 2);
    cr_assert_eq(a->answer.cnames, 3);
    cr_assert_str_eq(a->canonical, "mail.example.com");
    a = look_up("alias2.example.com", DNS_CNAME);
    cr_assert_eq(a->answer.cnames, 0);
    cr_assert_str_eq(a->text[0], "alias3.example.com");
    cr_assert_str_eq(a->canonical, "alias2.example.com");
}

Test(dns, other_types)
{
    struct asked *a = look_up("pointer.example.com", DNS_PTR);
    cr_assert_str_eq(a->text[0], "host.example.net");
    a = look_up("text.example.com", DNS_TXT);
    cr_assert_eq(a->records[0].size, 8);
    cr_assert_eq(memcmp(a->text[0], "\3one\3two", 8), 0);
    a = look_up("_25._tcp.mail.example.com", DNS_TLSA);
    cr_assert_eq(a->records[0].size, 35);
    cr_assert_eq(memcmp(a->text[0], "\3\1\1\x01\x23", 5), 0);
}

Test(dns, a_query_that_was_forgotten_is_never_answered)
{
    static struct asked kept;
    static struct asked forgotten;
    static struct asked refused;
    static struct dns_query idle;
    dns_forget(&dns, &idle);
    ask(&forgotten, "mail.example.com", DNS_A);
    ask(&kept, "mail.example.com", DNS_A);
    ask(&refused, "not a name", DNS_A);
    dns_forget(&dns, &forgotten.query);
    dns_forget(&dns, &refused.query);
    cr_assert_eq(forgotten.query.request, NULL);
    wait_for(&kept.answers, 1);
    for (unsigned i = 0; i < 5; i++) {
        step(&control);
        step(&asker);
    }
    cr_assert_eq(forgotten.answers, 0);
    cr_assert_eq(refused.answers, 0);
    /* and can be used again, also from where it was forgotten */
    ask(&forgotten, "only4.example.com", DNS_A);
    wait_for(&forgotten.answers, 1);
    cr_assert_eq(forgotten.answer.status, DNS_OK);
}

static struct asked again;
static unsigned again_count;

static void asks_again(struct dns_query *query, const struct dns_answer *answer)
{
    cr_assert_eq(answer->status, DNS_OK);
    cr_assert_str_eq(answer->canonical,
                     again_count == 0 ? "mail.example.com" : "only4.example.com");
    if (again_count++ > 0)
        return;
    dns_ask(&dns, &asker, query, "only4.example.com", DNS_A);
    cr_assert_str_eq(answer->canonical, "mail.example.com");
    cr_assert_eq(again_count, 1);
}

Test(dns, addresses_are_told_again_without_the_resolver)
{
    static struct asked told;
    static struct asked none;
    static struct asked forgotten;
    (void)look_up("mail.example.com", DNS_A);
    (void)look_up("only4.example.com", DNS_AAAA);
    ask(&told, "Mail.Example.com.", DNS_A);
    ask(&none, "only4.example.com", DNS_AAAA);
    ask(&forgotten, "mail.example.com", DNS_A);
    dns_forget(&dns, &forgotten.query);
    step(&asker); /* control has no turn */
    cr_assert_eq(told.answers, 1);
    cr_assert_eq(told.answer.status, DNS_OK);
    cr_assert_eq(told.answer.count, 2);
    cr_assert_str_eq(told.canonical, "mail.example.com");
    cr_assert_eq(none.answers, 1);
    cr_assert_eq(none.answer.status, DNS_NODATA);
    cr_assert_eq(forgotten.answers, 0);
    step(&asker);
    cr_assert_eq(forgotten.answers, 0);
}

/* A name whose addresses are remembered where those of the other one were. */
static void find_in_place_of(const char *other, char *name, size_t size)
{
    static struct dns_recent recent;
    struct dns_record records[DNS_RECENT_RECORDS];
    struct dns_answer answer = { .status = DNS_NODATA, .ttl_s = 1, .canonical = "" };
    struct dns_answer found;
    dns_recent_put(&recent, other, DNS_A, &answer, 0);
    for (unsigned i = 0; dns_recent_get(&recent, other, DNS_A, 0, records, &found); i++) {
        snprintf(name, size, "h%u.wild.example.com", i);
        dns_recent_put(&recent, name, DNS_A, &answer, 0);
    }
}

Test(dns, what_is_forgotten_before_it_is_told_is_asked_for)
{
    static struct asked first;
    static struct asked second;
    char name[64];
    find_in_place_of("mail.example.com", name, sizeof(name));
    (void)look_up("mail.example.com", DNS_A);
    ask(&first, name, DNS_A);
    step(&asker);
    for (unsigned i = 0; i < 20; i++) /* until its answer waits for the asker's turn */
        step(&control);
    ask(&second, "mail.example.com", DNS_A);
    step(&asker);
    cr_assert_eq(first.answers, 1);
    cr_assert_eq(second.answers, 0, "its place was taken in this very step");
    wait_for(&second.answers, 1);
    cr_assert_eq(second.answer.count, 2);
}

Test(dns, a_callback_may_ask_with_the_same_query)
{
    again.query.answered = asks_again;
    dns_ask(&dns, &asker, &again.query, "alias3.example.com", DNS_A);
    wait_for(&again_count, 2);
}

/* ---- more than there is room for ---- */

static struct dns_query many[QUERIES + 10];
static unsigned many_answers;
static unsigned many_failed;
static char many_why[256];
static uint8_t many_each[QUERIES + 10];

static void many_answered(struct dns_query *query, const struct dns_answer *answer)
{
    many_answers++;
    many_failed += answer->status != DNS_OK;
    snprintf(many_why, sizeof(many_why), "%s", answer->why == NULL ? "" : answer->why);
    cr_assert_eq(++many_each[query - many], 1);
}

static void ask_many(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        many[i] = (struct dns_query) { .answered = many_answered };
        dns_ask(&dns, &asker, &many[i], "mail.example.com", DNS_A);
    }
}

Test(dns, a_full_way_to_control_is_a_failure_from_the_loop)
{
    ask_many(0, HANDOFFS_MAX + 7);
    cr_assert_eq(many_answers, 0);
    wait_for(&many_answers, HANDOFFS_MAX + 7);
    cr_assert_eq(many_failed, 7);
}

Test(dns, a_full_way_back_keeps_the_answers)
{
    look_up("mail.example.com", DNS_A); /* now it is in the cache */
    for (unsigned part = 0; part < 2; part++) {
        ask_many(part == 0 ? 0 : HANDOFFS_MAX, HANDOFFS_MAX + part * 500);
        /* The asker's own wake would go out in its next step; but then it would take answers. */
        control.woken = true;
        for (unsigned i = 0; i < 50; i++)
            step(&control);
    }
    cr_assert_eq(many_answers, 0);
    wait_for(&many_answers, HANDOFFS_MAX + 500);
    cr_assert_eq(many_failed, 0, "%u: %s", many_failed, many_why);
}

/* ---- resolvers with other options ---- */

Test(dns_own, files_that_are_not_there_are_errors_at_the_start)
{
    struct resolver *none = NULL;
    const char *why = NULL;
    cr_assert_eq(shard_group_init(&group, 1), 0);
    shard_init(&control, new_ring(), &group, 0);
    struct dns_options options = usual_options();
    options.trust_anchor_file = "/no/such/file";
    cr_assert_eq(resolver_new(&control, &options, ASK, ANSWER, &none, &why), -EINVAL);
    cr_assert_neq(why, NULL);
    options.trust_anchor_file = NULL;
    options.resolv_conf_file = "/no/such/file";
    cr_assert_eq(resolver_new(&control, &options, ASK, ANSWER, &none, &why), -EINVAL);
    ring_free(control.ring);
    shard_group_free(&group);
}

/* resolv.conf(5) knows no ports, so this one is bound to 53; where that takes rights it is left
 * out.
 */
Test(dns_own, name_servers_of_the_system)
{
    static const uint8_t name[] = "\4mail\7example\3com";
    struct net_address address;
    struct sockaddr_storage socket_name;
    cr_assert_eq(net_parse(SLICE("127.0.0.153"), 53, &address), 0);
    socklen_t size = net_to_sockaddr(&address, &socket_name);
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(udp, (struct sockaddr *)&socket_name, size) < 0) {
        cr_assert_eq(errno, EACCES);
        cr_skip_test("port 53 takes rights");
    }
    char path[128];
    write_file("resolv.conf", "search example.net\nnameserver 127.0.0.153\n");
    snprintf(path, sizeof(path), "%s/resolv.conf", directory);
    struct dns_options options = usual_options();
    options.forwarders_count = 0;
    options.resolv_conf_file = path;
    shards_start(&options);
    static struct asked a;
    ask(&a, "mail.example.com", DNS_A);
    uint8_t question[512] = { 0 };
    uint64_t end_ms = asker.now_ms + WAIT_MAX_MS;
    while (recv(udp, question, sizeof(question), 0) < 0 && asker.now_ms < end_ms) {
        step(&control);
        step(&asker);
    }
    cr_assert_arr_eq(question + 12, name, sizeof(name)); /* behind the header */
    dns_forget(&dns, &a.query);
    shards_stop();
    close(udp);
}

Test(dns_own, what_does_not_validate_is_bogus_and_not_missing)
{
    char anchor[128];
    snprintf(anchor, sizeof(anchor), "%s/anchor", directory);
    struct dns_options options = usual_options();
    options.trust_anchor_file = anchor;
    shards_start(&options);
    static const enum dns_type types[] = { DNS_A, DNS_MX, DNS_TLSA };
    for (unsigned i = 0; i < ARRAY_COUNT(types); i++) {
        struct asked *a = look_up("mail.example.com", types[i]);
        cr_assert_eq(a->answer.status, DNS_BOGUS, "type %d: %d", types[i], a->answer.status);
        cr_assert_eq(a->answer.count, 0);
        cr_assert_not(a->answer.secure);
        cr_assert_str_neq(a->why, "");
    }
    shards_stop();
}

Test(dns_own, a_server_that_is_silent_is_a_timeout)
{
    struct net_address silent;
    int udp = free_port(&silent);
    struct dns_options options = usual_options();
    options.forwarders = &silent;
    options.timeout_ms = 300;
    shards_start(&options);
    struct asked *a = look_up("mail.example.com", DNS_A);
    cr_assert_eq(a->answer.status, DNS_TIMEOUT);
    cr_assert_str_neq(a->why, "");
    /* A query's own deadline is kept when it comes first. */
    struct asked own = { .query = { .answered = answered, .deadline_ms = asker.now_ms + 1 } };
    dns_ask(&dns, &asker, &own.query, "other.example.com", DNS_A);
    wait_for(&own.answers, 1);
    cr_assert_eq(own.answer.status, DNS_TIMEOUT);
    shards_stop();
    close(udp);
}

Test(dns_own, the_cap_of_queries_in_flight_is_kept)
{
    struct dns_options options = usual_options();
    options.queries_max = 5;
    shards_start(&options);
    ask_many(0, 8);
    step(&asker);
    cr_assert_eq(many_answers, 3);
    cr_assert_eq(many_failed, 3);
    wait_for(&many_answers, 8);
    cr_assert_eq(many_failed, 3);
    memset(many_each, 0, sizeof(many_each)); /* those that were answered make room */
    ask_many(0, 5);
    wait_for(&many_answers, 13);
    cr_assert_eq(many_failed, 3);
    shards_stop();
}

Test(dns_own, the_cap_counts_the_queries_of_all_shards)
{
    struct dns_options options = usual_options();
    struct dns other;
    options.queries_max = 5;
    shards_start(&options);
    resolver_attach(resolver, &control, &other);
    ask_many(0, 4);
    for (unsigned i = 4; i < 7; i++) {
        many[i] = (struct dns_query) { .answered = many_answered };
        dns_ask(&other, &control, &many[i], "only4.example.com", DNS_A);
    }
    wait_for(&many_answers, 7);
    cr_assert_eq(many_failed, 2);
    shards_stop();
}

Test(dns_own, stopping_with_queries_in_flight)
{
    struct net_address silent;
    int udp = free_port(&silent);
    struct dns_options options = usual_options();
    options.forwarders = &silent;
    shards_start(&options);
    ask_many(0, 100);
    step(&control);
    step(&asker);
    shards_stop();
    cr_assert_eq(many_answers, 0);
    close(udp);
}
