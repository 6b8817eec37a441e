/*
 * fetch.c - libcurl in a thread, names by our own resolver
 *
 *   control thread:  WAITING --a place--> RESOLVING --addresses--> RUNNING        .-> fetched()
 *                                             '--none---------------'--.---------'
 *   worker's thread:                                inbox --libcurl--> outbox, eventfd
 *
 * A job belongs to the control thread but from inbox to outbox. Only the control thread looks at
 * job->request: forgetting clears it, and the answer is dropped when it comes. The lists between
 * the threads have a mutex, held for as long as it takes to move a list; the control thread polls
 * an eventfd, the worker waits in curl_multi_poll and is woken by libcurl's own means.
 *
 * libcurl is given the addresses that the resolver found (CURLOPT_RESOLVE), so it never asks itself
 * and never sees one that is not allowed. Each job has a connection of its own: hosts are rarely
 * the same, and what one was verified with must not serve another.
 */
#define CURL_DISABLE_TYPECHECK /* options are set from tables */
#include "core/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/check.h"

enum {
    ADDRESSES_MAX = 8,
    RESOLVE_TEXT_MAX = DNS_NAME_MAX + ADDRESSES_MAX * NET_TEXT_MAX + 16,
    POLL_MS = 60'000, /* the worker is woken before, when there is something */
    STEP_MS = 2,
    BODY_BYTES_FIRST = 4'096,
    HTTP_OK = 200,
    HTTP_OK_LAST = 299,
};

struct fetch_job {
    struct list node; /* waiting, inbox, outbox, or all alone */
    struct fetcher *fetcher;
    struct fetch_request *request; /* NULL: forgotten */
    uint64_t deadline_ms;
    /* what is asked */
    char *url, *ca_file, *post_type, *post;
    size_t post_bytes;
    uint32_t bytes_max;
    uint32_t timeout_ms;
    bool any_address;
    bool literal; /* the host is an address */
    uint16_t port;
    char host[DNS_NAME_MAX + 2];
    /* the host's addresses */
    struct dns_query queries[2]; /* A, AAAA */
    unsigned questions;
    unsigned addresses_count;
    struct net_address addresses[ADDRESSES_MAX];
    bool refused; /* one or more are not allowed */
    /* the worker's */
    CURL *easy;
    struct curl_slist *resolve, *header;
    uint8_t *body;
    size_t body_bytes, body_room;
    struct fetch_look *look;
    bool too_large;
    char error[CURL_ERROR_SIZE];
    /* answered */
    enum fetch_result result;
    unsigned status;
    char type[FETCH_TYPE_MAX];
    char why[FETCH_WHY_MAX];
};

struct fetcher {
    struct shard *control;
    struct dns *dns;
    struct fetch_options options;
    struct fetch_numbers numbers;
    struct list waiting;
    struct list running; /* that are not the worker's: their names are being asked for */
    struct task begin;
    struct op poll;
    int event;
    bool ending;
    CURLM *multi;
    pthread_t worker;
    struct list working; /* the worker's: with libcurl */
    pthread_mutex_t mutex;
    struct list inbox, outbox;
    bool stop;
    struct fetch_job *places[FETCH_RUNNING_MAX];
};

const char *fetch_result_name(enum fetch_result result)
{
    static const char *const names[FETCH_RESULTS] = {
        "done", "dns", "connect", "tls", "certificate", "http", "too-large", "timeout", "local",
    };
    return names[result];
}

/* ---- the worker's thread ---- */

static size_t on_body(char *data, size_t size, size_t count, void *argument)
{
    struct fetch_job *job = argument;
    size_t bytes = size * count;
    if (bytes > job->bytes_max - job->body_bytes) {
        job->too_large = true;
        return 0;
    }
    if (job->body_bytes + bytes > job->body_room) {
        size_t room = MAX(job->body_room * 2, (size_t)BODY_BYTES_FIRST);
        while (room < job->body_bytes + bytes)
            room *= 2;
        uint8_t *body = realloc(job->body, room);
        if (body == NULL)
            return 0;
        job->body = body;
        job->body_room = room;
    }
    if (bytes > 0)
        memcpy(job->body + job->body_bytes, data, bytes);
    job->body_bytes += bytes;
    return bytes;
}

