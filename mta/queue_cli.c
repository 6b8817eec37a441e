/*
 * queue_cli.c - `ringpost queue`: criteria into questions, answers into lines
 *
 * The server reads the criteria; here they only travel. What is said to be done has been said by
 * the server to be done.
 */
#include "mta/queue_cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/compiler.h"
#include "core/slice.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/queue_select.h"

enum { PATH_BYTES = 12'288, PAGE = 500, LIST_DEFAULT = 1'000 };

/* ---- printing ---- */

static void print_unit(const json_t *unit)
{
    printf("    %-8s %3lld recipient(s)  %s", json_string_value(json_object_get(unit, "state")),
           json_integer_value(json_object_get(unit, "recipients")),
           json_string_value(json_object_get(unit, "destination")));
    json_int_t due = json_integer_value(json_object_get(unit, "due_in_s"));
    json_int_t attempts = json_integer_value(json_object_get(unit, "attempts"));
    if (attempts > 0)
        printf("  attempts %lld", attempts);
    if (due > 0)
        printf("  next in %lld s", due);
    const char *error = json_string_value(json_object_get(unit, "destination_error"));
    if (error != NULL && error[0] != '\0')
        printf("\n             %s", error);
    printf("\n");
}

static void print_message(const json_t *message, bool whole)
{
    char date[64] = "";
    time_t arrival = (time_t)json_integer_value(json_object_get(message, "arrival"));
    struct tm tm;
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", localtime_r(&arrival, &tm));
    const char *sender = json_string_value(json_object_get(message, "sender"));
    printf("%s  %s  %8lld bytes  from <%s>%s\n", json_string_value(json_object_get(message, "id")),
           date, json_integer_value(json_object_get(message, "size")), sender == NULL ? "" : sender,
           json_is_true(json_object_get(message, "damaged")) ? "  DAMAGED" : "");
    size_t index;
    json_t *each;
    json_t *recipients = json_object_get(message, "recipients");
    json_array_foreach(recipients, index, each)
    {
        if (!whole && index == 3) {
            printf("    and %lld more\n",
                   json_integer_value(json_object_get(message, "recipients_total")) - 3);
            break;
        }
        printf("    to <%s>\n", json_string_value(each));
    }
    json_array_foreach(json_object_get(message, "units"), index, each) print_unit(each);
    json_array_foreach(json_object_get(message, "outcomes"), index, each) printf(
        "    recipient %lld: %s %lld %s\n", json_integer_value(json_object_get(each, "recipient")),
        json_string_value(json_object_get(each, "outcome")),
        json_integer_value(json_object_get(each, "code")),
        json_string_value(json_object_get(each, "text")));
}

/* ---- words ---- */

#define SELECTION_HELP                                                                             \
    "Which mail is meant, all of these together; --all, or at least one, has to be said:\n"        \
    "  ID...                    messages, as the 250 and `queue list` name them\n"                 \
    "  -f, --sender P           envelope sender; * stands for any octets, `d.example` for all\n"   \
    "                           addresses there, `<>` for the null sender\n"                       \
    "  -t, --recipient P        envelope recipient, likewise: of these recipients only\n"          \
    "  -d, --destination P      a domain, or a whole key as `queue list` shows it "                \
    "(mx:d.example,\n"                                                                             \
    "                           outbound:NAME); * as above\n"                                      \
    "  -o, --connector NAME     what goes by this outbound connector; \"\": by the built-in "      \
    "route\n"                                                                                      \
    "      --older AGE          came longer ago than 90s, 15m, 4h, 5d\n"                           \
    "      --younger AGE        came later than that\n"                                            \
    "      --state S            ready, deferred or held (list: active, too); may be repeated\n"    \
    "      --all                all that waits\n"

#define SOCKET_HELP                                                                                \
    "  -c, --config FILE        the server's configuration, to find the socket (built in)\n"       \
    "  -s, --socket PATH        the socket itself\n"

