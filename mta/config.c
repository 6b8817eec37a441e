/*
 * config.c - a file becomes a generation, or a report of all that is wrong with it
 *
 *   read --> clean, parse (config_file.c) --> build all sections --> errors? --> free, refuse
 *                                                                '--> immutable generation
 *
 * Building goes on behind errors with defaults, so that one run tells everything. Owns what a
 * generation points to (config_memory.c). Bounds: those of config.h.
 */
#include "mta/config.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "core/shard.h"
#include "mta/address.h"
#include "mta/config_build.h"

enum {
    MESSAGE_TEXT_MAX = 768,
    SECOND_MS = 1'000,
    MINUTE_MS = 60'000,
    HOUR_MS = 3'600'000,
    DAY_MS = 86'400'000,
    DELAY_WARNING_MS = 4 * HOUR_MS,
    KIB = 1 << 10,
    MIB = 1 << 20,
    GIB = 1 << 30,
};

static const char *const yes_no_newline[] = {
    [CONFIG_BARE_NEWLINE_REJECT] = "reject", [CONFIG_BARE_NEWLINE_NORMALIZE] = "normalize", NULL
};
static const char *const early_contents[] = {
    [CONFIG_EARLY_CONTENT_REJECT] = "reject", [CONFIG_EARLY_CONTENT_ACCEPT] = "accept", NULL
};
static const char *const levels[] = { [CONFIG_LOG_ERROR] = "error",
                                      [CONFIG_LOG_WARNING] = "warning",
                                      [CONFIG_LOG_INFO] = "info",
                                      [CONFIG_LOG_DEBUG] = "debug",
                                      NULL };

/* ---- the report ---- */

void config_report_init(struct config_report *report)
{
    report->count = report->errors = report->warnings = 0;
}

void config_report_free(struct config_report *report)
{
    for (unsigned i = 0; i < report->count; i++) {
        free(report->messages[i].file);
        free(report->messages[i].key);
        free(report->messages[i].text);
    }
    config_report_init(report);
}

/* Whatever came out of a file must not steer a terminal or break a line. */
static char *copy_printable(const char *string)
{
    char *copy = strdup(string);
    for (char *at = copy; at != NULL && *at != '\0'; at++)
        if ((uint8_t)*at < ' ' || *at == 0x7f)
            *at = '?';
    return copy;
}

