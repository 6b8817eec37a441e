/*
 * connector_report_cli.c - `ringpost connector report`: daily sums as a table, CSV or JSON
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/compiler.h"
#include "core/slice.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/connector_cli.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 1'024, DAY_BYTES = 32, S_IN_DAY = 86'400, DAYS = 90 };
enum format { FORMAT_TEXT, FORMAT_CSV, FORMAT_JSON };

static const char help[] =
    "ringpost connector report [--days N] [--csv | --json] [NAME]\n"
    "\n"
    "What came or went by each connector, day by day (UTC): messages and bytes, how many without\n"
    "TLS, by TLS 1.2, by 1.3, and by 1.3 with a post-quantum hybrid key exchange; of these those\n"
    "of which the connector demanded TLS; what was deferred and refused (inbound: commands,\n"
    "outbound: attempts), and tokens: inbound why it was refused, outbound why connections could\n"
    "not be protected. Each node keeps its own sums; those of a fleet are to be added up.\n"
    "  -n, --days N        today and the days before it (default 90)\n"
    "      --csv           a header and a line for each day, direction and connector\n"
    "      --json          one JSON object a line\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0, 1 nothing is known, or not reachable, 2 usage.\n";

static const char *const kinds[] = { "none", "1.2", "1.3", "hybrid" };

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static long long sum_of(const json_t *object)
{
    long long sum = 0;
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        sum += number_of(object, kinds[i]);
    return sum;
}

static void day_text(const json_t *record, char out[static DAY_BYTES])
{
    struct tm tm;
    const time_t at = number_of(record, "day") * S_IN_DAY;
    strftime(out, DAY_BYTES, "%Y-%m-%d", gmtime_r(&at, &tm));
}

static void tokens_text(const json_t *record, char out[static WORDS_BYTES])
{
    size_t size = 0;
    const char *key;
    json_t *value;
    out[0] = '\0';
    json_object_foreach(json_object_get(record, "tokens"), key, value)
    {
        if (size < WORDS_BYTES)
            size += (size_t)snprintf(out + size, WORDS_BYTES - size, "%s%s=%lld",
                                     size == 0 ? "" : " ", key, json_integer_value(value));
    }
}

/* ---- lines ---- */

static void print_text(const json_t *record)
{
    char day[DAY_BYTES];
    char tokens[WORDS_BYTES];
    const json_t *messages = json_object_get(record, "messages");
    const json_t *forced = json_object_get(record, "forced");
    const char *name = cli_text(record, "connector");
    day_text(record, day);
    tokens_text(record, tokens);
    printf("%s  %-3s  %-24s %8lld %12lld ", day, cli_text(record, "direction"),
           *name == '\0' ? "-" : name, sum_of(messages) + sum_of(forced),
           number_of(record, "bytes"));
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        printf(" %8lld", number_of(messages, kinds[i]) + number_of(forced, kinds[i]));
    printf(" %8lld %8lld %8lld  %s\n", sum_of(forced), number_of(record, "deferred"),
           number_of(record, "refused"), tokens);
}

static void print_csv(const json_t *record)
{
    char day[DAY_BYTES];
    char tokens[WORDS_BYTES];
    const json_t *messages = json_object_get(record, "messages");
    const json_t *forced = json_object_get(record, "forced");
    day_text(record, day);
    tokens_text(record, tokens);
    /* A title has no comma in it, nor has a token. */
    printf("%s,%s,%s,%lld,%lld", day, cli_text(record, "direction"), cli_text(record, "connector"),
           sum_of(messages) + sum_of(forced), number_of(record, "bytes"));
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        printf(",%lld", number_of(messages, kinds[i]));
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        printf(",%lld", number_of(forced, kinds[i]));
    printf(",%lld,%lld,%s\n", number_of(record, "deferred"), number_of(record, "refused"), tokens);
}

static void print_head(enum format format)
{
    if (format == FORMAT_TEXT)
        printf("%-10s  %-3s  %-24s %8s %12s  %8s %8s %8s %8s %8s %8s %8s  %s\n", "day", "dir",
               "connector", "messages", "bytes", "no TLS", "1.2", "1.3", "hybrid", "demanded",
               "deferred", "refused", "tokens");
    if (format == FORMAT_CSV)
        printf("day,direction,connector,messages,bytes,none,tls_1_2,tls_1_3,hybrid,demanded_none,"
               "demanded_tls_1_2,demanded_tls_1_3,demanded_hybrid,deferred,refused,tokens\n");
}

static void print_record(const json_t *record, enum format format)
{
    if (format == FORMAT_TEXT)
        print_text(record);
    else if (format == FORMAT_CSV)
        print_csv(record);
    else if (json_dumpf(record, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
        printf("\n");
}

/* ---- asking ---- */

/* A page; next is where the following one begins, or NULL. How many records, or -1. */
static long page(const char *socket, const char *path, enum format format, bool head, json_t **next)
{
    struct client_reply reply;
    long status = client_ask(socket, path, false, &reply);
    json_t *root = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (root == NULL)
        return -1;
    size_t index;
    json_t *record;
    const json_t *records = json_object_get(root, "records");
    long count = (long)json_array_size(records);
    if (head && count > 0)
        print_head(format);
    json_array_foreach(records, index, record) print_record(record, format);
    *next = json_incref(json_object_get(root, "next"));
    json_decref(root);
    return count;
}

static int report(const char *socket, unsigned long days, const char *name, enum format format)
{
    long total = 0;
    json_t *next = NULL;
    do {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "/v1/connectors/report?days=%lu", days);
        if (name != NULL)
            client_path_add(path, sizeof(path), "name", name);
        if (next != NULL) {
            size_t size = strlen(path);
            snprintf(path + size, sizeof(path) - size, "&day=%lld&direction=%s",
                     number_of(next, "day"), cli_text(next, "direction"));
            client_path_add(path, sizeof(path), "connector", cli_text(next, "connector"));
        }
        json_decref(next);
        next = NULL;
        long count = page(socket, path, format, total == 0, &next);
        if (count < 0)
            return 1;
        total += count;
    } while (next != NULL);
    if (total == 0)
        fprintf(stderr, "ringpost: nothing came or went%s%s\n", name == NULL ? "" : " by ",
                name == NULL ? "" : name);
    return total == 0 ? 1 : 0;
}

int connector_report_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "socket", required_argument, NULL, 's' },
        { "days", required_argument, NULL, 'n' },
        { "csv", no_argument, NULL, 'v' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct client_arguments a = { 0 };
    enum format format = FORMAT_TEXT;
    uint64_t days = DAYS;
    bool bad = false;
    for (int option; (option = getopt_long(argc, argv, "c:s:n:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c': a.config = optarg; break;
        case 's': a.socket = optarg; break;
        case 'n':
            bad = bad || slice_to_u64(slice_of_string(optarg), UINT16_MAX, &days) < 0 || days == 0;
            break;
        case 'v': format = FORMAT_CSV; break;
        case 'j': format = FORMAT_JSON; break;
        case 'h': a.help = true; break;
        default: bad = true; break;
        }
    }
    if (bad || a.help || argc - optind > 1) {
        fputs(help, !bad && a.help ? stdout : stderr);
        return !bad && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    int result = 1;
    if (socket != NULL)
        result = report(socket, days, optind < argc ? argv[optind] : NULL, format);
    free(socket);
    return result;
}
