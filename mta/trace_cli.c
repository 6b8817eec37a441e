/*
 * trace_cli.c - `ringpost trace ID`: one message, from the log, the running server and the spool
 *
 * The log tells what happened, the server (or, when it does not run, the spool) what is still to
 * happen. Nothing needs all three. What strangers wrote is printed with its control characters
 * escaped.
 */
#include "mta/trace_cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/compiler.h"
#include "core/log.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/config.h"
#include "mta/queue_select.h"
#include "mta/smtp_server.h"
#include "mta/trace_log.h"
#include "mta/trace_session_cli.h"
#include "mta/trace_spool.h"

enum {
    LOGS_MAX = 16,
    HOP_EVENTS_MAX = 20,
    PATH_BYTES = 256,
    DETAIL_COLUMNS = 96,
    DETAIL_INDENT = 26,
};

struct trace {
    const char *config_path;
    const char *socket; /* --socket */
    const char *spool;  /* --spool */
    const char *logs[LOGS_MAX];
    unsigned logs_count;
    bool json;
    bool help;
    struct config *config; /* NULL: cannot be read */
    bool answers;          /* the server did */
};

static const char trace_help[] =
    "ringpost trace ID [--json]                 all that is known of one message, in order of "
    "time\n"
    "ringpost trace WORD [--json]               the same of the messages with this Message-ID, in\n"
    "                                           <> or not (its first 250 octets), or which a next\n"
    "                                           hop took, or refused, with this word in its reply\n"
    "                                           (its own id)\n"
    "ringpost trace session ..                  the dialogue of a session on the wire: see its "
    "--help\n"
    "\n"
    "From the log (with rotated files beside it, compressed by gzip or not), and from the running\n"
    "server what still waits; when it does not run, from the spool, which is only read.\n"
    "  -c, --config FILE   the server's configuration: where log, socket and spool are\n"
    "      --log FILE      this log instead; may be given several times; -: standard input, as in\n"
    "                      journalctl -u ringpost -o cat | ringpost trace ID --log -\n"
    "      --spool DIR     this spool instead\n"
    "  -s, --socket PATH   the admin socket itself\n"
    "      --json          one object: id, events (as the log has them), recipients (the last\n"
    "                      outcome of each), bounces (ids), queue or spool; several: one a line\n"
    "Exit status: 0, 1 nothing is known of it, 2 usage.\n";

/* ---- what strangers wrote ---- */

static void print_words(const char *before, const char *text, const char *after)
{
    if (text[0] == '\0')
        return;
    fputs(before, stdout);
    trace_put(text);
    fputs(after, stdout);
}

/* ---- what the server has ---- */

static bool server_answers(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(name.sun_path))
        return false;
    memcpy(name.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool answers = connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0;
    close(fd);
    return answers;
}

/* NULL: it is not in the queue, or the server does not answer (trace->answers). */
static json_t *ask_server(struct trace *trace, const char *id)
{
    const char *socket = trace->socket;
    if (socket == NULL && trace->config != NULL)
        socket = trace->config->admin.socket;
    if (socket == NULL || socket[0] == '\0' || !server_answers(socket))
        return NULL;
    char path[PATH_BYTES];
    struct client_reply reply;
    snprintf(path, sizeof(path), "/v1/queue/%s", id);
    long status = client_ask(socket, path, false, &reply);
    trace->answers = status > 0;
    json_t *message = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    return message;
}

static json_t *read_spool(const struct trace *trace, uint64_t id)
{
    if (trace->config == NULL || trace->answers)
        return NULL;
    const char *directory = trace->spool;
    return trace_spool_read(trace->config,
                            directory != NULL ? directory : trace->config->spool.directory, id);
}

/* ---- what follows from the events ---- */

static bool is_outcome(const char *event)
{
    static const char *const outcomes[] = { "delivered", "deferred", "bounced", "expired",
                                            "discarded" };
    for (size_t i = 0; i < ARRAY_COUNT(outcomes); i++)
        if (strcmp(event, outcomes[i]) == 0)
            return true;
    return false;
}