static const char queue_help[] =
    "ringpost queue list [SELECTION] [--max N]      what waits: ids, senders, recipients, where "
    "to, "
    "why\n"
    "ringpost queue show ID                         one message: all recipients, outcomes so far\n"
    "ringpost queue hold SELECTION                  no attempts until it is released; it still "
    "expires\n"
    "ringpost queue release SELECTION               what is held is due now\n"
    "ringpost queue retry SELECTION                 what waits for its time is due now, and "
    "back-off "
    "of\n"
    "                                               its destinations is over\n"
    "ringpost queue bounce SELECTION                back to the sender with a report (5.7.0, in "
    "the\n"
    "                                               words of --reason); null senders get none\n"
    "ringpost queue discard SELECTION --reason TEXT gone, and nobody is told but the log\n"
    "ringpost queue suspend --destination P | --connector NAME   nothing goes there; mail waits\n"
    "ringpost queue resume --destination P | --connector NAME    it goes again\n"
    "ringpost queue reroute SELECTION --to NAME     by another outbound connector, never below the "
    "level on\n"
    "                                               record\n"
    "ringpost queue move --from NAME --to NAME      the same of all mail of a connector\n"
    "ringpost queue relax --connector NAME --to L   of mail of that connector: the TLS level on "
    "record falls\n"
    "                                               to L (none, may, encrypt, chain, name, "
    "internal)\n"
    "ringpost queue top [--max N] [--by age]        destinations that most waits for, or the "
    "oldest: "
    "by state,\n"
    "                                               and what binds\n"
    "ringpost queue orders                          what is suspended, rerouted, relaxed; by whom, "
    "and why\n"
    "ringpost queue forget NUMBER                   takes one of these back\n"
    "\n" SELECTION_HELP "\n"
    "  -r, --reason TEXT        why: for the log, `queue show`, and the report of a bounce\n"
    "  -N, --dry-run            says which mail it would be, and changes nothing\n"
    "  -n, --max N              list at most N messages (1000)\n"
    "      --json               an object a line (list, dry run), or one object\n" SOCKET_HELP "\n"
    "A verb holds when it is answered: what is said to be done is on disk. A recipient that is "
    "being\n"
    "delivered just then is left alone until that attempt has ended; if it is not delivered, the "
    "verb\n"
    "holds for it then. The log says of each message who did it and why.\n"
    "suspend, reroute, move and relax are orders: they hold over restarts and reloads until they "
    "are\n"
    "taken back. Those about ways are about mail that is there when they are given, and are "
    "forgotten\n"
    "after 60 days.\n"
    "Exit status: 0, 1 refused, not found, or not reachable, 2 usage.\n";

/* ---- what was asked for ---- */

struct order {
    struct client_arguments client;
    bool dry_run;
    const char *reason;
    const char *to;
    const char *by;
    const char *socket;
    char criteria[PATH_BYTES]; /* "&key=value" of the selection, but for ids */
    char *const *ids;
    int ids_count;
};

static void add(char path[static PATH_BYTES], const char *key, const char *value)
{
    client_path_add(path, PATH_BYTES, key, value);
}

static int options_read(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "socket", required_argument, NULL, 's' },
        { "max", required_argument, NULL, 'n' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { "sender", required_argument, NULL, 'f' },
        { "recipient", required_argument, NULL, 't' },
        { "destination", required_argument, NULL, 'd' },
        { "connector", required_argument, NULL, 'o' },
        { "older", required_argument, NULL, 'O' },
        { "younger", required_argument, NULL, 'Y' },
        { "state", required_argument, NULL, 'S' },
        { "all", no_argument, NULL, 'A' },
        { "reason", required_argument, NULL, 'r' },
        { "dry-run", no_argument, NULL, 'N' },
        { "to", required_argument, NULL, 'T' },
        { "from", required_argument, NULL, 'o' },
        { "by", required_argument, NULL, 'B' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t number = 0;
    snprintf(order->criteria, sizeof(order->criteria), "?");
    order->client.most = LIST_DEFAULT;
    for (int c; (c = getopt_long(argc, argv, "c:s:n:hf:t:d:o:r:N", options, NULL)) != -1;) {
        switch (c) {
        case 'c': order->client.config = optarg; break;
        case 's': order->client.socket = optarg; break;
        case 'j': order->client.json = true; break;
        case 'h': order->client.help = true; break;
        case 'r': order->reason = optarg; break;
        case 'N': order->dry_run = true; break;
        case 'T': order->to = optarg; break;
        case 'B': order->by = optarg; break;
        case 'f': add(order->criteria, "sender", optarg); break;
        case 't': add(order->criteria, "recipient", optarg); break;
        case 'd': add(order->criteria, "destination", optarg); break;
        case 'o': add(order->criteria, "connector", optarg); break;
        case 'O': add(order->criteria, "older", optarg); break;
        case 'Y': add(order->criteria, "younger", optarg); break;
        case 'S': add(order->criteria, "state", optarg); break;
        case 'A': add(order->criteria, "all", "1"); break;
        case 'n':
            if (slice_to_u64(slice_of_string(optarg), UINT32_MAX, &number) < 0)
                return -EINVAL;
            order->client.most = number;
            break;
        default: return -EINVAL;
        }
    }
    return strlen(order->criteria) + 1'024 < PATH_BYTES ? 0 : -EINVAL;
}

/* The criteria behind a path, with as many of the ids as fit into one question: how many. */
static int path_of(const struct order *order, char path[static PATH_BYTES], int first)
{
    char ids[SELECT_IDS_MAX * 20] = "";
    int count = 0;
    snprintf(path + strlen(path), PATH_BYTES - strlen(path), "%s", order->criteria);
    for (; first + count < order->ids_count && count < SELECT_IDS_MAX; count++)
        snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%s%.18s", count > 0 ? "," : "",
                 order->ids[first + count]);
    if (count > 0)
        add(path, "id", ids);
    return count;
}