/* "+host:port:a,b": the plus lets libcurl forget them in time. */
static struct curl_slist *resolve_list(const struct fetch_job *job)
{
    char text[RESOLVE_TEXT_MAX];
    int size = snprintf(text, sizeof(text), "+%s:%u:", job->host, job->port);
    for (unsigned i = 0; i < job->addresses_count; i++) {
        char address[NET_TEXT_MAX];
        net_text(&job->addresses[i], false, address);
        size +=
            snprintf(text + size, sizeof(text) - (size_t)size, "%s%s", i > 0 ? "," : "", address);
    }
    return curl_slist_append(NULL, text);
}

static bool set_post(struct fetch_job *job)
{
    char text[FETCH_TYPE_MAX + 16];
    snprintf(text, sizeof(text), "Content-Type: %s", job->post_type);
    struct curl_slist *list = curl_slist_append(NULL, text);
    if (list == NULL)
        return false;
    job->header = list;
    return curl_slist_append(list, "Expect:") != NULL &&
           curl_easy_setopt(job->easy, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(job->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->post_bytes) ==
               CURLE_OK &&
           curl_easy_setopt(job->easy, CURLOPT_POSTFIELDS, job->post) == CURLE_OK &&
           curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, list) == CURLE_OK;
}

static bool job_set(struct fetch_job *job)
{
    const struct fetch_options *options = &job->fetcher->options;
    const char *roots = job->ca_file != NULL ? job->ca_file : options->system_roots;
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        { CURLOPT_NOSIGNAL, 1 },
        { CURLOPT_FOLLOWLOCATION, 0 },
        { CURLOPT_FRESH_CONNECT, 1 },
        { CURLOPT_FORBID_REUSE, 1 },
        { CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1 },
        { CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2 },
        { CURLOPT_SSL_VERIFYPEER, 1 },
        { CURLOPT_SSL_VERIFYHOST, 2 },
        { CURLOPT_TIMEOUT_MS, (long)job->timeout_ms },
        { CURLOPT_CONNECTTIMEOUT_MS, (long)job->timeout_ms },
    };
    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        { CURLOPT_URL, job->url },
        { CURLOPT_PROTOCOLS_STR, "http,https" },
        { CURLOPT_PROXY, "" }, /* also: none of the environment's */
        { CURLOPT_USERAGENT, options->agent },
        { CURLOPT_ERRORBUFFER, job->error },
        { CURLOPT_PRIVATE, job },
        { CURLOPT_WRITEDATA, job },
    };
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
        if (curl_easy_setopt(job->easy, numbers[i].option, numbers[i].value) != CURLE_OK)
            return false;
    for (size_t i = 0; i < ARRAY_COUNT(pointers); i++)
        if (curl_easy_setopt(job->easy, pointers[i].option, pointers[i].value) != CURLE_OK)
            return false;
    if (curl_easy_setopt(job->easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
        curl_easy_setopt(job->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)job->bytes_max) !=
            CURLE_OK)
        return false;
    if (roots != NULL && (curl_easy_setopt(job->easy, CURLOPT_CAINFO, roots) != CURLE_OK ||
                          curl_easy_setopt(job->easy, CURLOPT_CAPATH, NULL) != CURLE_OK))
        return false;
    job->resolve = job->literal ? NULL : resolve_list(job);
    return job->literal == (job->resolve == NULL) &&
           curl_easy_setopt(job->easy, CURLOPT_RESOLVE, job->resolve) == CURLE_OK &&
           (job->post_type == NULL || set_post(job));
}

static enum fetch_result result_of(const struct fetch_job *job, CURLcode code)
{
    if (job->too_large)
        return FETCH_TOO_LARGE;
    switch (code) {
    case CURLE_OK:
        return job->status >= HTTP_OK && job->status <= HTTP_OK_LAST ? FETCH_DONE : FETCH_HTTP;
    case CURLE_COULDNT_CONNECT: return FETCH_CONNECT;
    case CURLE_SSL_CONNECT_ERROR: return FETCH_TLS;
    case CURLE_PEER_FAILED_VERIFICATION: return FETCH_CERTIFICATE;
    case CURLE_FILESIZE_EXCEEDED: return FETCH_TOO_LARGE;
    case CURLE_OPERATION_TIMEDOUT: return FETCH_TIMEOUT;
    case CURLE_WRITE_ERROR: /* not too large: no memory */
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
    case CURLE_SSL_CACERT_BADFILE: return FETCH_LOCAL;
    default: return FETCH_HTTP;
    }
}