/* The last outcome of each recipient; null: none yet. Of many recipients the log has not all. */
static json_t *recipients_of(const json_t *events)
{
    json_t *recipients = json_object();
    size_t index, at;
    json_t *event, *each;
    json_array_foreach(events, index, event)
    {
        json_array_foreach(json_object_get(event, "to"), at, each)
        {
            const char *address = json_string_value(each);
            if (address != NULL && json_object_get(recipients, address) == NULL)
                json_object_set_new(recipients, address, json_null());
        }
        if (is_outcome(cli_text(event, "event")))
            json_object_set_new(recipients, cli_text(event, "to"),
                                json_pack("{s:s, s:s, s:s}", "outcome", cli_text(event, "event"),
                                          "t", cli_text(event, "t"), "reply",
                                          cli_text(event, "reply")));
    }
    return recipients;
}

static json_t *bounces_of(const json_t *events, const char *id)
{
    json_t *bounces = json_array();
    size_t index;
    json_t *event;
    json_array_foreach(events, index, event)
    {
        if (strcmp(cli_text(event, "event"), "bounce") == 0 &&
            strcmp(cli_text(event, "of"), id) == 0)
            json_array_append(bounces, json_object_get(event, "msg"));
    }
    return bounces;
}

/* ---- printing ---- */

/* Told in the event's own line, or everywhere the same. */
static bool is_told(const char *key)
{
    static const char *const told[] = { "t",     "level", "event", "shard",  "msg",
                                        "from",  "to",    "size",  "code",   "status",
                                        "reply", "host",  "addr",  "client", "why" };
    for (size_t i = 0; i < ARRAY_COUNT(told); i++)
        if (strcmp(key, told[i]) == 0)
            return true;
    return false;
}

static void value_text(json_t *value, char *out, size_t room)
{
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(out, room, "%s", text != NULL ? text : json_string_value(value));
    free(text);
}

static void print_details(const json_t *event)
{
    const char *key;
    json_t *value;
    size_t column = 0;
    json_object_foreach((json_t *)(uintptr_t)event, key, value)
    {
        char text[LOG_LINE_MAX];
        if (is_told(key))
            continue;
        value_text(value, text, sizeof(text));
        size_t size = strlen(key) + strlen(text) + 3;
        if (column == 0 || column + size > DETAIL_COLUMNS) {
            printf("%s%*s", column == 0 ? "" : "\n", DETAIL_INDENT, "");
            column = DETAIL_INDENT;
        }
        trace_put(key);
        putchar('=');
        trace_put(text);
        fputs("  ", stdout);
        column += size;
    }
    if (column > 0)
        putchar('\n');
}

static void print_recipients(const json_t *to)
{
    size_t index;
    json_t *each;
    if (json_is_string(to))
        print_words(" <", json_string_value(to), ">");
    json_array_foreach(to, index, each)
    {
        if (index == 5) {
            printf(" and %zu more", json_array_size(to) - index);
            break;
        }
        print_words(" <", json_string_value(each), ">");
    }
}

static void print_event(const json_t *event)
{
    const char *name = cli_text(event, "event");
    const json_t *code = json_object_get(event, "code");
    print_words("", cli_text(event, "t"), "  ");
    trace_put(name);
    if (strcmp(name, "received") == 0) {
        print_words(" from <", cli_text(event, "from"), ">");
        print_words(" of ", cli_text(event, "client"), "");
        printf(", %lld bytes, to", json_integer_value(json_object_get(event, "size")));
    }
    print_recipients(json_object_get(event, "to"));
    print_words(strcmp(name, "received") == 0 ? " at " : " by ", cli_text(event, "host"), "");
    print_words(" [", cli_text(event, "addr"), "]");
    if (json_integer_value(code) != 0)
        printf(": %lld", json_integer_value(code));
    const char *status = cli_text(event, "status"), *reply = cli_text(event, "reply");
    if (strncmp(reply, status, strlen(status)) != 0)
        print_words(" ", status, "");
    print_words(" ", reply, "");
    print_words(": ", cli_text(event, "why"), "");
    if (strcmp(name, "bounce") == 0)
        print_words(" as message ", cli_text(event, "msg"), "");
    putchar('\n');
    print_details(event);
}