/* The object, or NULL: said why. */
static json_t *ask(const char *socket, const char *path, bool post)
{
    struct client_reply reply;
    const long status = client_ask(socket, path, post, &reply);
    json_t *object = status < 0 ? NULL : json_loads(reply.text, 0, NULL);
    free(reply.text);
    if (status == 200 && object != NULL)
        return object;
    const char *error = json_string_value(json_object_get(object, "error"));
    if (status >= 0)
        fprintf(stderr, "ringpost: %s\n", error != NULL ? error : "no answer");
    json_decref(object);
    return NULL;
}

static json_int_t number(const json_t *report, const char *key)
{
    return json_integer_value(json_object_get(report, key));
}

/* ---- list, show ---- */

struct listed {
    unsigned long shown;
    json_int_t recipients;
    bool more;
};

static void print_entry(const struct order *order, const json_t *entry)
{
    if (order->client.json) {
        json_dumpf(entry, stdout, JSON_COMPACT);
        printf("\n");
    } else {
        print_message(entry, false);
    }
}

/* The pages of one question. False: there was no answer. */
static bool list_pages(const struct order *order, const char *question, struct listed *listed)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s", question);
    for (;;) {
        size_t index;
        json_t *entry;
        json_t *page = ask(order->socket, path, false);
        if (page == NULL)
            return false;
        json_array_foreach(json_object_get(page, "messages"), index, entry)
        {
            if (listed->shown >= order->client.most) {
                listed->more = true;
                break;
            }
            listed->shown++;
            listed->recipients += json_integer_value(json_object_get(entry, "selected"));
            print_entry(order, entry);
        }
        const json_t *next = json_object_get(page, "next");
        const bool goes_on = next != NULL && !listed->more;
        if (goes_on)
            snprintf(path, sizeof(path), "%s&shard=%lld&log=%lld&cursor=%lld", question,
                     json_integer_value(json_object_get(next, "shard")),
                     json_integer_value(json_object_get(next, "log")),
                     json_integer_value(json_object_get(next, "cursor")));
        json_decref(page);
        if (!goes_on)
            return true;
    }
}

static bool list(const struct order *order, const char *verb, struct listed *listed)
{
    int ids = 0;
    do {
        char path[PATH_BYTES] = "/v1/queue";
        ids += path_of(order, path, ids);
        char limit[32];
        snprintf(limit, sizeof(limit), "%lu", MIN(order->client.most, (unsigned long)PAGE));
        add(path, "limit", limit);
        if (verb != NULL)
            add(path, "verb", verb);
        if (!list_pages(order, path, listed))
            return false;
    } while (ids < order->ids_count);
    return true;
}

static int queue_list(const struct order *order)
{
    struct listed listed = { 0 };
    if (!list(order, NULL, &listed))
        return 1;
    if (!order->client.json)
        printf("%lu message(s)%s\n", listed.shown, listed.more ? ", and more" : "");
    return 0;
}

static int queue_show(const struct order *order)
{
    char path[PATH_BYTES] = "/v1/queue/";
    char *end = path + strlen(path);
    snprintf(end, sizeof(path) - (size_t)(end - path), "%.18s", order->ids[0]);
    json_t *message = ask(order->socket, path, false);
    if (message != NULL && order->client.json)
        return cli_print_json(message, 0);
    if (message != NULL)
        print_message(message, true);
    json_decref(message);
    return message == NULL ? 1 : 0;
}

/* ---- top ---- */

static void print_age(json_int_t seconds)
{
    static const struct {
        json_int_t seconds;
        char letter;
    } units[] = { { 86'400, 'd' }, { 3'600, 'h' }, { 60, 'm' }, { 1, 's' } };
    size_t i = 0;
    while (units[i].seconds > 1 && seconds < 2 * units[i].seconds)
        i++;
    printf("%6lld%c", seconds / units[i].seconds, units[i].letter);
}