void config_report_add(struct config_report *report, enum config_severity severity,
                       const char *file, unsigned line, const char *key, const char *format, ...)
{
    char text[MESSAGE_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (severity == CONFIG_ERROR)
        report->errors++;
    else
        report->warnings++;
    if (report->count == CONFIG_MESSAGES_MAX)
        return;
    struct config_message message = { .severity = severity,
                                      .line = line,
                                      .file = copy_printable(file),
                                      .key = copy_printable(key),
                                      .text = copy_printable(text) };
    if (message.file == NULL || message.key == NULL || message.text == NULL) {
        free(message.file);
        free(message.key);
        free(message.text);
        return;
    }
    /* by line, those of one line in the order they came */
    unsigned at = report->count++;
    for (; at > 0 && report->messages[at - 1].line > line; at--)
        report->messages[at] = report->messages[at - 1];
    report->messages[at] = message;
}

/* ---- sections ---- */

static const char *taken_text(struct config_builder *builder, const struct config_section *section,
                              const char *key, const char *otherwise)
{
    const char *text = config_file_text(section, key, otherwise);
    return text == NULL ? NULL : config_take_string(builder, text);
}

static uint32_t milliseconds(const struct config_section *section, const char *key, uint32_t min,
                             uint32_t max, uint32_t otherwise)
{
    return (uint32_t)config_file_time(section, key, min, max, otherwise);
}

static unsigned number(const struct config_section *section, const char *key, unsigned min,
                       unsigned max, unsigned otherwise)
{
    return (unsigned)config_file_number(section, key, min, max, otherwise);
}

/* The machine's name when it is a valid one. */
static const char *machine_name(struct config_builder *builder)
{
    char raw[PATTERN_TEXT_MAX] = "", name[PATTERN_TEXT_MAX];
    if (gethostname(raw, sizeof(raw) - 1) < 0 || pattern_normalise(slice_of_string(raw), name) < 0)
        return "localhost";
    return config_take_string(builder, name);
}

static void build_top(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_section top = config_file_section(builder->file, "", 0);
    config->hostname = config_domain(builder, &top, "hostname", "");
    if (*config->hostname == '\0')
        config->hostname = builder->elsewhere ? "localhost" : machine_name(builder);
    config->user = taken_text(builder, &top, "user", "ringpost");
    config->group = taken_text(builder, &top, "group", "");
    config->shards = number(&top, "shards", 0, 63, 0);
    config->pin = config_file_bool(&top, "pin", false);
    config->limits.bare_newline = (enum config_bare_newline)config_file_choice(
        &top, "bare-newline", yes_no_newline, CONFIG_BARE_NEWLINE_REJECT);
    config->limits.early_content = (enum config_early_content)config_file_choice(
        &top, "early-content", early_contents, CONFIG_EARLY_CONTENT_REJECT);
}

static void build_spool(struct config_builder *builder)
{
    struct config_spool *spool = &builder->config->spool;
    struct config_section section = config_file_section(builder->file, "spool", 0);
    spool->directory = taken_text(builder, &section, "directory", "/var/spool/ringpost");
    if (*spool->directory == '\0')
        config_file_error(&section, "directory", 0, "is empty; write the path of a directory");
    spool->segment_bytes = config_file_size(&section, "segment-size", 256 * KIB, GIB, 64 * MIB);
    spool->size_max_bytes = config_file_size(&section, "size-max", 0, UINT64_C(1) << 50, 0);
    spool->reserve_bytes = config_file_size(&section, "reserve", MIB, UINT64_C(1) << 40, 256 * MIB);
    spool->cache_bytes = config_file_size(&section, "cache", 0, UINT64_C(1) << 40, 64 * MIB);
    spool->ahead_bytes = config_file_size(&section, "ahead", 0, UINT64_C(1) << 40, 0);
    if (spool->size_max_bytes > 0 && spool->size_max_bytes < 4 * spool->segment_bytes)
        config_file_error(&section, "size-max", 0,
                          "is less than four segments; raise it, or lower segment-size");
    if (spool->size_max_bytes > 0 && spool->size_max_bytes <= spool->reserve_bytes)
        config_file_error(&section, "reserve", 0,
                          "leaves nothing of size-max for mail; lower it, or raise size-max");
}

static void build_relay(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_section section = config_file_section(builder->file, "relay", 0);
    struct pattern_set *domains = config_take_patterns(builder);
    config_patterns(builder, &section, "domains", domains);
    config->relay.domains = domains;
    config->relay.networks = config_networks(builder, &section, "networks", "");
    config->relay.open_relay = config_file_bool(&section, "i-run-an-open-relay", false);
    config->relay.postmaster_domain = config->hostname;
    for (unsigned i = 0; domains != NULL && i < pattern_set_count(domains); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        pattern_set_text(domains, i, text);
        if (*text != '*' && *text != '[') {
            config->relay.postmaster_domain = config_take_string(builder, text);
            return;
        }
    }
}

static void build_limits(struct config_builder *builder)
{
    struct config_limits *limits = &builder->config->limits;
    struct config_section s = config_file_section(builder->file, "limits", 0);
    limits->connections = (struct limits_options) {
        .connections_max = number(&s, "connections", 1, LIMITS_CONNECTIONS_MAX, 8'192),
        .per_address = number(&s, "per-address", 0, LIMITS_CONNECTIONS_MAX, 100),
        .per_v4_24 = number(&s, "per-v4-24", 0, LIMITS_CONNECTIONS_MAX, 400),
        .per_v6_64 = number(&s, "per-v6-64", 0, LIMITS_CONNECTIONS_MAX, 100),
        .rate_per_minute = number(&s, "rate-per-minute", 0, 1'000'000, 0),
        .rate_burst = number(&s, "rate-burst", 0, 1'000'000, 0),
    };
    limits->exempt = config_networks(builder, &s, "exempt", "");
    limits->recipients_max = number(&s, "recipients", CONFIG_RECIPIENTS_FLOOR, 10'000, 1'000);
    limits->message_bytes_max =
        config_file_size(&s, "message-size", 64 * KIB, UINT64_C(4) * GIB, 50 * MIB);
    limits->memory_max_bytes = config_file_size(&s, "memory-max", 0, UINT64_C(1) << 50, 0);
    limits->queue_messages_max = number(&s, "queue-messages", 1'000, 500'000'000, 8'388'608);
    limits->queue_destinations_max = number(&s, "queue-destinations", 1'000, 10'000'000, 131'072);
    limits->commands_max = number(&s, "commands", 100, 1'000'000'000, 1'000'000);
    limits->bad_commands_max = number(&s, "bad-commands", 1, 1'000'000, 20);
    limits->refused_messages_max = number(&s, "refused-messages", 0, 1'000'000, 5);
    limits->messages_max = number(&s, "messages-per-connection", 1, 1'000'000'000, 10'000);
    limits->command_timeout_ms =
        milliseconds(&s, "command-timeout", SECOND_MS, DAY_MS, 5 * MINUTE_MS);
    limits->data_timeout_ms = milliseconds(&s, "data-timeout", SECOND_MS, DAY_MS, 3 * MINUTE_MS);
    limits->transaction_timeout_ms =
        milliseconds(&s, "transaction-timeout", SECOND_MS, DAY_MS, HOUR_MS);
    limits->connection_timeout_ms =
        milliseconds(&s, "connection-timeout", SECOND_MS, 7 * DAY_MS, DAY_MS);
    limits->load_percent = number(&s, "load-percent", 1, 100, 80);
    limits->load_command_timeout_ms =
        milliseconds(&s, "load-command-timeout", SECOND_MS, DAY_MS, 10 * SECOND_MS);
    limits->load_data_timeout_ms =
        milliseconds(&s, "load-data-timeout", SECOND_MS, DAY_MS, 30 * SECOND_MS);
    if (limits->command_timeout_ms < 5 * MINUTE_MS)
        config_file_warn(&s, "command-timeout", 0,
                         "is under 5m, which clients may take (RFC 5321 4.5.3.2.7)");
}

static bool own_known(const struct net_address *own, unsigned count,
                      const struct net_address *address)
{
    for (unsigned i = 0; i < count; i++)
        if (net_equal(&own[i], address))
            return true;
    return false;
}

/* The machine's addresses of this family, with this port; those that came after the start are
 * learned by the next reload. Returns the new count. */
static unsigned own_addresses_expand(struct net_address *own, unsigned count, unsigned most,
                                     const struct net_address *wildcard)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return count;
    for (const struct ifaddrs *each = list; each != NULL; each = each->ifa_next) {
        if (each->ifa_addr == NULL ||
            (each->ifa_addr->sa_family != AF_INET && each->ifa_addr->sa_family != AF_INET6))
            continue;
        struct sockaddr_storage name = { 0 };
        struct net_address address;
        bool v4 = each->ifa_addr->sa_family == AF_INET;
        memcpy(&name, each->ifa_addr,
               v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        net_from_sockaddr(&name, &address);
        address.port = wildcard->port;
        if (net_is_v4(&address) == net_is_v4(wildcard) && count < most &&
            !own_known(own, count, &address))
            own[count++] = address;
    }
    freeifaddrs(list);
    return count;
}

/* Listeners' addresses are ours as well: mail that DNS sends there would run in a circle. */
static void own_addresses_build(struct config_builder *builder,
                                const struct config_section *section)
{
    struct config *config = builder->config;
    unsigned count;
    const struct net_address *given =
        config_addresses(builder, section, "own-addresses", CONFIG_OWN_ADDRESSES_MAX, 0, &count);
    unsigned most = count + CONFIG_OWN_ADDRESSES_MAX;
    for (unsigned i = 0; i < config->listeners_count; i++)
        most += config->listeners[i].addresses_count;
    struct net_address *own = config_take(builder, most, sizeof(*own));
    static const uint8_t zeros[16];
    if (own == NULL || given == NULL)
        return;
    if (count > 0)
        memcpy(own, given, count * sizeof(*own));
    for (unsigned i = 0; i < config->listeners_count; i++)
        for (unsigned k = 0; k < config->listeners[i].addresses_count; k++) {
            const struct net_address *address = &config->listeners[i].addresses[k];
            size_t family_octets = net_is_v4(address) ? 4 : 16;
            bool wildcard = memcmp(address->octets + 16 - family_octets, zeros, family_octets) == 0;
            if (wildcard && !builder->elsewhere)
                count = own_addresses_expand(own, count, most, address);
            else if (!wildcard && count < most && !own_known(own, count, address))
                own[count++] = *address;
        }
    config->delivery.own_addresses = own;
    config->delivery.own_addresses_count = count;
}

static void build_delivery(struct config_builder *builder)
{
    struct config_delivery *d = &builder->config->delivery;
    struct config_section s = config_file_section(builder->file, "delivery", 0);
    d->retry.initial_ms = milliseconds(&s, "retry-initial", SECOND_MS, DAY_MS, 5 * MINUTE_MS);
    d->retry.max_ms = milliseconds(&s, "retry-max", SECOND_MS, 7 * DAY_MS, 4 * HOUR_MS);
    d->retry.factor_percent = config_file_hundredths(&s, "retry-factor", 100, 1'000, 200);
    d->retry.jitter_percent = config_file_hundredths(&s, "retry-jitter", 0, 50, 20);
    d->age_max_ms =
        config_file_time(&s, "age-max", 0, UINT64_C(365) * DAY_MS, UINT64_C(5) * DAY_MS);
    d->warn_after_ms =
        config_file_time(&s, "delay-warning", 0, UINT64_C(365) * DAY_MS,
                         d->age_max_ms > DELAY_WARNING_MS ? (uint64_t)DELAY_WARNING_MS : 0);
    d->connect_timeout_ms = milliseconds(&s, "connect-timeout", 100, HOUR_MS, 30 * SECOND_MS);
    d->greeting_timeout_ms =
        milliseconds(&s, "greeting-timeout", SECOND_MS, HOUR_MS, 5 * MINUTE_MS);
    d->command_timeout_ms = milliseconds(&s, "command-timeout", SECOND_MS, HOUR_MS, 5 * MINUTE_MS);
    d->mail_timeout_ms = milliseconds(&s, "mail-timeout", SECOND_MS, HOUR_MS, 5 * MINUTE_MS);
    d->rcpt_timeout_ms = milliseconds(&s, "rcpt-timeout", SECOND_MS, HOUR_MS, 5 * MINUTE_MS);
    d->data_init_timeout_ms =
        milliseconds(&s, "data-init-timeout", SECOND_MS, HOUR_MS, 2 * MINUTE_MS);
    d->data_block_timeout_ms =
        milliseconds(&s, "data-block-timeout", SECOND_MS, HOUR_MS, 3 * MINUTE_MS);
    d->data_end_timeout_ms =
        milliseconds(&s, "data-end-timeout", SECOND_MS, HOUR_MS, 10 * MINUTE_MS);
    d->idle_timeout_ms = milliseconds(&s, "idle-timeout", 0, HOUR_MS, 2 * SECOND_MS);
    d->connections_max = number(&s, "connections-per-hop", 1, 1'000'000, 50);
    d->shard_connections_max = number(&s, "connections-per-shard", 1, 1'000'000, 2'048);
    d->messages_max = number(&s, "messages-per-connection", 1, 1'000'000, 1'000);
    d->recipients_max = number(&s, "recipients-per-transaction", 1, 100'000, 100);
    d->loop_limit = number(&s, "loop-limit", 5, 1'000, 100);
    builder->config->limits.received_max = d->loop_limit;
    config_build_fleet(builder, &s);
    d->ehlo = config_domain(builder, &s, "ehlo", builder->config->hostname);
    d->private_networks = config_networks(builder, &s, "private-networks", "");
    own_addresses_build(builder, &s);
    config_delivery_tls(builder, &s);
    if (d->retry.max_ms < d->retry.initial_ms)
        config_file_error(&s, "retry-max", 0, "is below retry-initial; raise it");
    if (d->warn_after_ms > 0 && d->warn_after_ms >= d->age_max_ms)
        config_file_error(&s, "delay-warning", 0, "is not before age-max; lower it, or write 0");
}

static void build_dns(struct config_builder *builder)
{
    struct config_dns *dns = &builder->config->dns;
    struct config_section s = config_file_section(builder->file, "dns", 0);
    dns->forwarders = config_addresses(builder, &s, "forwarders", CONFIG_FORWARDERS_MAX, 53,
                                       &dns->forwarders_count);
    dns->trust_anchor_file = taken_text(builder, &s, "trust-anchor", NULL);
    dns->root_hints_file = taken_text(builder, &s, "root-hints", NULL);
    dns->timeout_ms = milliseconds(&s, "timeout", 100, 5 * MINUTE_MS, 10 * SECOND_MS);
    dns->queries_max = number(&s, "queries-max", 1, 1'000'000, 4'096);
}

static void build_admin(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_section log = config_file_section(builder->file, "log", 0);
    struct config_section admin = config_file_section(builder->file, "admin", 0);
    config->log.file = taken_text(builder, &log, "file", "-");
    config->log.level =
        (enum config_log_level)config_file_choice(&log, "level", levels, CONFIG_LOG_INFO);
    config->admin.socket = taken_text(builder, &admin, "socket", "/run/ringpost/admin.sock");
    if (strlen(config->admin.socket) > 107) /* sun_path */
        config_file_error(&admin, "socket", 0, "is longer than 107 octets; choose a shorter path");
    config->admin.addresses =
        config_addresses(builder, &admin, "addresses", CONFIG_ADMIN_ADDRESSES_MAX, 8025,
                         &config->admin.addresses_count);
    config->admin.allow = config_networks(builder, &admin, "allow", "127.0.0.0/8,::1");
}

static void build_bounce(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct config_bounce *bounce = &config->bounce;
    struct config_section s = config_file_section(builder->file, "bounce", 0);
    bounce->from_name = taken_text(builder, &s, "from-name", "Mail Delivery System");
    for (const char *at = bounce->from_name; *at != '\0'; at++)
        if (*at == '"' || *at == '\\' || (uint8_t)*at > 126) {
            config_file_error(&s, "from-name", 0,
                              "has octets that a header cannot carry as they are; write printable "
                              "ASCII without quotes and backslashes");
            break;
        }
    char usual[ADDRESS_MAX + 16];
    snprintf(usual, sizeof(usual), "MAILER-DAEMON@%.240s", config->hostname);
    bounce->address = taken_text(builder, &s, "address", usual);
    struct address address;
    if (address_parse(slice_of_string(bounce->address), 0, &address) != ADDRESS_OK &&
        config_file_given(&s, "address"))
        config_file_error(&s, "address", 0, "`%.64s` is no mailbox; write local@domain",
                          bounce->address);
    bounce->per_minute_max = number(&s, "per-minute", 0, 1'000'000, 600);
    bounce->per_sender_max = number(&s, "per-sender", 0, 1'000'000, 60);
    bounce->per_domain_max = number(&s, "per-domain", 0, 1'000'000, 0);
    bounce->class = config_class_named(builder, &s, "class");
}

static void build(struct config_builder *builder)
{
    build_top(builder); /* the hostname: others fall back on it */
    build_spool(builder);
    build_relay(builder);
    build_limits(builder);     /* before listeners: message-size */
    config_build_tls(builder); /* before listeners and connectors, which name certificates */
    config_build_crl(builder);
    config_build_inbound(builder); /* before listeners, which ask for certificates */
    config_build_listeners(builder);
    build_dns(builder);      /* before connectors: is there a trust anchor */
    build_delivery(builder); /* before connectors: ehlo; after listeners: own addresses */
    config_build_default_route(builder);
    config_build_classes(builder); /* before rules, which name them */
    config_build_outbound(builder);
    config_build_sts(builder);
    config_build_dkim(builder);
    config_build_tlsrpt(builder);
    build_admin(builder);
    build_bounce(builder);
    config_build_memory(builder); /* last: it is the sum of all */
}

unsigned config_shards(const struct config *config)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const unsigned count = config->shards == 0 ? (unsigned)MAX(cores, 1L) : config->shards;
    return MIN(count, (unsigned)SHARDS_MAX - 1);
}

/* ---- loading ---- */

static int load(struct slice text, const char *name, uint64_t generation, bool elsewhere,
                struct config_report *report, struct config **out)
{
    unsigned errors_before = report->errors;
    struct config_file *file = NULL;
    *out = NULL;
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return -ENOMEM;
    struct config_memory *memory = NULL;
    int r = config_memory_new(&memory);
    if (r < 0)
        goto out_free;
    config->memory = memory;
    config->generation = generation;
    struct config_builder builder = { .config = config, .report = report, .elsewhere = elsewhere };
    config->file = config_take_string(&builder, name);
    r = config_file_read(config->file, text, config_schemas, config_schemas_count, report, &file);
    if (file == NULL)
        goto out_free;
    builder.file = file;
    builder.partial = r < 0;
    build(&builder);
    r = builder.out_of_memory ? -ENOMEM : report->errors > errors_before ? -EINVAL : 0;
    config_file_free(file);
    if (r < 0)
        goto out_free;
    *out = config;
    return 0;
out_free:
    config_free(config);
    return r;
}

int config_load_text(struct slice text, const char *name, uint64_t generation,
                     struct config_report *report, struct config **config)
{
    return load(text, name, generation, false, report, config);
}

static int file_read(const char *path, char **bytes, size_t *size)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = -EISDIR;
    *bytes = NULL;
    if (fstat(fd, &status) < 0 || S_ISDIR(status.st_mode))
        goto out_close;
    r = -ENOMEM;
    *bytes = malloc(CONFIG_FILE_BYTES_MAX + 1); /* touched only as far as the file goes */
    if (*bytes == NULL)
        goto out_close;
    for (*size = 0; *size <= CONFIG_FILE_BYTES_MAX;) {
        ssize_t got = read(fd, *bytes + *size, CONFIG_FILE_BYTES_MAX + 1 - *size);
        if (got < 0 && errno == EINTR)
            continue;
        r = got < 0 ? -errno : 0;
        if (got <= 0)
            break;
        *size += (size_t)got;
    }
    if (r < 0)
        free(*bytes);
out_close:
    close(fd);
    return r;
}

static int load_file(const char *path, uint64_t generation, bool elsewhere,
                     struct config_report *report, struct config **config)
{
    char *bytes = NULL;
    size_t size = 0;
    *config = NULL;
    int r = file_read(path, &bytes, &size);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        config_report_add(report, CONFIG_ERROR, path, 0, "",
                          "cannot be read (%s); check the path and its permissions", strerror(-r));
        return -EINVAL;
    }
    r = load(slice_of(bytes, size), path, generation, elsewhere, report, config);
    free(bytes);
    return r;
}

int config_load(const char *path, uint64_t generation, struct config_report *report,
                struct config **config)
{
    return load_file(path, generation, false, report, config);
}

int config_load_elsewhere(const char *path, struct config_report *report, struct config **config)
{
    return load_file(path, 1, true, report, config);
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    config_tls_free(config);
    config_dkim_free(config);
    inbound_set_free(config->inbound);
    config_memory_free(config->memory);
    free(config);
}

static bool addresses_differ(const struct net_address *a, unsigned a_count,
                             const struct net_address *b, unsigned b_count)
{
    if (a_count != b_count)
        return true;
    for (unsigned i = 0; i < a_count; i++)
        if (!net_equal(&a[i], &b[i]))
            return true;
    return false;
}

static bool strings_differ(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) != 0;
}

const char *config_needs_restart(const struct config *a, const struct config *b)
{
    const struct config_delivery *d = &a->delivery;
    const struct config_delivery *e = &b->delivery;
    const struct {
        bool differs;
        const char *key;
    } fixed[] = {
        { a->shards != b->shards, "shards" },
        { a->limits.memory_max_bytes != b->limits.memory_max_bytes, "limits: memory-max" },
        { a->limits.queue_messages_max != b->limits.queue_messages_max, "limits: queue-messages" },
        { a->limits.queue_destinations_max != b->limits.queue_destinations_max,
          "limits: queue-destinations" },
        { a->pin != b->pin, "pin" },
        { strings_differ(a->spool.directory, b->spool.directory), "spool: directory" },
        { a->spool.segment_bytes != b->spool.segment_bytes, "spool: segment-size" },
        { a->spool.size_max_bytes != b->spool.size_max_bytes, "spool: size-max" },
        { a->spool.reserve_bytes != b->spool.reserve_bytes, "spool: reserve" },
        { a->spool.cache_bytes != b->spool.cache_bytes, "spool: cache" },
        { a->spool.ahead_bytes != b->spool.ahead_bytes, "spool: ahead" },
        { a->tls.id_cache != b->tls.id_cache, "tls: id-cache" },
        { a->tls.client_cache != b->tls.client_cache, "tls: client-cache" },
        { a->tls.hosts != b->tls.hosts, "tls: hosts" },
        { a->tls.key_shares != b->tls.key_shares, "tls: key-shares" },
        { a->tls.key_share_age_ms != b->tls.key_share_age_ms, "tls: key-share-age" },
        { a->tls.tickets != b->tls.tickets, "tls: tickets" },
        { strings_differ(a->tls.ticket_key_file, b->tls.ticket_key_file), "tls: ticket-key-file" },
        { strings_differ(a->user, b->user), "user" },
        { strings_differ(a->group, b->group), "group" },
        { strings_differ(a->admin.socket, b->admin.socket), "admin: socket" },
        { addresses_differ(a->admin.addresses, a->admin.addresses_count, b->admin.addresses,
                           b->admin.addresses_count),
          "admin: addresses" },
        { strings_differ(a->log.file, b->log.file), "log: file" },
        { a->log.level != b->log.level, "log: level" },
        { addresses_differ(a->dns.forwarders, a->dns.forwarders_count, b->dns.forwarders,
                           b->dns.forwarders_count),
          "dns: forwarders" },
        { strings_differ(a->dns.trust_anchor_file, b->dns.trust_anchor_file), "dns: trust-anchor" },
        { strings_differ(a->dns.root_hints_file, b->dns.root_hints_file), "dns: root-hints" },
        { a->dns.queries_max != b->dns.queries_max, "dns: queries" },
        { a->limits.connections.connections_max < b->limits.connections.connections_max,
          "limits: connections (more of them)" },
        { d->shard_connections_max != e->shard_connections_max, "delivery: connections-per-shard" },
        { d->floor_records != e->floor_records, "delivery: floor-records" },
        { strings_differ(d->floor_file, e->floor_file), "delivery: floor-file" },
        { strings_differ(a->crl.directory, b->crl.directory), "crl: directory" },
        { a->crl.lists_max != b->crl.lists_max, "crl: lists" },
        { a->sts.records != b->sts.records, "mta-sts: records" },
        { strings_differ(a->sts.file, b->sts.file), "mta-sts: file" },
        { (*a->tlsrpt.contact == '\0') != (*b->tlsrpt.contact == '\0'),
          "tls-report: contact (whether there is one)" },
        { a->tlsrpt.records != b->tlsrpt.records, "tls-report: records" },
        { strings_differ(a->tlsrpt.file, b->tlsrpt.file), "tls-report: file" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(fixed); i++)
        if (fixed[i].differs)
            return fixed[i].key;
    return NULL;
}
