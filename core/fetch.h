/*
 * fetch.h - documents by HTTP and HTTPS, without waiting
 *
 * One fetcher per process, owned by the control thread: policies, lists of revoked certificates,
 * reports. Names are asked for by our own resolver (core/dns.h); the rest is libcurl's, in a thread
 * of its own. Nothing of a mail session ever waits for it.
 *
 *   fetch_request: idle --fetch_start--> under way --fetched()--> idle
 *                                            '--fetch_forget--> (answer is dropped) idle
 *
 * HTTPS is TLS 1.2 or later, verified against the system's roots or a file of them, and the
 * host's name. Redirections are not followed, they are an answer like others; proxies and
 * cookies do not exist.
 *
 * Bounds: FETCH_WAITING_MAX requests at a time, FETCH_RUNNING_MAX of them at servers, of which
 * FETCH_HOST_MAX are at one host; bytes_max and timeout_ms of each.
 */
#ifndef RINGPOST_CORE_FETCH_H
#define RINGPOST_CORE_FETCH_H

#include "core/dns.h"
#include "core/metrics.h"

enum {
    FETCH_WAITING_MAX = 1'024,
    FETCH_RUNNING_MAX = 16,
    FETCH_HOST_MAX = 2,
    FETCH_URL_MAX = 2'048,
    FETCH_WHY_MAX = 256,
    FETCH_TYPE_MAX = 128,
    FETCH_POST_MAX = 16 << 20, /* bytes to send */
};

enum fetch_result {
    FETCH_DONE,        /* a status of 2xx and all of the body */
    FETCH_DNS,         /* the host has no address, none that may be asked, or DNS has no answer */
    FETCH_CONNECT,     /* no connection */
    FETCH_TLS,         /* no handshake */
    FETCH_CERTIFICATE, /* not one to be trusted, or of another host */
    FETCH_HTTP,        /* another status, or an answer that ended before its end */
    FETCH_TOO_LARGE,
    FETCH_TIMEOUT,
    FETCH_LOCAL, /* ours to blame: memory, a file of roots that cannot be read */
    FETCH_RESULTS,
};
const char *fetch_result_name(enum fetch_result result);

/* What is done with a document on the fetcher's thread, so that the loop does not wait for it: run,
 * when all of it has come (DONE). The fetcher's from fetch_start's 0 on; whoever is answered has it
 * back; drop is called when nobody is. */
struct fetch_look {
    void (*run)(struct fetch_look *look, struct slice body);
    void (*drop)(struct fetch_look *look);
};

struct fetch_answer {
    enum fetch_result result;
    unsigned status;          /* of HTTP; 0: there was none */
    struct slice body;        /* good until fetched() returns; so are the texts */
    const char *content_type; /* as the server wrote it; "": it did not */
    const char *why;          /* in words, unless DONE */
    struct fetch_look *look;  /* the request's */
};

struct fetch_request {
    void (*fetched)(struct fetch_request *request, const struct fetch_answer *answer);
    struct fetch_job *job; /* NULL: idle */
    /* All that follows is copied by fetch_start. */
    const char *url;       /* http: or https: */
    const char *ca_file;   /* PEM; NULL: the system's roots */
    const char *post_type; /* Content-Type of what is sent; NULL: nothing is, it is a GET */
    struct slice post;
    uint32_t bytes_max; /* of the body that comes */
    uint32_t timeout_ms;
    bool any_address;        /* an operator wrote the URL: private networks are fine */
    struct fetch_look *look; /* NULL: none */
};

struct fetch_numbers {
    uint64_t results[FETCH_RESULTS];
    uint64_t bytes, waiting;
};
extern const struct metric fetch_metrics[];
extern const unsigned fetch_metrics_count;

struct fetch_options {
    const char *agent;        /* User-Agent */
    const char *system_roots; /* a file; NULL: libcurl's */
    /* May a name from strangers lead there? Special addresses (net_is_special) only. */
    bool (*allowed)(void *owner, const struct net_address *address);
    void *owner;
};

struct fetcher;

/* On the control shard's thread; starts a thread that takes no signals. dns: the control shard's
 * own. The texts of options stay. 0 or errno. */
[[nodiscard]] int fetcher_new(struct shard *control, struct dns *dns,
                              const struct fetch_options *options, struct fetcher **fetcher);
/* Nobody is answered any more. Before the resolver's end; turns the control shard's loop until its
 * poll has landed. NULL is allowed. */
void fetcher_free(struct fetcher *fetcher);
const struct fetch_numbers *fetcher_numbers(const struct fetcher *fetcher);

/* The answer comes from the loop, never from in here. 0; -EINVAL: no such URL; -ENOBUFS: too many
 * wait; -EFBIG: too much to send; -ENOMEM. */
[[nodiscard]] int fetch_start(struct fetcher *fetcher, struct fetch_request *request);
/* No callback after this; harmless when idle. */
void fetch_forget(struct fetch_request *request);

#endif
