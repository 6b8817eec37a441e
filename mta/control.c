/*
 * control.c - putting the process together and taking it apart again, in order
 *
 * Start: everything that can be refused is refused before the first thread runs: configuration,
 * ring features, addresses, spool. Root is only needed to bind; then the process is an ordinary
 * user for good.
 *
 * Reload: a generation goes to all shards or to none. Each shard has room for GENERATIONS_MAX, and
 * control hands out fewer than that, so no shard ever refuses one that another took.
 *
 * Stop: SIGTERM or SIGINT drains (no new connections, transactions and deliveries under way end);
 * a second one ends at once: what was acknowledged is on disk anyway.
 */
#include "mta/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "core/check.h"
#include "mta/admin.h"
#include "mta/check.h"
#include "mta/resolve_config.h"
#include "tls/tls_library.h"

enum {
    CONTROL_SOCKETS = 1'024,
    CONTROL_BUFFERS = 16,
    CONTROL_BUFFER_BYTES = 4'096,
    CONTROL_ENTRIES = 256,
    SPOOL_MODE = 0700,
};

static void complain(const char *format, ...) PRINTF_LIKE(1, 2);

static void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ringpost: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* ---- configuration ---- */

static int control_load(const char *file, uint64_t generation, struct config_report *report,
                        struct config **config)
{
    config_report_init(report);
    int r = file != NULL ? config_load(file, generation, report, config)
                         : config_load_text(slice_of_string(config_default_text),
                                            "built-in default", generation, report, config);
    if (r < 0)
        return r;
    check_lint(*config, report);
    if (report->errors == 0)
        return 0;
    config_free(*config);
    *config = NULL;
    return -EINVAL;
}

static void control_print_report(const struct config_report *report)
{
    for (unsigned i = 0; i < report->count; i++) {
        const struct config_message *m = &report->messages[i];
        fprintf(stderr, "%s:%u: %s: %s%s\n", m->file, m->line,
                m->severity == CONFIG_ERROR ? "error" : "warning", m->key[0] == '\0' ? "" : m->key,
                m->key[0] == '\0' ? "" : ": ");
        fprintf(stderr, "    %s\n", m->text);
    }
}

static void control_keep(struct control *control, struct config *config)
{
    CHECK(control->generations_count < CONTROL_GENERATIONS_MAX);
    control->generations[control->generations_count++] =
        (struct control_generation) { config, control->servers_count };
    control->config = config;
    metric_set(&control->generation_now, config->generation);
}

static void control_on_config_free(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    for (unsigned i = 0; i < control->generations_count; i++) {
        struct control_generation *g = &control->generations[i];
        if (g->config != handoff->pointer || --g->shards > 0)
            continue;
        if (g->config == control->config)
            return; /* no shard could take it, and it is still what the next one is compared with */
        config_free(g->config);
        *g = control->generations[--control->generations_count];
        return;
    }
}

/* A shard that has no memory for it keeps the one it has; the next reload gives it another try. */
static void control_on_config_taken(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    int error = (int)(int64_t)handoff->number;
    if (--control->untaken == 0)
        admin_reloaded(control->admin);
    if (error == 0)
        return;
    CHECK(error != -EBUSY); /* there was room: see control_reload */
    struct log_line line;
    log_begin(&line, shard->log, LOG_ERROR, shard->wall_us, "reload");
    log_string(&line, "result", "refused");
    log_number(&line, "by_shard", handoff->from);
    log_string(&line, "why", strerror(-error));
    log_end(&line);
    control_on_config_free(shard, handoff);
}

static void words_of(const struct config_report *report, char words[static CONTROL_WORDS_MAX])
{
    size_t size = 0;
    for (unsigned i = 0; i < report->count && size < CONTROL_WORDS_MAX; i++) {
        const struct config_message *m = &report->messages[i];
        if (m->severity == CONFIG_ERROR)
            size += (size_t)snprintf(words + size, CONTROL_WORDS_MAX - size, "%s:%u: %s: %s\n",
                                     m->file, m->line, m->key, m->text);
    }
}

static void control_log_reload(struct control *control, const char *result, const char *words)
{
    struct log_line line;
    struct shard *shard = &control->shard;
    log_begin(&line, shard->log, result[0] == 'd' ? LOG_INFO : LOG_ERROR, shard->wall_us, "reload");
    log_string(&line, "result", result);
    log_number(&line, "generation", (int64_t)control->config->generation);
    if (words[0] != '\0')
        log_string(&line, "why", words);
    log_end(&line);
}

