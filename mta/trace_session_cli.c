/*
 * trace_session_cli.c - `ringpost trace session`: asks for a wire trace and prints it as it comes
 *
 * The server keeps lines until they are fetched, so this asks again and again until it says that
 * the trace has ended. Interrupted, it ends the trace and prints what is left.
 */
#include "mta/trace_session_cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/compiler.h"
#include "core/slice.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/queue_select.h"

enum {
    PATH_BYTES = 2'048,
    POLL_MS = 200,
    US_IN_S = 1'000'000,
    US_IN_MS = 1'000,
    MS_IN_S = 1'000,
    S_IN_MINUTE = 60,
    S_IN_HOUR = 3'600,
};

static const char session_help[] =
    "ringpost trace session --peer ADDRESS[/BITS] [--listener NAME | --destination KEY]\n"
    "ringpost trace session --listener NAME | --destination KEY\n"
    "\n"
    "The dialogue of sessions that begin from now on, both directions, as plaintext whether by TLS "
    "or\n"
    "not. Content is counted, not shown; what follows AUTH is masked. Addresses are shown: this is "
    "for\n"
    "whoever may use the admin socket. One trace at a time.\n"
    "      --peer A        with this host, or one of this network (in and out)\n"
    "      --listener N    clients of this listener\n"
    "      --destination K next hops of this destination, as `queue list` calls it\n"
    "      --count N       end after so many sessions (default 1)\n"
    "      --for T         end after this time: 30s, 5m, 1h (default 60s)\n"
    "      --headers       show the header of the content, too\n"
    "      --json          one object a line: t_us, session, what (begin, client, server, tls,\n"
    "                      header, content, end, lost), text or number\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0, 1 refused, not reachable, or no such session began, 2 usage.\n";

struct session_trace {
    struct client_arguments client;
    const char *peer, *listener, *destination;
    uint64_t count, seconds;
    bool headers;
    char *socket;
    json_int_t number;
    unsigned long sessions; /* that were seen */
    unsigned long lost;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void trace_put(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F */
        if (c1)
            c++;
        if (c1 || *c < ' ' || *c == 0x7f)
            printf("\\x%02x", *c);
        else
            putchar(*c);
    }
}

/* ---- printing ---- */

static void print_line(struct session_trace *t, const json_t *line)
{
    static const struct {
        const char *what, *mark;
    } marks[] = {
        { "begin", "--- " },           { "client", "C: " },   { "server", "S: " },
        { "header", "C| " },           { "content", "C: (" }, { "tls", "--- TLS: " },
        { "end", "--- ended after " }, { "lost", "--- (" },
    };
    const char *what = cli_text(line, "what");
    const json_int_t us = json_integer_value(json_object_get(line, "t_us"));
    const json_int_t number = json_integer_value(json_object_get(line, "number"));
    const time_t seconds = (time_t)(us / US_IN_S);
    char time[32];
    struct tm tm;
    if (strcmp(what, "begin") == 0)
        t->sessions++;
    if (t->client.json) {
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    strftime(time, sizeof(time), "%H:%M:%S", gmtime_r(&seconds, &tm));
    printf("%s.%03lld %llx ", time, us % US_IN_S / US_IN_MS,
           json_integer_value(json_object_get(line, "session")));
    for (size_t i = 0; i < ARRAY_COUNT(marks); i++)
        if (strcmp(what, marks[i].what) == 0)
            fputs(marks[i].mark, stdout);
    trace_put(cli_text(line, "text"));
    if (strcmp(what, "content") == 0)
        printf("%lld octets of content)", number);
    else if (strcmp(what, "end") == 0)
        printf("%lld ms", number);
    else if (strcmp(what, "lost") == 0)
        printf("%lld lines found no room)", number);
    puts(json_is_true(json_object_get(line, "cut")) ? " ..." : "");
}

/* ---- asking ---- */

/* The answer, or NULL: said why. */
static json_t *ask(const struct session_trace *t, const char *path, bool post)
{
    struct client_reply reply;
    const long status = client_ask(t->socket, path, post, &reply);
    json_t *answer = status > 0 ? json_loads(reply.text, 0, NULL) : NULL;
    if (status > 0 && status != 200) {
        const char *error = cli_text(answer, "error");
        fprintf(stderr, "ringpost: %s\n", *error != '\0' ? error : reply.text);
        json_decref(answer);
        answer = NULL;
    }
    free(reply.text);
    return answer;
}

static bool begin(struct session_trace *t)
{
    char path[PATH_BYTES] = "/v1/trace/session";
    char number[24];
    if (t->peer != NULL)
        client_path_add(path, sizeof(path), "peer", t->peer);
    if (t->listener != NULL)
        client_path_add(path, sizeof(path), "listener", t->listener);
    if (t->destination != NULL)
        client_path_add(path, sizeof(path), "destination", t->destination);
    if (t->headers)
        client_path_add(path, sizeof(path), "headers", "1");
    snprintf(number, sizeof(number), "%llu", (unsigned long long)t->count);
    client_path_add(path, sizeof(path), "count", number);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)t->seconds);
    client_path_add(path, sizeof(path), "seconds", number);
    json_t *answer = ask(t, path, true);
    t->number = json_integer_value(json_object_get(answer, "trace"));
    json_decref(answer);
    return t->number > 0;
}