static void print_unit(const json_t *unit)
{
    printf("    %s, %lld recipient(s), attempts %lld", cli_text(unit, "state"),
           json_integer_value(json_object_get(unit, "recipients")),
           json_integer_value(json_object_get(unit, "attempts")));
    json_int_t due = json_integer_value(json_object_get(unit, "due_in_s"));
    if (due > 0)
        printf(", next in %lld s", due);
    print_words(", by ", cli_text(unit, "destination"), "");
    print_words(": ", cli_text(unit, "destination_error"), "");
    putchar('\n');
}

static void print_waiting(const json_t *message, const char *where)
{
    size_t index;
    json_t *each;
    char date[64] = "";
    time_t arrival = (time_t)json_integer_value(json_object_get(message, "arrival"));
    struct tm tm;
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&arrival, &tm));
    printf("%s: from <", where);
    trace_put(cli_text(message, "sender"));
    printf(">, %lld bytes, %lld recipient(s), since %s%s\n",
           json_integer_value(json_object_get(message, "size")),
           json_integer_value(json_object_get(message, "recipients_total")), date,
           json_is_true(json_object_get(message, "damaged")) ? ", DAMAGED" : "");
    json_array_foreach(json_object_get(message, "units"), index, each) print_unit(each);
    json_array_foreach(json_object_get(message, "outcomes"), index, each)
    {
        const size_t number = (size_t)json_integer_value(json_object_get(each, "recipient"));
        print_words(
            "    <",
            json_string_value(json_array_get(json_object_get(message, "recipients"), number)) !=
                    NULL
                ? json_string_value(json_array_get(json_object_get(message, "recipients"), number))
                : "?",
            ">: ");
        printf("%s %lld", cli_text(each, "outcome"),
               json_integer_value(json_object_get(each, "code")));
        print_words(" ", cli_text(each, "text"), "");
        putchar('\n');
    }
}

static void print_all(const struct trace *trace, const json_t *found)
{
    size_t index;
    json_t *each;
    const char *id = cli_text(found, "id");
    const json_t *queue = json_object_get(found, "queue");
    const json_t *spool = json_object_get(found, "spool");
    printf("%s\n", id);
    json_array_foreach(json_object_get(found, "events"), index, each) print_event(each);
    if (json_is_true(json_object_get(found, "more")))
        printf("(the log has more than these %d events)\n", TRACE_EVENTS_MAX);
    if (json_is_object(queue))
        print_waiting(queue, "in the queue");
    else if (json_is_object(spool))
        print_waiting(spool, "in the spool");
    else
        puts(trace->answers ? "not in the queue (any more)"
                            : "the server does not answer, and the spool does not have it");
    json_array_foreach(json_object_get(found, "bounces"), index, each)
        printf("bounced to its sender by %s: ringpost trace %s\n", json_string_value(each),
               json_string_value(each));
}

/* ---- one message ---- */

static void add_destinations(struct trace_log *log, const json_t *queue)
{
    size_t index;
    json_t *unit;
    const char *since = "";
    if (json_array_size(log->events) > 0)
        since = cli_text(json_array_get(log->events, 0), "t");
    char first[64];
    snprintf(first, sizeof(first), "%s", since);
    json_array_foreach(json_object_get(queue, "units"), index, unit)
    {
        if (index < 3)
            trace_log_destination(log, cli_text(unit, "destination"), first, HOP_EVENTS_MAX);
    }
}