/* Sessions know their listener by its place. NULL, or which one differs. */
static const char *listeners_differ(const struct config *a, const struct config *b)
{
    if (a->listeners_count != b->listeners_count)
        return "listener";
    for (unsigned i = 0; i < a->listeners_count; i++) {
        const struct config_listener *x = &a->listeners[i];
        const struct config_listener *y = &b->listeners[i];
        if (strcmp(x->name, y->name) != 0 || x->addresses_count != y->addresses_count)
            return x->name;
        for (unsigned k = 0; k < x->addresses_count; k++)
            if (!net_equal(&x->addresses[k], &y->addresses[k]))
                return x->name;
    }
    return NULL;
}

static void control_take(struct control *control, struct config *next)
{
    control_connectors_assign(control, next);
    control_marks_apply(control, next);
    control_keep(control, next);
    control_tls_files(control);
    control_certificates_look(control);
    metric_add(&control->reloads, 1);
    control->untaken += control->servers_count;
    for (unsigned i = 0; i < control->servers_count; i++)
        CHECK(shard_handoff(&control->shard, i,
                            (struct handoff) { .kind = HANDOFF_CONFIG, .pointer = next }) == 0);
    control_log_reload(control, "done", "");
}

int control_reload(struct control *control, unsigned wishes, char words[static CONTROL_WORDS_MAX])
{
    words[0] = '\0';
    struct config_report *report = calloc(1, sizeof(*report));
    struct config *next = NULL;
    int r = -EINVAL;
    if (control->generations_count == CONTROL_GENERATIONS_MAX)
        snprintf(words, CONTROL_WORDS_MAX, "%u generations are still in use by open sessions\n",
                 control->generations_count);
    else if (control->census.next != NULL)
        snprintf(words, CONTROL_WORDS_MAX, "another reload is under way\n");
    else if (report == NULL)
        snprintf(words, CONTROL_WORDS_MAX, "no memory\n");
    else
        r = control_load(control->file, control->config->generation + 1, report, &next);
    if (r < 0 && words[0] == '\0' && report != NULL)
        words_of(report, words);
    const char *restart = r < 0 ? NULL : config_needs_restart(control->config, next);
    if (r == 0 && restart == NULL && listeners_differ(control->config, next) != NULL)
        restart = "listeners and their addresses";
    if (restart != NULL) {
        snprintf(words, CONTROL_WORDS_MAX, "%s: cannot change without a restart\n", restart);
        config_free(next);
        r = -EINVAL;
    }
    if (r == 0 && (wishes & RELOAD_REQUIRE_VALIDATED) != 0 &&
        (r = control_validated_demand(control, next, words)) < 0)
        config_free(next);
    if (report != NULL)
        config_report_free(report);
    free(report);
    if (r == 0 && (r = control_census_begin(control, next, wishes)) < 0) {
        snprintf(words, CONTROL_WORDS_MAX, "waiting mail: %s\n", strerror(-r));
        config_free(next);
    }
    if (r < 0) {
        metric_add(&control->reloads_refused, 1);
        control_log_reload(control, "refused", words);
        return -EINVAL;
    }
    if (r == 0)
        control_take(control, next);
    return r;
}

void control_reload_counted(struct control *control, struct config *next, bool taken,
                            const char *words)
{
    if (taken) {
        admin_counted(control->admin, true, words);
        control_take(control, next);
    } else {
        config_free(next);
        metric_add(&control->reloads_refused, 1);
        control_log_reload(control, "refused", words);
        if (!admin_counted(control->admin, false, words))
            complain("reload refused, the old configuration stays:\n%s", words);
    }
    sd_notify(0, "READY=1");
}

void control_reload_signalled(struct control *control)
{
    char words[CONTROL_WORDS_MAX];
    if (control->census.next != NULL) {
        control->census.again = true;
        return;
    }
    sd_notify(0, "RELOADING=1");
    int r = control_reload(control, 0, words);
    if (r < 0)
        complain("reload refused, the old configuration stays:\n%s", words);
    if (r <= 0)
        sd_notify(0, "READY=1");
}

bool control_ready(const struct control *control)
{
    if (!control->ready || control->stopping)
        return false;
    for (unsigned i = 0; i < control->servers_count; i++)
        if (metric_get(&control->servers[i].accepting) == 0)
            return false;
    return true;
}

/* ---- signals ---- */