static void job_judge(struct fetch_job *job, CURLcode code)
{
    long status = 0;
    const char *type = NULL;
    if (job->easy != NULL) {
        curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(job->easy, CURLINFO_CONTENT_TYPE, &type);
    }
    job->status = (unsigned)status;
    snprintf(job->type, sizeof(job->type), "%s", type == NULL ? "" : type);
    job->result = result_of(job, code);
    job->why[0] = '\0'; /* what one family's question said does not matter any more */
    if (job->result == FETCH_TOO_LARGE)
        snprintf(job->why, sizeof(job->why), "more than %u bytes", job->bytes_max);
    else if (code == CURLE_OK && job->result != FETCH_DONE)
        snprintf(job->why, sizeof(job->why), "the server answers with status %u", job->status);
    else if (code != CURLE_OK)
        snprintf(job->why, sizeof(job->why), "%s",
                 job->error[0] != '\0' ? job->error : curl_easy_strerror(code));
}

static void job_give_back(struct fetch_job *job)
{
    if (job->easy != NULL)
        curl_easy_cleanup(job->easy);
    curl_slist_free_all(job->resolve);
    curl_slist_free_all(job->header);
    job->easy = NULL;
    job->resolve = NULL;
    job->header = NULL;
}

static void job_done(struct fetch_job *job, CURLcode code, struct list *done)
{
    job_judge(job, code);
    job_give_back(job);
    if (job->look != NULL && job->result == FETCH_DONE)
        job->look->run(job->look, slice_of(job->body, job->body_bytes));
    list_remove(&job->node);
    list_push(done, &job->node);
}

static void worker_take(struct fetcher *fetcher, struct list *jobs, struct list *done)
{
    struct list *node;
    while ((node = list_pop(jobs)) != NULL) {
        struct fetch_job *job = container_of(node, struct fetch_job, node);
        list_push(&fetcher->working, node);
        job->easy = curl_easy_init();
        if (job->easy == NULL || !job_set(job) ||
            curl_multi_add_handle(fetcher->multi, job->easy) != CURLM_OK)
            job_done(job, CURLE_OUT_OF_MEMORY, done);
    }
}

static void worker_collect(struct fetcher *fetcher, struct list *done)
{
    int left = 0;
    const CURLMsg *message;
    while ((message = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;
        char *found = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &found);
        curl_multi_remove_handle(fetcher->multi, easy);
        job_done((struct fetch_job *)(void *)found, code, done);
    }
}

static void *worker_run(void *argument)
{
    struct fetcher *fetcher = argument;
    struct list jobs;
    struct list done;
    list_init(&jobs);
    list_init(&done);
    for (;;) {
        pthread_mutex_lock(&fetcher->mutex);
        bool stop = fetcher->stop;
        bool news = !list_empty(&done);
        list_append(&jobs, &fetcher->inbox);
        list_append(&fetcher->outbox, &done);
        pthread_mutex_unlock(&fetcher->mutex);
        if (news)
            (void)eventfd_write(fetcher->event, 1);
        if (stop)
            break;
        worker_take(fetcher, &jobs, &done);
        int running = 0;
        (void)curl_multi_perform(fetcher->multi, &running);
        worker_collect(fetcher, &done);
        if (list_empty(&done))
            (void)curl_multi_poll(fetcher->multi, NULL, 0, POLL_MS, NULL);
    }
    list_append(&fetcher->working, &jobs);
    list_each (node, &fetcher->working) {
        struct fetch_job *job = container_of(node, struct fetch_job, node);
        if (job->easy != NULL)
            curl_multi_remove_handle(fetcher->multi, job->easy);
        job_give_back(job);
    }
    return NULL;
}

/* ---- the control thread: jobs ---- */

static void job_free(struct fetch_job *job)
{
    if (job->look != NULL)
        job->look->drop(job->look);
    free(job->url);
    free(job->ca_file);
    free(job->post_type);
    free(job->post);
    free(job->body);
    free(job);
}

static void jobs_free(struct list *jobs)
{
    struct list *node;
    while ((node = list_pop(jobs)) != NULL)
        job_free(container_of(node, struct fetch_job, node));
}

static bool has_place(const struct fetcher *fetcher, const struct fetch_job *wanted)
{
    unsigned same = 0;
    unsigned all = 0;
    for (unsigned i = 0; i < FETCH_RUNNING_MAX; i++) {
        const struct fetch_job *job = fetcher->places[i];
        all += job != NULL;
        same += job != NULL && strcmp(job->host, wanted->host) == 0;
    }
    return all < FETCH_RUNNING_MAX && same < FETCH_HOST_MAX;
}