static void end(const struct session_trace *t)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/v1/trace/session/end?trace=%lld", t->number);
    json_decref(ask(t, path, true));
}

/* 1: more will come; 0: that was all; -1: said why. */
static int page(struct session_trace *t)
{
    char path[PATH_BYTES];
    size_t index;
    json_t *line;
    snprintf(path, sizeof(path), "/v1/trace/session?trace=%lld", t->number);
    json_t *answer = ask(t, path, false);
    if (answer == NULL)
        return -1;
    json_array_foreach(json_object_get(answer, "lines"), index, line) print_line(t, line);
    fflush(stdout);
    const bool ended = json_is_true(json_object_get(answer, "ended"));
    const bool more = json_is_true(json_object_get(answer, "more"));
    t->lost = (unsigned long)json_integer_value(json_object_get(answer, "lost"));
    json_decref(answer);
    if (!ended && !more)
        (void)poll(NULL, 0, POLL_MS);
    return ended ? 0 : 1;
}

static int run(struct session_trace *t)
{
    const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    int r = 1;
    bool told = false;
    sigaction(SIGINT, &action, NULL); /* before the server knows: it must be told of the end */
    sigaction(SIGTERM, &action, NULL);
    if (!begin(t))
        return 1;
    while (r == 1) {
        if (interrupted && !told)
            end(t);
        told = interrupted != 0;
        r = page(t);
    }
    if (t->lost > 0)
        fprintf(stderr, "ringpost: %lu lines found no room\n", t->lost);
    if (r == 0 && t->sessions == 0)
        fputs("ringpost: no such session began\n", stderr);
    return r == 0 && t->sessions > 0 ? 0 : 1;
}

/* ---- the command ---- */

static int arguments_read(int argc, char **argv, struct session_trace *t)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "socket", required_argument, NULL, 's' },
        { "peer", required_argument, NULL, 'p' },
        { "listener", required_argument, NULL, 'l' },
        { "destination", required_argument, NULL, 'd' },
        { "count", required_argument, NULL, 'n' },
        { "for", required_argument, NULL, 'f' },
        { "headers", no_argument, NULL, 'H' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t ms;
    int option;
    while ((option = getopt_long(argc, argv, "c:s:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': t->client.config = optarg; break;
        case 's': t->client.socket = optarg; break;
        case 'p': t->peer = optarg; break;
        case 'l': t->listener = optarg; break;
        case 'd': t->destination = optarg; break;
        case 'H': t->headers = true; break;
        case 'j': t->client.json = true; break;
        case 'h': t->client.help = true; break;
        case 'n':
            if (slice_to_u64(slice_of_string(optarg), UINT32_MAX, &t->count) < 0)
                return -EINVAL;
            break;
        case 'f':
            if (queue_age_read(optarg, &ms) < 0 || ms < MS_IN_S || ms > S_IN_HOUR * MS_IN_S)
                return -EINVAL;
            t->seconds = ms / MS_IN_S;
            break;
        default: return -EINVAL;
        }
    }
    bool whose = t->peer != NULL || t->listener != NULL || t->destination != NULL;
    return t->client.help || (whose && optind == argc) ? 0 : -EINVAL;
}

int trace_session_main(int argc, char **argv)
{
    struct session_trace t = { .count = 1, .seconds = S_IN_MINUTE };
    int r = arguments_read(argc, argv, &t);
    if (r < 0 || t.client.help) {
        fputs(session_help, r == 0 ? stdout : stderr);
        return r == 0 ? 0 : 2;
    }
    t.socket = client_socket(&t.client);
    int status = t.socket == NULL ? 1 : run(&t);
    free(t.socket);
    return status;
}