static void control_drain(struct control *control)
{
    if (control->stopping) {
        complain("second signal: stopping now; what was acknowledged is on disk");
        _exit(0);
    }
    control->stopping = true;
    sd_notify(0, "STOPPING=1\nSTATUS=draining");
    for (unsigned i = 0; i < control->servers_count; i++)
        (void)shard_handoff(&control->shard, i, (struct handoff) { .kind = HANDOFF_DRAIN });
}

static void control_on_drained(struct shard *shard, const struct handoff *handoff)
{
    (void)handoff;
    struct control *control = shard->owner;
    if (++control->drained == control->servers_count)
        shard->stop = true;
}

static void control_on_signal(struct op *op, int res, unsigned flags)
{
    struct control *control = container_of(op, struct control, signals);
    struct signalfd_siginfo info;
    while (res >= 0 && read(control->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGHUP:
            log_writer_reopen(control->writer);
            control_reload_signalled(control);
            break;
        case SIGUSR1: log_writer_reopen(control->writer); break;
        default: control_drain(control); break;
        }
    }
    if (!(flags & RING_MORE) && !control->shard.stop)
        ring_poll(control->shard.ring, &control->signals, control->signal_fd);
}

static int control_signals(struct control *control)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    control->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (control->signal_fd < 0)
        return -errno;
    control->signals.landed = control_on_signal;
    ring_poll(control->shard.ring, &control->signals, control->signal_fd);
    return 0;
}

/* ---- privileges ---- */

