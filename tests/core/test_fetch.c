/*
 * test_fetch.c - documents from a real HTTPS server (tests/core/fetch_server.py) on loopback
 *
 * Names are answered from a table, by the interface that the resolver answers by too.
 */
#include "core/fetch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"

enum { STEP_MS = 20, WAIT_MAX_MS = 30'000, MANY = 40 };

static char directory[64];
static char ca_file[96];
static pid_t server;
static unsigned https_port, http_port;
static struct shard_group group;
static struct shard control;
static struct dns dns;
static struct fetcher *fetcher;

/* ---- the server ---- */

static void server_start(void)
{
    int pipes[2];
    char line[64] = "";
    strcpy(directory, "/tmp/test_fetch_XXXXXX");
    cr_assert_neq(mkdtemp(directory), NULL);
    snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", directory);
    cr_assert_eq(pipe(pipes), 0);
    server = fork();
    cr_assert(server >= 0);
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(pipes[1], STDOUT_FILENO);
        execlp("python3", "python3", "tests/core/fetch_server.py", directory, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    FILE *words = fdopen(pipes[0], "r");
    cr_assert_neq(fgets(line, sizeof(line), words), NULL, "is python3-cryptography installed?");
    cr_assert_eq(sscanf(line, "%u %u", &https_port, &http_port), 2);
    fclose(words);
}

static void server_stop(void)
{
    static const char *const files[] = { "ca.pem", "leaf.pem", "leaf.key" };
    char path[96];
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        unlink(path);
    }
    rmdir(directory);
}

/* ---- names ---- */

struct pending {
    struct task task;
    struct dns_query *query;
    enum dns_status status;
    uint8_t last; /* of 127.0.0.x */
};

static struct pending pendings[4 * MANY];

static void give(struct task *task)
{
    struct pending *p = container_of(task, struct pending, task);
    struct dns_query *query = p->query;
    const uint8_t octets[] = { 127, 0, 0, p->last };
    const struct dns_record record = { .size = sizeof(octets), .data = octets };
    const struct dns_answer answer = {
        .status = p->status, .count = p->status == DNS_OK, .records = &record, .why = "out of order"
    };
    p->query = NULL;
    query->request = NULL;
    query->answered(query, &answer);
}

static void table_ask(void *resolver, struct dns_query *query, const char *name, enum dns_type type)
{
    struct pending *p = resolver;
    while (p->query != NULL)
        p++;
    CHECK(p < pendings + ARRAY_COUNT(pendings));
    p->query = query;
    p->last = strcmp(name, "inside.test") == 0 ? 2 : 1;
    p->status = type == DNS_AAAA                   ? DNS_NODATA
                : strcmp(name, "none.test") == 0   ? DNS_NXDOMAIN
                : strcmp(name, "broken.test") == 0 ? DNS_SERVFAIL
                                                   : DNS_OK;
    query->request = (struct dns_request *)(void *)p;
    task_init(&p->task, give);
    shard_run_later(&control, &p->task);
}

static void table_forget(void *resolver, struct dns_query *query)
{
    struct pending *p = (struct pending *)(void *)query->request;
    (void)resolver;
    if (p == NULL)
        return;
    shard_forget(&p->task);
    p->query = NULL;
    query->request = NULL;
}

static const struct dns_ops table_ops = { .ask = table_ask, .forget = table_forget };

static bool allowed(void *owner, const struct net_address *address)
{
    cr_assert_eq(owner, &control);
    return address->octets[15] == 1;
}

/* ---- the shard ---- */

static void start(void)
{
    const struct ring_options ring_options = {
        .entries = 64, .sockets_max = 8, .recv_buffers = 8, .recv_buffer_bytes = 4096
    };
    struct ring *ring = NULL;
    const char *what = "";
    server_start();
    cr_assert_eq(ring_new(&ring_options, &ring, &what), 0, "%s", what);
    cr_assert_eq(shard_group_init(&group, 1), 0);
    shard_init(&control, ring, &group, 0);
    dns = (struct dns) { .ops = &table_ops, .resolver = pendings };
    const struct fetch_options options = {
        .agent = "test", .system_roots = ca_file, .allowed = allowed, .owner = &control
    };
    cr_assert_eq(fetcher_new(&control, &dns, &options, &fetcher), 0);
}

static void stop(void)
{
    fetcher_free(fetcher);
    shard_group_free(&group);
    ring_free(control.ring);
    server_stop();
}

TestSuite(fetch, .init = start, .fini = stop, .timeout = 60);

struct got {
    struct fetch_request request;
    unsigned answers;
    enum fetch_result result;
    unsigned status;
    char body[64];
    char type[FETCH_TYPE_MAX];
    char why[FETCH_WHY_MAX];
    struct fetch_look *look;
};

static void fetched(struct fetch_request *request, const struct fetch_answer *answer)
{
    struct got *got = container_of(request, struct got, request);
    cr_assert_eq(request->job, NULL);
    got->answers++;
    got->result = answer->result;
    got->status = answer->status;
    got->look = answer->look;
    slice_to_string(answer->body, got->body, sizeof(got->body));
    snprintf(got->type, sizeof(got->type), "%s", answer->content_type);
    snprintf(got->why, sizeof(got->why), "%s", answer->why);
}

/* path of scheme://host, with the server's port: 's' its HTTPS one, 'h' its HTTP one. */
static const char *url_of(const char *scheme, const char *host, char port, const char *path)
{
    static char url[256];
    snprintf(url, sizeof(url), "%s://%s:%u%s", scheme, host,
             port == 's'   ? https_port
             : port == 'h' ? http_port
                           : 1U,
             path);
    return url;
}

static struct got asking(const char *url)
{
    return (struct got) {
        .request = { .fetched = fetched, .url = url, .bytes_max = 1'000, .timeout_ms = 20'000 }
    };
}

static void wait_for(const unsigned *answers, unsigned count)
{
    uint64_t end_ms = control.now_ms + WAIT_MAX_MS;
    while (*answers < count && control.now_ms < end_ms)
        cr_assert_eq(shard_step(&control, control.now_ms + STEP_MS), 0);
    cr_assert_eq(*answers, count);
}

Test(fetch, every_result_has_its_name_and_words)
{
    static const struct {
        const char *scheme, *host, *path;
        char port;
        enum fetch_result result;
        unsigned status;
        const char *body;
    } cases[] = {
        { "https", "none.test", "/text", 's', FETCH_DNS, 0, "" },
        { "https", "broken.test", "/text", 's', FETCH_DNS, 0, "" },
        { "https", "inside.test", "/text", 's', FETCH_DNS, 0, "" },
        { "https", "127.0.0.2", "/text", 's', FETCH_DNS, 0, "" },
        { "https", "[fe80::2]", "/text", 's', FETCH_DNS, 0, "" },
        { "https", "good.test", "/text", '1', FETCH_CONNECT, 0, "" },
        { "https", "good.test", "/text", 'h', FETCH_TLS, 0, "" },
        { "https", "other.test", "/text", 's', FETCH_CERTIFICATE, 0, "" },
        { "https", "127.0.0.1", "/text", 's', FETCH_CERTIFICATE, 0, "" },
        { "http", "good.test", "/text", 's', FETCH_HTTP, 0, "" },
        { "https", "good.test", "/none", 's', FETCH_HTTP, 404, "no such thing" },
        { "https", "good.test", "/redirect", 's', FETCH_HTTP, 302, "" },
        { "https", "good.test", "/short", 's', FETCH_HTTP, 200, "hel" },
        { "https", "good.test", "/announced", 's', FETCH_TOO_LARGE, 200, "" },
        { "https", "good.test", "/endless", 's', FETCH_TOO_LARGE, 200, "" },
        { "https", "good.test", "/empty", 's', FETCH_DONE, 200, "" },
        { "https", "good.test", "/text", 's', FETCH_DONE, 200, "hello\n" },
        { "http", "good.test", "/text", 'h', FETCH_DONE, 200, "hello\n" },
        { "http", "127.0.0.1", "/text", 'h', FETCH_DONE, 200, "hello\n" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        const char *url = url_of(cases[i].scheme, cases[i].host, cases[i].port, cases[i].path);
        struct got got = asking(url);
        cr_assert_eq(fetch_start(fetcher, &got.request), 0, "%s", url);
        cr_assert_eq(got.answers, 0);
        wait_for(&got.answers, 1);
        cr_assert_eq(got.result, cases[i].result, "%s: %s, %s", url, fetch_result_name(got.result),
                     got.why);
        cr_assert_eq(got.status, cases[i].status, "%s: %u", url, got.status);
        if (got.result != FETCH_TOO_LARGE)
            cr_assert_str_eq(got.body, cases[i].body);
        cr_assert_eq(*got.why != '\0', got.result != FETCH_DONE, "%s: %s", url, got.why);
        cr_assert_str_eq(got.type, got.body[0] == 'h' && got.body[4] == 'o'
                                       ? "text/plain; charset=us-ascii"
                                       : "");
    }
    cr_assert_eq(fetcher_numbers(fetcher)->results[FETCH_DONE], 4);
    cr_assert_eq(fetcher_numbers(fetcher)->waiting, 0);
}

Test(fetch, what_is_no_url_of_http_is_refused_at_once)
{
    static const char *const urls[] = {
        "",
        "good.test",
        "file:///etc/passwd",
        "ftp://good.test/",
        "https://",
        "https://user:secret@good.test/",
        "https://good.test:0/",
        "https://good.test:70000/",
        "https://[::1/",
    };
    for (unsigned i = 0; i < ARRAY_COUNT(urls); i++) {
        struct got got = asking(urls[i]);
        cr_assert_eq(fetch_start(fetcher, &got.request), -EINVAL, "%s", urls[i]);
        cr_assert_eq(got.request.job, NULL);
    }
}

Test(fetch, what_roots_are_for_and_what_an_operator_may)
{
    struct got got = asking(url_of("https", "good.test", 's', "/text"));
    got.request.ca_file = "/etc/ssl/certs/ca-certificates.crt";
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    wait_for(&got.answers, 1);
    cr_assert_eq(got.result, FETCH_CERTIFICATE, "%s", got.why);
    got.request.ca_file = "/nowhere/roots.pem";
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    wait_for(&got.answers, 2);
    cr_assert_eq(got.result, FETCH_LOCAL, "%s: %s", fetch_result_name(got.result), got.why);
    got.request.ca_file = NULL;
    got.request.url = url_of("http", "127.0.0.2", 'h', "/text");
    got.request.any_address = true; /* it is asked: nobody listens there */
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    wait_for(&got.answers, 3);
    cr_assert_eq(got.result, FETCH_CONNECT, "%s: %s", fetch_result_name(got.result), got.why);
}

Test(fetch, a_document_is_sent)
{
    struct got got = asking(url_of("https", "good.test", 's', "/there"));
    got.request.post_type = "application/tlsrpt+gzip";
    got.request.post = slice_of("a\0b", 3);
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    wait_for(&got.answers, 1);
    cr_assert_eq(got.result, FETCH_DONE, "%s", got.why);
    cr_assert_eq(got.status, 201);
    cr_assert_arr_eq(got.body, "application/tlsrpt+gzip|a\0b", 27);
    got.request.post.size = FETCH_POST_MAX + 1;
    cr_assert_eq(fetch_start(fetcher, &got.request), -EFBIG);
}

Test(fetch, a_silent_server_is_left_at_its_time)
{
    struct got got = asking(url_of("https", "good.test", 's', "/silent"));
    got.request.timeout_ms = 300;
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    wait_for(&got.answers, 1);
    cr_assert_eq(got.result, FETCH_TIMEOUT, "%s: %s", fetch_result_name(got.result), got.why);
}

Test(fetch, many_wait_their_turn_and_what_is_forgotten_is_not_told)
{
    static struct got gots[MANY];
    unsigned done = 0;
    for (unsigned i = 0; i < MANY; i++) {
        gots[i] = asking(url_of("http", i % 2 == 0 ? "good.test" : "a.test", 'h', "/text"));
        cr_assert_eq(fetch_start(fetcher, &gots[i].request), 0);
    }
    cr_assert_eq(fetcher_numbers(fetcher)->waiting, MANY);
    for (unsigned i = 0; i < MANY; i += 4)
        fetch_forget(&gots[i].request);
    for (unsigned i = 0; i < MANY; i++) {
        if (i % 4 == 0)
            continue;
        wait_for(&gots[i].answers, 1);
        cr_assert_eq(gots[i].result, FETCH_DONE, "%s", gots[i].why);
        done++;
    }
    for (unsigned i = 0; i < MANY; i += 4)
        cr_assert_eq(gots[i].answers, 0);
    cr_assert_eq(done, MANY / 4 * 3);
    cr_assert_eq(fetcher_numbers(fetcher)->waiting, 0);
}

/* ---- looked at ---- */

struct seen {
    struct fetch_look look;
    pthread_t thread;
    unsigned runs, drops;
    char body[64];
};

static void seen_run(struct fetch_look *look, struct slice body)
{
    struct seen *seen = container_of(look, struct seen, look);
    seen->runs++;
    seen->thread = pthread_self();
    slice_to_string(body, seen->body, sizeof(seen->body));
}

static void seen_drop(struct fetch_look *look)
{
    container_of(look, struct seen, look)->drops++;
}

Test(fetch, a_document_is_looked_at_on_the_other_thread)
{
    static const char *const paths[] = { "/text", "/none", "/text" };
    static struct seen seen[3];
    struct got gots[3];
    for (unsigned i = 0; i < ARRAY_COUNT(paths); i++) {
        seen[i].look = (struct fetch_look) { .run = seen_run, .drop = seen_drop };
        gots[i] = asking(url_of("http", "good.test", 'h', paths[i]));
        gots[i].request.look = &seen[i].look;
        cr_assert_eq(fetch_start(fetcher, &gots[i].request), 0);
    }
    fetch_forget(&gots[2].request);
    wait_for(&gots[0].answers, 1);
    wait_for(&gots[1].answers, 1);
    cr_expect_eq(seen[0].runs, 1);
    cr_expect_str_eq(seen[0].body, "hello\n");
    cr_expect_not(pthread_equal(seen[0].thread, pthread_self()));
    cr_expect_eq(gots[0].look, &seen[0].look); /* ours again */
    cr_expect_eq(seen[0].drops, 0);
    cr_expect_eq(seen[1].runs, 0); /* 404 */
    cr_expect_eq(gots[1].look, &seen[1].look);
    cr_expect_eq(seen[1].drops, 0);
    wait_for(&seen[2].drops, 1);
    cr_expect_eq(gots[2].answers, 0);
}

Test(fetch, what_would_have_looked_is_dropped_with_the_rest)
{
    static struct seen seen = { .look = { .run = seen_run, .drop = seen_drop } };
    struct got got = asking(url_of("https", "good.test", 's', "/silent"));
    got.request.look = &seen.look;
    cr_assert_eq(fetch_start(fetcher, &got.request), 0);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(shard_step(&control, control.now_ms + STEP_MS), 0);
    fetcher_free(fetcher);
    fetcher = NULL;
    cr_expect_eq(seen.runs, 0);
    cr_expect_eq(seen.drops, 1);
}

Test(fetch, the_end_does_not_wait_for_servers)
{
    static struct got gots[FETCH_HOST_MAX + 2];
    for (unsigned i = 0; i < ARRAY_COUNT(gots); i++) {
        gots[i] = asking(url_of("https", "good.test", 's', "/silent"));
        cr_assert_eq(fetch_start(fetcher, &gots[i].request), 0);
    }
    for (unsigned i = 0; i < 10; i++) /* some are on their way, others wait */
        cr_assert_eq(shard_step(&control, control.now_ms + STEP_MS), 0);
    fetcher_free(fetcher); /* the limit of this test is longer than the servers' silence */
    fetcher = NULL;
    for (unsigned i = 0; i < ARRAY_COUNT(gots); i++)
        cr_assert_eq(gots[i].answers, 0);
}