static void print_top(const json_t *row)
{
    static const char *const columns[] = { "ready", "active", "deferred", "held" };
    for (size_t i = 0; i < ARRAY_COUNT(columns); i++)
        printf("%9lld", number(row, columns[i]));
    print_age(number(row, "oldest_s"));
    printf("  %-17s  %s\n", cli_text(row, "binds"), cli_text(row, "destination"));
    if (*cli_text(row, "why") != '\0')
        printf("%60s%s\n", "", cli_text(row, "why"));
    if (*cli_text(row, "error") != '\0')
        printf("%60s%s\n", "", cli_text(row, "error"));
}

static int queue_top(const struct order *order)
{
    size_t index;
    json_t *each;
    char limit[32];
    char path[PATH_BYTES] = "/v1/queue/top";
    snprintf(limit, sizeof(limit), "%lu", order->client.most);
    if (order->client.most != LIST_DEFAULT)
        add(path, "limit", limit);
    if (order->by != NULL)
        add(path, "by", order->by);
    json_t *top = ask(order->socket, path, false);
    if (top == NULL)
        return 1;
    if (order->client.json)
        return cli_print_json(top, 0);
    printf("%9s%9s%9s%9s%7s  %-17s  %s\n", "ready", "active", "deferred", "held", "oldest", "binds",
           "destination");
    json_array_foreach(json_object_get(top, "destinations"), index, each) print_top(each);
    printf("%s%lld destination(s), %lld unit(s)\n",
           json_is_true(json_object_get(top, "total_is_exact")) ? "" : "at least ",
           number(top, "total"), number(top, "units"));
    json_decref(top);
    return 0;
}

/* ---- verbs ---- */

static const struct verb {
    const char *name;
    const char *done; /* of recipients */
} verbs[] = {
    { "hold", "held" },           { "release", "released" },     { "retry", "due now" },
    { "discard", "discarded" },   { "bounce", "bounced" },       { "reroute", "on another way" },
    { "move", "on another way" }, { "relax", "on another way" },
};

static bool wants_to(const char *verb)
{
    return strcmp(verb, "reroute") == 0 || strcmp(verb, "move") == 0 || strcmp(verb, "relax") == 0;
}

static int dry_run(struct order *order, const struct verb *verb)
{
    struct listed listed = { 0 };
    order->client.most = ULONG_MAX;
    const char *name = wants_to(verb->name) ? "reroute" : verb->name;
    if (!list(order, name, &listed))
        return 1;
    if (!order->client.json)
        printf("%lld recipient(s) of %lu message(s) would be %s; nothing was changed\n",
               listed.recipients, listed.shown, verb->done);
    return 0;
}

/* The job when it is done; NULL: nobody answers any more. */
static json_t *work(const struct order *order, json_t *report)
{
    const bool tells = isatty(STDERR_FILENO) && !order->client.json;
    while (report != NULL && strcmp(cli_text(report, "state"), "working") == 0) {
        char path[64];
        if (tells)
            fprintf(stderr, "\rlooked at %lld of %lld messages, %lld recipients so far ",
                    number(report, "looked_at"), number(report, "queued"),
                    number(report, "recipients"));
        snprintf(path, sizeof(path), "/v1/queue/jobs/%lld", number(report, "job"));
        json_decref(report);
        report = ask(order->socket, path, false);
        if (tells)
            fprintf(stderr, "\r\033[K");
    }
    return report;
}

static void tell(const struct verb *verb, const json_t *report)
{
    const json_int_t active = number(report, "active"), failed = number(report, "failed");
    printf("%lld recipient(s) of %lld message(s) %s\n", number(report, "recipients"),
           number(report, "messages"), verb->done);
    if (active > 0)
        printf("%lld message(s) are being delivered just now: what is not delivered by that is %s "
               "then (job %lld)\n",
               active, verb->done, number(report, "job"));
    if (failed > 0)
        printf("%lld could not be changed: unreadable, or there was no room for a record or a "
               "report\n",
               failed);
}

static int queue_verb(struct order *order, const struct verb *verb)
{
    int ids = 0;
    int result = 0;
    if (order->dry_run)
        return dry_run(order, verb);
    do {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "/v1/queue/%s",
                 strcmp(verb->name, "move") == 0 ? "reroute" : verb->name);
        ids += path_of(order, path, ids);
        if (order->reason != NULL)
            add(path, "reason", order->reason);
        if (order->to != NULL)
            add(path, "to", order->to);
        json_t *report = work(order, ask(order->socket, path, true));
        if (report == NULL)
            return 1;
        if (number(report, "failed") > 0 ||
            (order->ids_count > 0 && number(report, "messages") == 0))
            result = 1;
        if (order->client.json) {
            (void)cli_print_json(report, 0);
            continue;
        }
        tell(verb, report);
        json_decref(report);
    } while (ids < order->ids_count);
    return result;
}