/* The spool's own name must survive a power cut too, or all that is in it goes with it. */
static int control_sync_parent(const char *path)
{
    char parent[SERVER_PATH_MAX];
    snprintf(parent, sizeof(parent), "%s", path);
    int fd = open(dirname(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int control_spool_directory(const struct config *config, uid_t uid, gid_t gid)
{
    const char *path = config->spool.directory;
    if (mkdir(path, SPOOL_MODE) == 0) {
        if (uid != (uid_t)-1 && chown(path, uid, gid) < 0)
            return -errno;
        return control_sync_parent(path);
    }
    return errno == EEXIST ? 0 : -errno;
}

/* The spool is ours alone: another owner or an open mode means that somebody else may have been in
 * it; a second process on it would be the end of it. The lock lasts as long as the process. */
static int control_spool_check(const struct config *config)
{
    const char *path = config->spool.directory;
    struct stat stat;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) < 0) {
        complain("spool %s: %s", path, strerror(errno));
        return -EACCES;
    }
    if (stat.st_uid != geteuid()) {
        complain("spool %s belongs to uid %u, not to us (%u): chown it", path, stat.st_uid,
                 geteuid());
        return -EPERM;
    }
    if ((stat.st_mode & 077) != 0) {
        complain("spool %s has mode %04o, others may get in: chmod 0700", path,
                 stat.st_mode & 07777);
        return -EPERM;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        complain("spool %s is in use by another process", path);
        return -EBUSY;
    }
    return 0;
}

/* From here on an ordinary user, without capabilities and without a way back. */
static int control_become_user(const struct config *config)
{
    if (geteuid() != 0 || config->user[0] == '\0')
        return control_spool_directory(config, (uid_t)-1, (gid_t)-1);
    const struct passwd *user = getpwnam(config->user);
    if (user == NULL) {
        complain("user \"%s\" does not exist: make it (adduser --system), or name another",
                 config->user);
        return -ENOENT;
    }
    gid_t gid = user->pw_gid;
    uid_t uid = user->pw_uid;
    if (config->group[0] != '\0') {
        const struct group *group = getgrnam(config->group);
        if (group == NULL) {
            complain("group \"%s\" does not exist", config->group);
            return -ENOENT;
        }
        gid = group->gr_gid;
    }
    int r = control_spool_directory(config, uid, gid);
    if (r < 0)
        return r;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    if (uid != 0 && (setuid(0) == 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
        return -EPERM;
    return 0;
}

static void control_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- start ---- */

static int control_rings(struct control *control)
{
    const struct config *config = control->config;
    unsigned count = control->servers_count;
    int r = shard_group_init(&control->group, count + 1);
    control->servers = calloc(count, sizeof(*control->servers));
    control->threads = calloc(count, sizeof(*control->threads));
    control->logs = calloc(count + 1, sizeof(*control->logs));
    if (r < 0 || control->servers == NULL || control->threads == NULL || control->logs == NULL)
        return -ENOMEM;
    const struct ring_options own = { CONTROL_ENTRIES, CONTROL_SOCKETS, CONTROL_BUFFERS,
                                      CONTROL_BUFFER_BYTES };
    const struct ring_options mail = server_ring_options(config, count);
    for (unsigned i = 0; i <= count; i++) {
        struct ring *ring;
        const char *what = NULL;
        r = ring_new(i < count ? &mail : &own, &ring, &what);
        if (r < 0) {
            complain("%s (%s)", what, strerror(-r));
            return r;
        }
        if (i == count)
            shard_init(&control->shard, ring, &control->group, i);
        else
            r = server_shard_init(&control->servers[i], ring, &control->group, i, config,
                                  control->ids);
        if (r < 0) {
            complain("shard %u: %s", i, strerror(-r));
            return r;
        }
    }
    struct shard *shard = &control->shard;
    shard->owner = control;
    shard_handle(shard, HANDOFF_CONFIG_TAKEN, control_on_config_taken);
    shard_handle(shard, HANDOFF_CONFIG_FREE, control_on_config_free);
    shard_handle(shard, HANDOFF_DRAINED, control_on_drained);
    control_census_start(control);
    control_wire_start(control);
    return 0;
}

static int control_listen(struct control *control)
{
    int passed = sd_listen_fds(0);
    int fds[SERVER_SOCKETS_MAX];
    unsigned fds_count = passed > 0 ? (unsigned)MIN(passed, SERVER_SOCKETS_MAX) : 0;
    for (unsigned i = 0; i < fds_count; i++)
        fds[i] = SD_LISTEN_FDS_START + (int)i;
    char why[SERVER_PATH_MAX];
    for (unsigned i = 0; i < control->servers_count; i++) {
        int r = server_shard_listen(&control->servers[i], fds, fds_count, why);
        if (r < 0) {
            complain("cannot listen: %s", why);
            return r;
        }
    }
    for (unsigned i = 0; i < fds_count; i++)
        close(fds[i]);
    return 0;
}

static int control_logs(struct control *control)
{
    const struct config_log *log = &control->config->log;
    int r = log_writer_start(log->file, (enum log_level)log->level, &control->writer);
    if (r < 0) {
        complain("log file %s: %s", log->file, strerror(-r));
        return r;
    }
    for (unsigned i = 0; i <= control->servers_count && r == 0; i++) {
        bool own = i == control->servers_count;
        r = log_new(control->writer, own ? -1 : (int)i, &control->logs[i]);
        struct shard *shard = own ? &control->shard : &control->servers[i].shard;
        shard->log = control->logs[i];
    }
    return r;
}

static int control_dns(struct control *control)
{
    const struct dns_options options = resolve_dns_options(control->config);
    const char *why = NULL;
    int r = resolver_new(&control->shard, &options, HANDOFF_DNS_ASK, HANDOFF_DNS_ANSWER,
                         &control->resolver, &why);
    if (r < 0) {
        complain("DNS: %s", why != NULL ? why : strerror(-r));
        return r;
    }
    for (unsigned i = 0; i < control->servers_count; i++)
        resolver_attach(control->resolver, &control->servers[i].shard, &control->servers[i].dns);
    resolver_attach(control->resolver, &control->shard, &control->dns);
    return 0;
}

static void control_log_recovery(struct control *control, const struct server_log *log)
{
    const struct recovery_report *r = &log->report;
    struct log_line line;
    bool bad = r->damages > 0 || r->messages_damaged > 0 || r->quarantine_failed > 0;
    log_begin(&line, control->shard.log, bad ? LOG_ERROR : LOG_INFO, control->shard.wall_us,
              "recovered");
    log_string(&line, "log", log->directory);
    log_number(&line, "messages", (int64_t)r->messages_live);
    log_number(&line, "finished", (int64_t)r->messages_finished);
    log_number(&line, "segments", r->segments);
    log_number(&line, "bytes", (int64_t)r->bytes);
    log_number(&line, "torn_messages", (int64_t)r->messages_torn);
    log_number(&line, "torn_bytes", (int64_t)r->torn_bytes);
    log_number(&line, "damaged_ranges", (int64_t)r->damages);
    log_number(&line, "damaged_messages", (int64_t)r->messages_damaged);
    log_end(&line);
    if (bad)
        complain("%s: %llu damaged ranges, %llu damaged messages; they are kept in %s",
                 log->directory, (unsigned long long)r->damages,
                 (unsigned long long)r->messages_damaged, log->server->quarantine);
}

struct opening {
    pthread_t thread;
    bool running;
    struct server_shard *server;
    int result;
    char why[SERVER_PATH_MAX];
};

static void *control_open(void *argument)
{
    struct opening *o = argument;
    o->result = server_shard_open(o->server, o->why);
    return NULL;
}

/* Each shard's logs are read by a thread that ends with that: a full spool is back in the time of
 * its largest log. Nothing is shared, and no shard runs yet. */
static int control_spools(struct control *control)
{
    struct opening *openings = calloc(control->servers_count, sizeof(*openings));
    if (openings == NULL)
        return -ENOMEM;
    int result = 0;
    for (unsigned i = 0; i < control->servers_count; i++) {
        openings[i].server = &control->servers[i];
        openings[i].running =
            pthread_create(&openings[i].thread, NULL, control_open, &openings[i]) == 0;
        if (!openings[i].running)
            control_open(&openings[i]);
    }
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct opening *o = &openings[i];
        if (o->running)
            pthread_join(o->thread, NULL);
        if (o->result < 0) {
            complain("spool: %s", o->why);
            result = o->result;
            continue;
        }
        server_shard_metrics(o->server, &control->metrics);
        for (unsigned k = 0; k < o->server->logs_count; k++)
            control_log_recovery(control, &o->server->logs[k]);
    }
    free(openings);
    return result;
}

static void *control_thread(void *argument)
{
    struct server_shard *server = argument;
    server_shard_start(server);
    int r = shard_loop(&server->shard);
    if (r < 0) {
        complain("shard %u: its ring failed: %s", server->shard.index, strerror(-r));
        abort();
    }
    return NULL;
}

static int control_threads(struct control *control)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (unsigned i = 0; i < control->servers_count; i++) {
        int r = pthread_create(&control->threads[i], NULL, control_thread, &control->servers[i]);
        if (r != 0)
            return -r;
        control->threads_count++;
        char name[16];
        snprintf(name, sizeof(name), "shard-%u", i);
        pthread_setname_np(control->threads[i], name);
        if (!control->config->pin || (long)control->servers_count > cores)
            continue;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(i, &set);
        /* A cpuset may forbid it; the shard then runs where it may. */
        (void)pthread_setaffinity_np(control->threads[i], sizeof(set), &set);
    }
    return 0;
}

static const struct metric control_metrics_table[] = {
    { "ringpost_build_info", "version=\"" RINGPOST_VERSION "\"", "Version; always 1", METRIC_GAUGE,
      0, offsetof(struct control, is_ready) },
    { "ringpost_tls_library_info", tls_library_labels, "BoringSSL; always 1", METRIC_GAUGE, 0,
      offsetof(struct control, is_ready) },
    { "ringpost_start_time_seconds", NULL, "When the process started", METRIC_GAUGE, 1e-6,
      offsetof(struct control, started_us) },
    { "ringpost_reloads_total", "result=\"done\"", "Reloads of the configuration", METRIC_COUNTER,
      0, offsetof(struct control, reloads) },
    { "ringpost_reloads_total", "result=\"refused\"", "Reloads of the configuration",
      METRIC_COUNTER, 0, offsetof(struct control, reloads_refused) },
    { "ringpost_tls_ticket_rotations_total", NULL, "New keys for session tickets", METRIC_COUNTER,
      0, offsetof(struct control, ticket_rotations) },
    { "ringpost_tls_ticket_file_errors_total", NULL,
      "Times that the file with ticket keys could not be used", METRIC_COUNTER, 0,
      offsetof(struct control, ticket_file_errors) },
    { "ringpost_tls_keyshare_hook_live", NULL,
      "1: handshakes take key shares from the pool; 0: this binary was linked so that they do not",
      METRIC_GAUGE, 0, offsetof(struct control, keyshares_live) },
    { "ringpost_config_generation", NULL, "Generation of the configuration in force", METRIC_GAUGE,
      0, offsetof(struct control, generation_now) },
};

static int control_start(struct control *control)
{
    const struct config *config = control->config;
    metrics_init(&control->metrics);
    control->servers_count = config_shards(config);
    int r = control_connectors_open(control);
    if (r < 0)
        return r;
    control_keep(control, control->config);
    r = control_tls_open(control, config);
    if (r == 0)
        r = control_rings(control);
    if (r == 0)
        r = control_listen(control);
    if (r == 0)
        r = admin_new(control, &control->admin);
    if (r == 0)
        r = control_become_user(config);
    if (r == 0)
        r = control_spool_check(config);
    if (r == 0)
        control_clock_open(control, config);
    if (r == 0)
        r = control_floor_open(control, config);
    if (r == 0)
        r = control_certificates_open(control, config);
    if (r == 0)
        r = control_sts_open(control, config);
    if (r == 0)
        r = control_tlsrpt_open(control, config);
    if (r == 0)
        r = control_marks_open(control, config);
    if (r == 0)
        r = control_sums_open(control, config);
    if (r == 0)
        r = control_validated_open(control, config);
    if (r == 0)
        r = control_queue_open(control);
    if (r == 0)
        r = control_orders_open(control, config);
    if (r == 0)
        r = control_logs(control);
    if (r == 0)
        r = control_signals(control);
    if (r == 0)
        r = control_dns(control);
    if (r == 0)
        r = control_fetch_start(control);
    if (r == 0)
        r = control_spools(control);
    if (r == 0)
        r = control_tls_start(control);
    if (r == 0)
        r = control_floor_start(control);
    if (r == 0)
        r = control_crl_start(control);
    if (r == 0)
        r = control_sts_start(control);
    if (r == 0)
        r = control_tlsrpt_start(control);
    if (r == 0)
        r = control_waiting_start(control);
    if (r == 0)
        r = control_probes_start(control);
    if (r < 0)
        return r;
    control_clock_start(control);
    control_certificates_start(control);
    control_connectors_start(control);
    control_validated_start(control);
    control_queue_start(control);
    control_orders_start(control);
    control->started_us = (uint64_t)control->shard.wall_us;
    control->is_ready = 1;
    metrics_add_source(&control->metrics, &control->source, control_metrics_table,
                       ARRAY_COUNT(control_metrics_table), control, -1);
    control_dnssec_start(control);
    control_memory_start(control);
    r = control_threads(control);
    control->ready = r == 0;
    return r;
}

static void control_stop(struct control *control)
{
    for (unsigned i = 0; i < control->threads_count; i++)
        pthread_join(control->threads[i], NULL);
    control_sums_close(control);
    control_tlsrpt_stop(control);
    for (unsigned i = 0; i < control->servers_count; i++) {
        server_shard_close(&control->servers[i]);
        ring_free(control->servers[i].shard.ring);
    }
    control_census_stop(control);
    control_wire_stop(control);
    /* The resolver turns the loop until its last answer has landed: nothing else may be waiting. */
    admin_stop(control->admin);
    control_crl_stop(control);
    control_sts_stop(control);
    control_dnssec_stop(control);
    control_memory_stop(control);
    control_fetch_stop(control);
    if (control->resolver != NULL)
        resolver_free(control->resolver);
    admin_free(control->admin);
    control_clock_stop(control);
    control_queue_close(control);
    control_orders_close(control);
    control_tls_stop(control);
    control_floor_stop(control);
    control_certificates_stop(control);
    control_validated_close(control);
    control_waiting_stop(control);
    control_probes_stop(control);
    control_connectors_stop(control);
    log_writer_stop(control->writer);
    ring_free(control->shard.ring);
    close(control->signal_fd);
    shard_group_free(&control->group);
    for (unsigned i = 0; i < control->generations_count; i++)
        config_free(control->generations[i].config);
    free(control->servers);
    free(control->threads);
    free(control->logs);
}

int control_run(const char *file)
{
    static struct control control;
    struct config_report *report = calloc(1, sizeof(*report));
    if (report == NULL)
        return 1;
    control.file = file;
    int r = control_load(file, 1, report, &control.config);
    control_print_report(report);
    config_report_free(report);
    free(report);
    if (r < 0)
        return 1;
    control_raise_files();
    r = control_start(&control);
    if (r < 0) {
        complain("not started: %s", strerror(-r));
        for (unsigned i = 0; control.servers != NULL && i < control.servers_count; i++)
            server_shard_give_up(&control.servers[i]);
        return 1; /* nothing runs yet: the kernel takes the rest back */
    }
    sd_notify(0, "READY=1\nSTATUS=taking mail");
    struct log_line line;
    log_begin(&line, control.shard.log, LOG_INFO, control.shard.wall_us, "started");
    log_string(&line, "version", RINGPOST_VERSION);
    log_number(&line, "shards", control.servers_count);
    log_string(&line, "config", control.config->file);
    log_end(&line);
    r = shard_loop(&control.shard);
    log_begin(&line, control.shard.log, LOG_INFO, control.shard.wall_us, "stopped");
    log_end(&line);
    control_stop(&control);
    return r < 0 ? 1 : 0;
}
