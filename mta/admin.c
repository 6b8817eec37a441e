/*
 * admin.c - requests of operators, answered on the control thread
 *
 * A question to a shard suspends its connection until the shard has answered by handoff; the shard
 * never waits. So does a reload until each shard has taken it: what is answered has happened. Each
 * listening socket is a daemon of libmicrohttpd without threads: the ring polls its epoll
 * descriptor, a timer looks after its time-outs.
 */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/check.h"
#include "mta/admin_inside.h"
#include "mta/admin_wire.h"
#include "mta/control.h"

enum {
    ADMIN_TICK_MS = 1'000,
    ADMIN_RUNS_MAX = 16,
    ADMIN_BACKLOG = 64,
    ADMIN_SOCKET_MODE = 0660,
};

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              void *text, size_t size, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
                                   const char *text)
{
    return answer(connection, status, "text/plain; charset=utf-8", (void *)(uintptr_t)text,
                  strlen(text), MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result answer_json(struct MHD_Connection *connection, unsigned status,
                                   json_t *object)
{
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    json_decref(object);
    if (text == NULL)
        return MHD_NO;
    return answer(connection, status, "application/json", text, strlen(text),
                  MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result answer_metrics(struct admin *admin, struct MHD_Connection *connection)
{
    char *text;
    int64_t size = metrics_render(&admin->control->metrics, &text);
    if (size < 0)
        return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text,
                  (size_t)size, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result answer_change(struct admin_daemon *daemon, struct MHD_Connection *connection,
                                     int (*change)(struct control *, char *), const char *done)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    if (change(daemon->admin->control, words) < 0)
        return answer_text(connection, MHD_HTTP_CONFLICT, words);
    return answer_text(connection, MHD_HTTP_OK, done);
}

static const char *argument_of(struct MHD_Connection *connection, const char *key)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, key);
}

enum MHD_Result admin_answer_json(struct MHD_Connection *connection, unsigned status,
                                  json_t *object)
{
    return answer_json(connection, status, object);
}

const char *admin_argument(struct MHD_Connection *connection, const char *key)
{
    return argument_of(connection, key);
}

/* ---- validations ---- */

static enum MHD_Result answer_validated(struct admin_daemon *daemon,
                                        struct MHD_Connection *connection)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    const char *name = argument_of(connection, "name"), *why = argument_of(connection, "why");
    const char *digest = argument_of(connection, "digest"), *good = argument_of(connection, "good");
    if (name == NULL || digest == NULL || good == NULL)
        return answer_text(connection, MHD_HTTP_BAD_REQUEST, "name, digest and good\n");
    const struct validation found = { .name = name,
                                      .digest = strtoull(digest, NULL, 16),
                                      .good = strcmp(good, "1") == 0,
                                      .why = why == NULL ? "" : why };
    char words[CONTROL_WORDS_MAX];
    int r = control_validated_put(daemon->admin->control, &found, words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

/* ---- floor memory ---- */

static enum MHD_Result answer_floor(struct admin_daemon *daemon, struct MHD_Connection *connection,
                                    const char *verb)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    int r = control_floor_decide(daemon->admin->control, verb, argument_of(connection, "host"),
                                 argument_of(connection, "domain"), words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

static enum MHD_Result answer_crl_fetch(struct admin_daemon *daemon,
                                        struct MHD_Connection *connection)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    int r = control_crl_fetch(daemon->admin->control, argument_of(connection, "url"), words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

static enum MHD_Result answer_report(struct admin *admin, struct MHD_Connection *connection)
{
    const char *name = argument_of(connection, "name");
    const char *host = argument_of(connection, "host");
    const char *domain = argument_of(connection, "domain");
    const char *exact = argument_of(connection, "exact");
    if (exact != NULL)
        return answer_json(
            connection, MHD_HTTP_OK,
            control_floor_record(admin->control, exact, domain == NULL ? "" : domain));
    return answer_json(connection, MHD_HTTP_OK,
                       control_floor_report(admin->control, name == NULL ? "" : name,
                                            host == NULL ? "" : host,
                                            domain == NULL ? "" : domain));
}

static enum MHD_Result answer_sts(struct admin *admin, struct MHD_Connection *connection)
{
    const char *domain = argument_of(connection, "domain");
    json_t *found = domain == NULL ? NULL : control_sts_report(admin->control, domain);
    return found != NULL ? answer_json(connection, MHD_HTTP_OK, found)
                         : answer_json(connection, MHD_HTTP_NOT_FOUND,
                                       json_pack("{s:s}", "error", "nothing is known of it"));
}

static enum MHD_Result answer_tlsrpt(struct admin *admin, struct MHD_Connection *connection)
{
    const char *domain = argument_of(connection, "domain");
    const char *day = argument_of(connection, "day");
    json_t *found =
        control_tlsrpt_report(admin->control, domain == NULL ? "" : domain, day == NULL ? "" : day);
    return found != NULL ? answer_json(connection, MHD_HTTP_OK, found)
                         : answer_json(connection, MHD_HTTP_NOT_FOUND,
                                       json_pack("{s:s}", "error", "there is nothing to report"));
}

static enum MHD_Result answer_tlsrpt_send(struct admin_daemon *daemon,
                                          struct MHD_Connection *connection)
{
    const char *domain = argument_of(connection, "domain");
    const char *day = argument_of(connection, "day");
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    int r = control_tlsrpt_send(daemon->admin->control, domain == NULL ? "" : domain,
                                day == NULL ? "" : day, words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

static enum MHD_Result answer_sts_refresh(struct admin_daemon *daemon,
                                          struct MHD_Connection *connection)
{
    const char *domain = argument_of(connection, "domain");
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    int r = control_sts_refresh(daemon->admin->control, domain == NULL ? "" : domain, words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

/* ---- connectors ---- */

static const char *text_of(struct MHD_Connection *connection, const char *key)
{
    const char *text = argument_of(connection, key);
    return text == NULL ? "" : text;
}

static enum MHD_Result answer_connectors(struct admin *admin, struct MHD_Connection *connection)
{
    uint64_t from = 0;
    const enum connector_direction direction =
        strcmp(text_of(connection, "direction"), "out") == 0 ? CONNECTOR_OUT : CONNECTOR_IN;
    if (slice_to_u64(slice_of_string(text_of(connection, "from")), CONNECTORS_MAX, &from) < 0)
        from = 0;
    return answer_json(connection, MHD_HTTP_OK,
                       control_connectors_list(admin->control, direction, (unsigned)from));
}

static enum MHD_Result answer_readiness(struct admin *admin, struct MHD_Connection *connection)
{
    json_t *object = control_connectors_readiness(admin->control, text_of(connection, "name"));
    if (object == NULL)
        return answer_json(connection, MHD_HTTP_NOT_FOUND,
                           json_pack("{s:s}", "error", "no such inbound connector"));
    return answer_json(connection, MHD_HTTP_OK, object);
}

static enum MHD_Result answer_sums(struct admin *admin, struct MHD_Connection *connection)
{
    struct sums_key key = { .direction = CONNECTOR_IN };
    uint64_t day = 0;
    uint64_t days = 0;
    if (slice_to_u64(slice_of_string(text_of(connection, "days")), UINT16_MAX, &days) < 0)
        days = 1;
    if (slice_to_u64(slice_of_string(text_of(connection, "day")), UINT32_MAX, &day) == 0)
        key.day = (uint32_t)day;
    if (strcmp(text_of(connection, "direction"), "out") == 0)
        key.direction = CONNECTOR_OUT;
    snprintf(key.name, sizeof(key.name), "%s", text_of(connection, "connector"));
    return answer_json(
        connection, MHD_HTTP_OK,
        control_sums_report(admin->control, argument_of(connection, "name"), (unsigned)days, &key));
}

static enum MHD_Result answer_horizon(struct admin *admin, struct MHD_Connection *connection)
{
    struct cert_place place = { 0 };
    uint64_t days = 0, side = 0;
    if (slice_to_u64(slice_of_string(text_of(connection, "days")), UINT16_MAX, &days) < 0)
        days = CERT_SEEN_FORGET_S / 86'400;
    if (slice_to_u64(slice_of_string(text_of(connection, "side")), CERT_SIDES - 1, &side) == 0)
        place.side = (enum cert_side)side;
    snprintf(place.title, sizeof(place.title), "%s", text_of(connection, "title"));
    snprintf(place.where, sizeof(place.where), "%s", text_of(connection, "where"));
    return answer_json(connection, MHD_HTTP_OK,
                       control_certificates_horizon(admin->control, (unsigned)days, &place));
}

void admin_peer(struct MHD_Connection *connection, char by[static CONNECTOR_BY_MAX])
{
    struct ucred peer = { 0 };
    socklen_t size = sizeof(peer);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    snprintf(by, CONNECTOR_BY_MAX, "unknown");
    if (info == NULL || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return;
    const struct passwd *user = getpwuid(peer.uid);
    if (user != NULL)
        snprintf(by, CONNECTOR_BY_MAX, "%s", user->pw_name);
    else
        snprintf(by, CONNECTOR_BY_MAX, "uid %u", peer.uid);
}

static enum MHD_Result answer_mark(struct admin_daemon *daemon, struct MHD_Connection *connection,
                                   bool blocks)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_ORDER_WORDS];
    char by[CONNECTOR_BY_MAX];
    admin_peer(connection, by);
    const struct control_order order = { .name = text_of(connection, "name"),
                                         .direction = argument_of(connection, "direction"),
                                         .reason = argument_of(connection, "reason"),
                                         .by = by };
    struct control *control = daemon->admin->control;
    int r = blocks ? control_connectors_block(control, &order, words)
                   : control_connectors_unblock(control, &order, words);
    return answer_text(connection, r < 0 ? MHD_HTTP_CONFLICT : MHD_HTTP_OK, words);
}

/* ---- reload ---- */

static enum MHD_Result answer_reload(struct admin_request *request)
{
    struct admin *admin = request->daemon->admin;
    if (request->answered)
        return answer_text(request->connection, request->refused ? MHD_HTTP_CONFLICT : MHD_HTTP_OK,
                           request->words != NULL ? request->words : "reloaded\n");
    if (request->asked)
        return MHD_YES;
    if (!request->daemon->local)
        return answer_text(request->connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    char words[CONTROL_WORDS_MAX];
    unsigned wishes = 0;
    if (argument_of(request->connection, "require-validated") != NULL)
        wishes |= RELOAD_REQUIRE_VALIDATED;
    if (argument_of(request->connection, "accept-weaker") != NULL)
        wishes |= RELOAD_ACCEPT_WEAKER;
    int r = control_reload(admin->control, wishes, words);
    if (r < 0)
        return answer_text(request->connection, MHD_HTTP_CONFLICT, words);
    request->asked = true;
    list_push(r == 1 ? &admin->counting : &admin->reloading, &request->node);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

bool admin_counted(struct admin *admin, bool taken, const char *words)
{
    struct list *node = list_pop(&admin->counting);
    if (node == NULL)
        return false;
    struct admin_request *request = container_of(node, struct admin_request, node);
    char text[CONTROL_WORDS_MAX + 16];
    snprintf(text, sizeof(text), "%s%s", words, taken ? "reloaded\n" : "");
    request->words = strdup(text);
    request->refused = !taken;
    if (taken) {
        list_push(&admin->reloading, &request->node);
        return true;
    }
    request->answered = true;
    MHD_resume_connection(request->connection);
    MHD_run(request->daemon->daemon);
    return true;
}

void admin_reloaded(struct admin *admin)
{
    struct list *node;
    while ((node = list_pop(&admin->reloading)) != NULL) {
        struct admin_request *request = container_of(node, struct admin_request, node);
        request->answered = true;
        MHD_resume_connection(request->connection);
    }
    for (unsigned i = 0; i < admin->count; i++)
        MHD_run(admin->daemons[i].daemon);
}

static enum MHD_Result answer_wire(struct admin_daemon *daemon, struct MHD_Connection *connection,
                                   bool post, const char *rest)
{
    if (!daemon->local)
        return answer_text(connection, MHD_HTTP_FORBIDDEN, "only on the unix socket\n");
    unsigned status;
    json_t *words = admin_wire(daemon->admin->control, connection, post, rest, &status);
    return answer_json(connection, status, words);
}

/* ---- requests ---- */

static enum MHD_Result admin_on_request(void *cls, struct MHD_Connection *connection,
                                        const char *url, const char *method, const char *version,
                                        const char *body, size_t *body_size, void **state)
{
    (void)version;
    (void)body;
    struct admin_daemon *daemon = cls;
    struct admin_request *request = *state;
    if (request == NULL) {
        request = calloc(1, sizeof(*request));
        if (request == NULL)
            return MHD_NO;
        request->daemon = daemon;
        request->connection = connection;
        list_init(&request->node);
        *state = request;
        return MHD_YES;
    }
    if (*body_size > 0) { /* nothing here takes a body; it is read and dropped */
        *body_size = 0;
        return MHD_YES;
    }
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0;
    bool post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    if (get && strcmp(url, "/metrics") == 0)
        return answer_metrics(daemon->admin, connection);
    if (get && strcmp(url, "/healthz") == 0)
        return answer_text(connection, MHD_HTTP_OK, "ok\n");
    if (get && strcmp(url, "/readyz") == 0)
        return control_ready(daemon->admin->control)
                   ? answer_text(connection, MHD_HTTP_OK, "ready\n")
                   : answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                                 "not taking new mail: starting, draining, or the spool is full "
                                 "or broken\n");
    if (strncmp(url, "/v1/queue", 9) == 0 && (url[9] == '\0' || url[9] == '/') && (get || post))
        return get ? admin_queue_get(request, url + 9) : admin_queue_post(request, url + 9);
    if ((get || post) && strncmp(url, "/v1/trace/session", 17) == 0)
        return answer_wire(daemon, connection, post, url + 17);
    if (post && strcmp(url, "/v1/reload") == 0)
        return answer_reload(request);
    if (post && strcmp(url, "/v1/connectors/validated") == 0)
        return answer_validated(daemon, connection);
    if (post && strcmp(url, "/v1/tls/rotate") == 0)
        return answer_change(daemon, connection, control_tls_rotate,
                             "rotated: new keys seal session tickets\n");
    if (get && strcmp(url, "/v1/connectors") == 0)
        return answer_connectors(daemon->admin, connection);
    if (get && strcmp(url, "/v1/connectors/show") == 0)
        return answer_json(
            connection, MHD_HTTP_OK,
            control_connectors_show(daemon->admin->control, text_of(connection, "name")));
    if (get && strcmp(url, "/v1/connectors/readiness") == 0)
        return answer_readiness(daemon->admin, connection);
    if (get && strcmp(url, "/v1/connectors/report") == 0)
        return answer_sums(daemon->admin, connection);
    if (get && strcmp(url, "/v1/connectors/horizon") == 0)
        return answer_horizon(daemon->admin, connection);
    if (post && strcmp(url, "/v1/connectors/block") == 0)
        return answer_mark(daemon, connection, true);
    if (post && strcmp(url, "/v1/connectors/unblock") == 0)
        return answer_mark(daemon, connection, false);
    if (get && strcmp(url, "/v1/tls/report") == 0)
        return answer_report(daemon->admin, connection);
    if (get && strcmp(url, "/v1/tls/crl") == 0)
        return answer_json(connection, MHD_HTTP_OK, control_crl_report(daemon->admin->control));
    if (post && strcmp(url, "/v1/tls/crl/fetch") == 0)
        return answer_crl_fetch(daemon, connection);
    if (get && strcmp(url, "/v1/tls/tlsrpt") == 0)
        return answer_tlsrpt(daemon->admin, connection);
    if (post && strcmp(url, "/v1/tls/tlsrpt/send") == 0)
        return answer_tlsrpt_send(daemon, connection);
    if (get && strcmp(url, "/v1/tls/sts") == 0)
        return answer_sts(daemon->admin, connection);
    if (post && strcmp(url, "/v1/tls/sts/refresh") == 0)
        return answer_sts_refresh(daemon, connection);
    if (post && strncmp(url, "/v1/tls/floor/", 14) == 0)
        return answer_floor(daemon, connection, url + 14);
    return get || post ? answer_text(connection, MHD_HTTP_NOT_FOUND, "no such page\n")
                       : answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or POST\n");
}

static void admin_on_completed(void *cls, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    struct admin_request *request = *state;
    if (request != NULL && request->question.messages != NULL)
        json_decref(request->question.messages);
    if (request != NULL)
        free(request->words);
    free(request);
}

static enum MHD_Result admin_on_accept(void *cls, const struct sockaddr *address, socklen_t size)
{
    struct admin_daemon *daemon = cls;
    if (daemon->local)
        return MHD_YES;
    struct sockaddr_storage name = { 0 };
    struct net_address peer;
    memcpy(&name, address, MIN((size_t)size, sizeof(name)));
    net_from_sockaddr(&name, &peer);
    return networks_hold(daemon->admin->control->config->admin.allow, &peer) ? MHD_YES : MHD_NO;
}

/* ---- sockets ---- */

static void admin_on_poll(struct op *op, int res, unsigned flags)
{
    struct admin_daemon *d = container_of(op, struct admin_daemon, poll);
    struct pollfd ready = { .fd = d->epoll, .events = POLLIN };
    for (unsigned i = 0; res >= 0 && !d->stopped && i < ADMIN_RUNS_MAX; i++) {
        MHD_run(d->daemon);
        if (poll(&ready, 1, 0) <= 0)
            break;
    }
    if (!(flags & RING_MORE) && !d->stopped)
        ring_poll(d->admin->control->shard.ring, &d->poll, d->epoll);
}

static void admin_on_timer(struct timer *timer)
{
    struct admin *admin = container_of(timer, struct admin, timer);
    admin_worked(admin);
    for (unsigned i = 0; i < admin->count; i++)
        MHD_run(admin->daemons[i].daemon);
    shard_timer_arm(&admin->control->shard, timer, ADMIN_TICK_MS);
}

static int admin_serve(struct admin *admin, int fd, bool local)
{
    struct admin_daemon *d = &admin->daemons[admin->count];
    *d = (struct admin_daemon) { .admin = admin, .local = local };
    d->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, admin_on_accept, d,
        admin_on_request, d, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)ADMIN_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_MEMORY, MHD_OPTION_NOTIFY_COMPLETED,
        admin_on_completed, d, MHD_OPTION_END);
    if (d->daemon == NULL)
        return -EIO;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    CHECK(info != NULL);
    d->epoll = info->epoll_fd;
    d->poll.landed = admin_on_poll;
    ring_poll(admin->control->shard.ring, &d->poll, d->epoll);
    admin->count++;
    return 0;
}

static int admin_unix(struct admin *admin, const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(name.sun_path))
        return -ENAMETOOLONG;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* A socket that nobody answers on is what a killed process left behind. */
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0) {
        close(fd);
        return -EADDRINUSE;
    }
    struct stat stat;
    if (lstat(path, &stat) == 0 && S_ISSOCK(stat.st_mode))
        unlink(path);
    int r = 0;
    if (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ||
        chmod(path, ADMIN_SOCKET_MODE) < 0 || listen(fd, ADMIN_BACKLOG) < 0)
        r = -errno;
    if (r == 0)
        r = admin_serve(admin, fd, true);
    if (r < 0)
        close(fd);
    else
        admin->socket = path;
    return r;
}

static int admin_tcp(struct admin *admin, const struct net_address *address)
{
    struct sockaddr_storage name;
    socklen_t size = net_to_sockaddr(address, &name);
    int one = 1;
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, ADMIN_BACKLOG) < 0)
        r = -errno;
    if (r == 0)
        r = admin_serve(admin, fd, false);
    if (r < 0)
        close(fd);
    return r;
}

int admin_new(struct control *control, struct admin **result)
{
    const struct config_admin *config = &control->config->admin;
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL)
        return -ENOMEM;
    admin->control = control;
    list_init(&admin->counting);
    list_init(&admin->reloading);
    admin_queue_start(admin);
    int r = 0;
    if (config->socket[0] != '\0' && (r = admin_unix(admin, config->socket)) < 0)
        fprintf(stderr, "ringpost: admin socket %s: %s\n", config->socket, strerror(-r));
    for (unsigned i = 0; r == 0 && i < config->addresses_count; i++) {
        r = admin_tcp(admin, &config->addresses[i]);
        char address[NET_TEXT_MAX];
        net_text(&config->addresses[i], true, address);
        if (r < 0)
            fprintf(stderr, "ringpost: admin address %s: %s\n", address, strerror(-r));
    }
    if (r < 0) {
        admin_free(admin);
        return r;
    }
    timer_init(&admin->timer, admin_on_timer);
    shard_timer_arm(&control->shard, &admin->timer, ADMIN_TICK_MS);
    *result = admin;
    return 0;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    struct shard *shard = &admin->control->shard;
    timer_disarm(&shard->timers, &admin->timer);
    for (unsigned i = 0; i < admin->count; i++) {
        struct admin_daemon *d = &admin->daemons[i];
        d->stopped = true;
        if (d->poll.inflight)
            ring_cancel(shard->ring, &d->poll);
    }
}

void admin_free(struct admin *admin)
{
    if (admin == NULL)
        return;
    for (unsigned i = 0; i < admin->count; i++)
        MHD_stop_daemon(admin->daemons[i].daemon);
    if (admin->socket != NULL)
        unlink(admin->socket);
    free(admin);
}