/* ---- orders ---- */

/* suspend, resume, forget. */
static int queue_order(const struct order *order, const char *verb)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/v1/queue/%s%s", verb, order->criteria);
    if (strcmp(verb, "forget") == 0)
        add(path, "order", order->ids[0]);
    if (order->reason != NULL)
        add(path, "reason", order->reason);
    json_t *told = ask(order->socket, path, true);
    if (told == NULL)
        return 1;
    if (order->client.json)
        return cli_print_json(told, 0);
    if (strcmp(verb, "suspend") == 0)
        printf("suspended (order %lld): what is being delivered there just now ends, then mail "
               "waits\n",
               number(told, "order"));
    else
        printf("%s\n", strcmp(verb, "resume") == 0 ? "mail goes there again" : "taken back");
    json_decref(told);
    return 0;
}

static void print_order(const json_t *order)
{
    static const char *const keys[] = { "sender", "recipient", "destination", "connector" };
    char at[32] = "";
    const time_t seconds = (time_t)number(order, "at");
    struct tm tm;
    strftime(at, sizeof(at), "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &tm));
    printf("%4lld  %s", number(order, "number"), cli_text(order, "kind"));
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        if (json_object_get(order, keys[i]) != NULL)
            printf("  %s \"%s\"", keys[i], cli_text(order, keys[i]));
    if (json_object_get(order, "ids") != NULL)
        printf("  %zu message(s)", json_array_size(json_object_get(order, "ids")));
    if (json_object_get(order, "to") != NULL)
        printf("  to %s", cli_text(order, "to"));
    printf("\n      %s by %s%s%s\n", at, cli_text(order, "by"),
           *cli_text(order, "reason") == '\0' ? "" : ": ", cli_text(order, "reason"));
}

static int queue_orders(const struct order *order)
{
    size_t index;
    json_t *each;
    json_t *all = ask(order->socket, "/v1/queue/orders", false);
    json_array_foreach(json_object_get(all, "orders"), index, each)
    {
        if (order->client.json) {
            json_dumpf(each, stdout, JSON_COMPACT);
            printf("\n");
        } else {
            print_order(each);
        }
    }
    json_decref(all);
    return all == NULL ? 1 : 0;
}

static const struct verb *verb_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(verbs); i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* Those that take no more than criteria, and a number. */
static bool is_order(const char *verb, int words)
{
    return ((strcmp(verb, "suspend") == 0 || strcmp(verb, "resume") == 0) && words == 0) ||
           (strcmp(verb, "forget") == 0 && words == 1);
}

static int run(struct order *order, const char *name, const struct verb *verb)
{
    if (strcmp(name, "list") == 0)
        return queue_list(order);
    if (strcmp(name, "show") == 0)
        return queue_show(order);
    if (strcmp(name, "orders") == 0)
        return queue_orders(order);
    if (strcmp(name, "top") == 0)
        return queue_top(order);
    return verb != NULL ? queue_verb(order, verb) : queue_order(order, name);
}

int queue_main(int argc, char **argv)
{
    static struct order order;
    const bool read = options_read(argc, argv, &order) == 0;
    const char *name = optind < argc ? argv[optind] : "";
    const struct verb *verb = verb_named(name);
    order.ids = argv + optind + 1;
    order.ids_count = MAX(argc - optind - 1, 0);
    const bool says_which = order.ids_count > 0 || order.criteria[1] != '\0';
    const bool good =
        read &&
        (strcmp(name, "list") == 0 || (strcmp(name, "show") == 0 && order.ids_count == 1) ||
         ((strcmp(name, "orders") == 0 || strcmp(name, "top") == 0) && order.ids_count == 0) ||
         is_order(name, order.ids_count) ||
         (verb != NULL && says_which && wants_to(name) == (order.to != NULL)));
    if (!good || order.client.help) {
        fputs(queue_help, read && order.client.help ? stdout : stderr);
        if (read && verb != NULL && !says_which && !order.client.help)
            fprintf(stderr, "ringpost: which mail? name it, or say --all\n");
        return read && order.client.help ? 0 : 2;
    }
    char *socket = client_socket(&order.client);
    int result = 1;
    order.socket = socket;
    if (socket != NULL)
        result = run(&order, name, verb);
    free(socket);
    return result;
}