static void place_set(struct fetcher *fetcher, const struct fetch_job *from, struct fetch_job *to)
{
    for (unsigned i = 0; i < FETCH_RUNNING_MAX; i++) {
        if (fetcher->places[i] != from)
            continue;
        fetcher->places[i] = to;
        return;
    }
    CHECK(false);
}

static void job_answer(struct fetch_job *job)
{
    struct fetcher *fetcher = job->fetcher;
    struct fetch_request *request = job->request;
    list_remove(&job->node);
    place_set(fetcher, job, NULL);
    metric_add(&fetcher->numbers.results[job->result], 1);
    metric_add(&fetcher->numbers.bytes, job->body_bytes);
    metric_sub(&fetcher->numbers.waiting, 1);
    if (request != NULL) {
        const struct fetch_answer answer = {
            .result = job->result,
            .status = job->status,
            .body = slice_of(job->body, job->body_bytes),
            .content_type = job->type,
            .why = job->why,
            .look = job->look,
        };
        job->look = NULL;
        request->job = NULL;
        request->fetched(request, &answer);
    }
    job_free(job);
    shard_run_later(fetcher->control, &fetcher->begin);
}

static void job_run(struct fetch_job *job)
{
    struct fetcher *fetcher = job->fetcher;
    uint64_t now_ms = fetcher->control->now_ms;
    job->timeout_ms = job->deadline_ms > now_ms ? (uint32_t)(job->deadline_ms - now_ms) : 1;
    list_remove(&job->node);
    pthread_mutex_lock(&fetcher->mutex);
    list_push(&fetcher->inbox, &job->node);
    pthread_mutex_unlock(&fetcher->mutex);
    (void)curl_multi_wakeup(fetcher->multi);
}

/* ---- the control thread: the host's addresses ---- */

static void address_add(struct fetch_job *job, const struct net_address *address)
{
    const struct fetch_options *options = &job->fetcher->options;
    if (!job->any_address && net_is_special(address) &&
        (options->allowed == NULL || !options->allowed(options->owner, address)))
        job->refused = true;
    else if (job->addresses_count < ADDRESSES_MAX)
        job->addresses[job->addresses_count++] = *address;
}

static void resolved(struct fetch_job *job)
{
    if (job->addresses_count > 0) {
        job_run(job);
        return;
    }
    job->result = FETCH_DNS;
    if (job->refused)
        snprintf(job->why, sizeof(job->why), "its address is not one for a public host");
    else if (job->why[0] == '\0')
        snprintf(job->why, sizeof(job->why), "no such host in DNS");
    job_answer(job);
}