static int trace_message(struct trace *trace, struct trace_log *log, uint64_t id)
{
    char text[SMTP_ID_TEXT];
    smtp_id_text(id, text);
    json_array_clear(log->events);
    trace_log_read(log, text);
    json_t *queue = ask_server(trace, text);
    json_t *spool = read_spool(trace, id);
    if (queue != NULL)
        add_destinations(log, queue);
    bool known = json_array_size(log->events) > 0 || queue != NULL || spool != NULL;
    json_t *found = json_pack(
        "{s:s, s:O, s:o, s:o, s:b, s:o, s:o}", "id", text, "events", log->events, "recipients",
        recipients_of(log->events), "bounces", bounces_of(log->events, text), "more", log->more,
        "queue", queue != NULL ? queue : json_null(), "spool", spool != NULL ? spool : json_null());
    if (trace->json) {
        json_dumpf(found, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (known) {
        print_all(trace, found);
    } else {
        fprintf(stderr, "ringpost: nothing is known of %s%s\n", text,
                log->lines_bad > 0 ? "; some lines of the log are cut" : "");
    }
    json_decref(found);
    return known ? 0 : 1;
}

static int trace_word(struct trace *trace, struct trace_log *log, const char *word)
{
    json_t *ids = trace_log_find(log, word);
    size_t index;
    json_t *each;
    int status = json_array_size(ids) > 0 ? 0 : 1;
    if (status != 0)
        fprintf(stderr,
                "ringpost: no message in the log has the Message-ID %s, and no next hop said that "
                "about one\n",
                word);
    json_array_foreach(ids, index, each)
    {
        uint64_t id;
        if (smtp_id_read(slice_of_string(json_string_value(each)), &id) == 0 &&
            trace_message(trace, log, id) != 0)
            status = 1;
    }
    json_decref(ids);
    return status;
}

/* ---- the command ---- */

static int arguments_read(int argc, char **argv, struct trace *trace)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "socket", required_argument, NULL, 's' },
        { "log", required_argument, NULL, 'l' },
        { "spool", required_argument, NULL, 'd' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "c:s:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': trace->config_path = optarg; break;
        case 's': trace->socket = optarg; break;
        case 'd': trace->spool = optarg; break;
        case 'j': trace->json = true; break;
        case 'h': trace->help = true; break;
        case 'l':
            if (trace->logs_count == LOGS_MAX)
                return -EINVAL;
            trace->logs[trace->logs_count++] = optarg;
            break;
        default: return -EINVAL;
        }
    }
    return trace->help || argc - optind == 1 ? 0 : -EINVAL;
}

static void open_logs(struct trace *trace, struct trace_log *log)
{
    trace_log_init(log);
    for (unsigned i = 0; i < trace->logs_count; i++)
        (void)trace_log_add(log, trace->logs[i]);
    if (trace->logs_count > 0 || trace->config == NULL)
        return;
    if (strcmp(trace->config->log.file, "-") != 0)
        (void)trace_log_add(log, trace->config->log.file);
    else
        fputs("ringpost: the log goes to the server's standard output: hand it over by --log\n",
              stderr);
}

int trace_main(int argc, char **argv)
{
    struct trace trace = { 0 };
    if (argc > 1 && strcmp(argv[1], "session") == 0)
        return trace_session_main(argc - 1, argv + 1);
    if (arguments_read(argc, argv, &trace) < 0 || trace.help) {
        fputs(trace_help, trace.help ? stdout : stderr);
        return trace.help ? 0 : 2;
    }
    const char *word = argv[optind];
    struct trace_log log;
    uint64_t id;
    trace.config = cli_config(trace.config_path);
    open_logs(&trace, &log);
    int status = smtp_id_read(slice_of_string(word), &id) == 0 ? trace_message(&trace, &log, id)
                                                               : trace_word(&trace, &log, word);
    trace_log_free(&log);
    config_free(trace.config);
    return status;
}