static void add_records(struct fetch_job *job, const struct dns_answer *answer)
{
    for (unsigned i = 0; i < answer->count && i < ADDRESSES_MAX / 2; i++) {
        static const uint8_t v4[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
        struct net_address address = { 0 };
        size_t size = answer->records[i].size;
        CHECK(size == 4 || size == 16);
        memcpy(address.octets, v4, sizeof(v4));
        memcpy(address.octets + sizeof(address.octets) - size, answer->records[i].data, size);
        address_add(job, &address);
    }
}

static void query_answered(struct fetch_job *job, const struct dns_answer *answer)
{
    if (answer->status == DNS_OK)
        add_records(job, answer);
    else if (answer->status != DNS_NODATA && answer->status != DNS_NXDOMAIN)
        snprintf(job->why, sizeof(job->why), "DNS: %s", answer->why);
    if (--job->questions == 0)
        resolved(job);
}

static void on_a(struct dns_query *query, const struct dns_answer *answer)
{
    query_answered(container_of(query, struct fetch_job, queries[0]), answer);
}

static void on_aaaa(struct dns_query *query, const struct dns_answer *answer)
{
    query_answered(container_of(query, struct fetch_job, queries[1]), answer);
}

static void job_resolve(struct fetch_job *job)
{
    struct fetcher *fetcher = job->fetcher;
    struct net_address address;
    const struct slice host = slice_of_string(job->host);
    list_push(&fetcher->running, &job->node);
    place_set(fetcher, NULL, job);
    if (net_parse(host, 0, &address) == 0) {
        job->literal = true;
        address_add(job, &address);
        resolved(job);
        return;
    }
    job->questions = ARRAY_COUNT(job->queries);
    job->queries[0] = (struct dns_query) { .answered = on_a, .deadline_ms = job->deadline_ms };
    job->queries[1] = (struct dns_query) { .answered = on_aaaa, .deadline_ms = job->deadline_ms };
    dns_ask(fetcher->dns, fetcher->control, &job->queries[0], job->host, DNS_A);
    dns_ask(fetcher->dns, fetcher->control, &job->queries[1], job->host, DNS_AAAA);
}

static void begin_run(struct task *task)
{
    struct fetcher *fetcher = container_of(task, struct fetcher, begin);
    list_each_safe(node, &fetcher->waiting)
    {
        struct fetch_job *job = container_of(node, struct fetch_job, node);
        if (job->request != NULL && !has_place(fetcher, job))
            continue;
        list_remove(node);
        if (job->request == NULL) {
            metric_sub(&fetcher->numbers.waiting, 1);
            job_free(job);
            continue;
        }
        job->deadline_ms = fetcher->control->now_ms + job->timeout_ms;
        job_resolve(job);
    }
}

static void on_event(struct op *op, int res, unsigned flags)
{
    struct fetcher *fetcher = container_of(op, struct fetcher, poll);
    eventfd_t count;
    struct list done;
    struct list *node;
    (void)res; /* an error is found again when the poll is armed anew */
    if (fetcher->ending)
        return;
    (void)eventfd_read(fetcher->event, &count);
    list_init(&done);
    pthread_mutex_lock(&fetcher->mutex);
    list_append(&done, &fetcher->outbox);
    pthread_mutex_unlock(&fetcher->mutex);
    while ((node = list_pop(&done)) != NULL)
        job_answer(container_of(node, struct fetch_job, node));
    if (!(flags & RING_MORE))
        ring_poll(fetcher->control->ring, &fetcher->poll, fetcher->event);
}

/* ---- requests ---- */

/* The URL's host, without brackets, and port. 0 or -EINVAL. */
static int read_url(struct fetch_job *job, const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL;
    char *host = NULL;
    char *port = NULL;
    uint64_t number = 0;
    int r = -EINVAL;
    if (strlen(url) < FETCH_URL_MAX && parts != NULL &&
        curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0) &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK && strlen(host) < DNS_NAME_MAX &&
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
        slice_to_u64(slice_of_string(port), UINT16_MAX, &number) == 0 && number != 0)
        r = 0;
    if (r == 0) {
        size_t size = strlen(host);
        bool v6 = host[0] == '[';
        snprintf(job->host, sizeof(job->host), "%.*s", (int)(v6 ? size - 2 : size), host + v6);
        job->port = (uint16_t)number;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return r;
}

static int copy_text(const char *from, char **to)
{
    *to = from == NULL ? NULL : strdup(from);
    return from != NULL && *to == NULL ? -ENOMEM : 0;
}

static int job_fill(struct fetch_job *job, const struct fetch_request *request)
{
    if (request->post.size > FETCH_POST_MAX)
        return -EFBIG;
    int r = read_url(job, request->url);
    if (r == 0)
        r = copy_text(request->url, &job->url);
    if (r == 0)
        r = copy_text(request->ca_file, &job->ca_file);
    if (r == 0)
        r = copy_text(request->post_type, &job->post_type);
    if (r < 0 || request->post_type == NULL)
        return r;
    job->post = malloc(request->post.size + 1);
    if (job->post == NULL)
        return -ENOMEM;
    if (request->post.size > 0)
        memcpy(job->post, request->post.data, request->post.size);
    job->post_bytes = request->post.size;
    return 0;
}

int fetch_start(struct fetcher *fetcher, struct fetch_request *request)
{
    CHECK(request->job == NULL);
    CHECK(request->timeout_ms > 0);
    if (fetcher->numbers.waiting >= FETCH_WAITING_MAX || fetcher->ending)
        return -ENOBUFS;
    struct fetch_job *job = calloc(1, sizeof(*job));
    if (job == NULL)
        return -ENOMEM;
    int r = job_fill(job, request);
    if (r < 0) {
        job_free(job);
        return r;
    }
    job->fetcher = fetcher;
    job->request = request;
    job->bytes_max = request->bytes_max;
    job->timeout_ms = request->timeout_ms;
    job->any_address = request->any_address;
    job->look = request->look;
    request->job = job;
    list_push(&fetcher->waiting, &job->node);
    metric_add(&fetcher->numbers.waiting, 1);
    shard_run_later(fetcher->control, &fetcher->begin);
    return 0;
}

void fetch_forget(struct fetch_request *request)
{
    if (request->job != NULL)
        request->job->request = NULL;
    request->job = NULL;
}

/* ---- life ---- */

static int worker_start(struct fetcher *fetcher)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&fetcher->worker, NULL, worker_run, fetcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        pthread_setname_np(fetcher->worker, "fetch");
    return -r;
}

int fetcher_new(struct shard *control, struct dns *dns, const struct fetch_options *options,
                struct fetcher **result)
{
    struct fetcher *fetcher = calloc(1, sizeof(*fetcher));
    if (fetcher == NULL)
        return -ENOMEM;
    fetcher->control = control;
    fetcher->dns = dns;
    fetcher->options = *options;
    list_init(&fetcher->waiting);
    list_init(&fetcher->running);
    list_init(&fetcher->working);
    list_init(&fetcher->inbox);
    list_init(&fetcher->outbox);
    task_init(&fetcher->begin, begin_run);
    pthread_mutex_init(&fetcher->mutex, NULL);
    int r = -ENOMEM;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        goto out_free;
    fetcher->multi = curl_multi_init();
    if (fetcher->multi == NULL)
        goto out_curl;
    fetcher->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = fetcher->event < 0 ? -errno : worker_start(fetcher);
    if (r < 0)
        goto out_event;
    fetcher->poll.landed = on_event;
    ring_poll(control->ring, &fetcher->poll, fetcher->event);
    *result = fetcher;
    return 0;

out_event:
    if (fetcher->event >= 0)
        close(fetcher->event);
    curl_multi_cleanup(fetcher->multi);
out_curl:
    curl_global_cleanup();
out_free:
    pthread_mutex_destroy(&fetcher->mutex);
    free(fetcher);
    return r;
}

void fetcher_free(struct fetcher *fetcher)
{
    if (fetcher == NULL)
        return;
    struct shard *control = fetcher->control;
    fetcher->ending = true;
    pthread_mutex_lock(&fetcher->mutex);
    fetcher->stop = true;
    pthread_mutex_unlock(&fetcher->mutex);
    (void)curl_multi_wakeup(fetcher->multi);
    pthread_join(fetcher->worker, NULL);
    list_each (node, &fetcher->running) {
        struct fetch_job *job = container_of(node, struct fetch_job, node);
        for (unsigned i = 0; i < ARRAY_COUNT(job->queries); i++)
            dns_forget(fetcher->dns, &job->queries[i]);
    }
    shard_forget(&fetcher->begin);
    if (fetcher->poll.inflight)
        ring_cancel(control->ring, &fetcher->poll);
    while (fetcher->poll.inflight && shard_step(control, control->now_ms + STEP_MS) == 0)
        ;
    jobs_free(&fetcher->waiting);
    jobs_free(&fetcher->running);
    jobs_free(&fetcher->inbox);
    jobs_free(&fetcher->outbox);
    jobs_free(&fetcher->working);
    close(fetcher->event);
    curl_multi_cleanup(fetcher->multi);
    curl_global_cleanup();
    pthread_mutex_destroy(&fetcher->mutex);
    free(fetcher);
}

/* ---- numbers ---- */

const struct fetch_numbers *fetcher_numbers(const struct fetcher *fetcher)
{
    return &fetcher->numbers;
}

#define FETCH_COUNT(word, result)                                                                  \
    {                                                                                              \
        "ringpost_fetches_total", "result=\"" word "\"", "Documents asked for by HTTP, by result", \
            METRIC_COUNTER, 0,                                                                     \
            offsetof(struct fetch_numbers, results) + (result) * sizeof(uint64_t)                  \
    }

const struct metric fetch_metrics[] = {
    FETCH_COUNT("done", FETCH_DONE),
    FETCH_COUNT("dns", FETCH_DNS),
    FETCH_COUNT("connect", FETCH_CONNECT),
    FETCH_COUNT("tls", FETCH_TLS),
    FETCH_COUNT("certificate", FETCH_CERTIFICATE),
    FETCH_COUNT("http", FETCH_HTTP),
    FETCH_COUNT("too-large", FETCH_TOO_LARGE),
    FETCH_COUNT("timeout", FETCH_TIMEOUT),
    FETCH_COUNT("local", FETCH_LOCAL),
    { "ringpost_fetch_bytes_total", NULL, "Octets of documents that came by HTTP", METRIC_COUNTER,
      0, offsetof(struct fetch_numbers, bytes) },
    { "ringpost_fetches_under_way", NULL, "Documents being asked for, at servers or waiting",
      METRIC_GAUGE, 0, offsetof(struct fetch_numbers, waiting) },
};
const unsigned fetch_metrics_count = ARRAY_COUNT(fetch_metrics);
