/*
 * explain_known.c - floor memory, source addresses and limits of a way out, for explain --online
 *
 * What the kernel would take as the source is what a datagram socket gets when it is connected: no
 * octet is sent for it.
 */
#include "mta/explain_known.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/floor_watch.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 1'024, WHY_BYTES = 256, DAY_BYTES = 16 };

/* True: the server may be asked. Else why not, in the object. */
static bool begin(const struct config *config, json_t *object)
{
    char why[WHY_BYTES] = "";
    const bool answers = client_answers(config->admin.socket);
    if (*config->admin.socket == '\0')
        snprintf(why, sizeof(why), "the configuration names no admin socket");
    else if (!answers)
        snprintf(why, sizeof(why), "no server answers at %.200s", config->admin.socket);
    json_object_set_new(object, "known", json_boolean(answers));
    json_object_set_new(object, "why", cli_string(why));
    return answers;
}

static void not_known(json_t *object)
{
    json_object_set_new(object, "known", json_false());
    json_object_set_new(object, "why", cli_string("the server does not tell"));
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* ---- memory ---- */

json_t *explain_memory(const struct config *config, const struct resolve_target *target,
                       const char *domain)
{
    char host[FLOOR_HOST_MAX], path[PATH_BYTES] = "/v1/tls/report";
    json_t *object = json_object(), *record = NULL;
    floor_host_text(*target->host != '\0' ? target->host : NULL, &target->address, host);
    if (begin(config, object)) {
        client_path_add(path, sizeof(path), "exact", host);
        client_path_add(path, sizeof(path), "domain", domain);
        json_t *page = client_ask_json(config->admin.socket, path);
        if (page == NULL)
            not_known(object);
        record = json_incref(json_array_get(json_object_get(page, "records"), 0));
        json_decref(page);
    }
    json_object_set_new(object, "record", record == NULL ? json_null() : record);
    return object;
}

static void day_text(const json_t *record, const char *key, char out[static DAY_BYTES])
{
    struct tm tm;
    const time_t at = number_of(record, key);
    strftime(out, DAY_BYTES, "%Y-%m-%d", gmtime_r(&at, &tm));
}

void explain_memory_print(const json_t *memory)
{
    const json_t *record = json_object_get(memory, "record");
    const json_t *best = json_object_get(record, "best");
    char words[WORDS_BYTES], since[DAY_BYTES], first[DAY_BYTES];
    if (!json_is_true(json_object_get(memory, "known"))) {
        snprintf(words, sizeof(words), "not known: %s", cli_text(memory, "why"));
        cli_line("  memory", words);
        return;
    }
    if (!json_is_object(record)) {
        cli_line("  memory", "none: it was not met yet, or too long ago");
        return;
    }
    day_text(record, "best_since", since);
    day_text(record, "first", first);
    const char *less = cli_text(record, "less");
    if (json_is_object(best))
        snprintf(words, sizeof(words), "%s, since %s; met %lld times since %s%s%s",
                 cli_text(best, "text"), since, (long long)number_of(record, "observations"), first,
                 *less != '\0' ? "; LESS now: " : "", less);
    else
        snprintf(words, sizeof(words), "nothing learned yet; now %s, met %lld times since %s",
                 cli_text(json_object_get(record, "now"), "text"),
                 (long long)number_of(record, "observations"), first);
    cli_line("  memory", words);
}

/* ---- source ---- */

static json_t *addresses_json(const struct net_address *addresses, unsigned count)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < count; i++) {
        char text[NET_TEXT_MAX];
        net_text(&addresses[i], false, text);
        json_array_append_new(list, cli_string(text));
    }
    return list;
}

/* What the kernel would send to it from; "": there is no way. */
static void kernels_choice(const struct net_address *to, char out[static NET_TEXT_MAX])
{
    struct sockaddr_storage peer, own;
    socklen_t size = net_to_sockaddr(to, &peer), own_size = sizeof(own);
    struct net_address address;
    out[0] = '\0';
    const int fd = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&peer, size) == 0 &&
        getsockname(fd, (struct sockaddr *)&own, &own_size) == 0) {
        net_from_sockaddr(&own, &address);
        net_text(&address, false, out);
    }
    close(fd);
}

static void add_choice(json_t *object, const char *key, const struct resolve_target *targets,
                       unsigned count, bool v4)
{
    char text[NET_TEXT_MAX] = "";
    for (unsigned i = 0; i < count && *text == '\0'; i++)
        if (net_is_v4(&targets[i].address) == v4)
            kernels_choice(&targets[i].address, text);
    json_object_set_new(object, key, cli_string(text));
}

json_t *explain_source(const struct route *route, const struct resolve_target *targets,
                       unsigned count)
{
    json_t *object = json_object();
    json_object_set_new(object, "ehlo", cli_string(route->ehlo));
    json_object_set_new(object, "ipv4", addresses_json(route->sources_v4, route->sources_v4_count));
    json_object_set_new(object, "ipv6", addresses_json(route->sources_v6, route->sources_v6_count));
    add_choice(object, "ipv4_now", targets, route->sources_v4_count > 0 ? 0 : count, true);
    add_choice(object, "ipv6_now", targets, route->sources_v6_count > 0 ? 0 : count, false);
    return object;
}

/* "192.0.2.1, 192.0.2.2", "192.0.2.1 (the kernel's choice)", or nothing. */
static size_t family_words(const json_t *source, const char *given, const char *now, char *out,
                           size_t room)
{
    const json_t *list = json_object_get(source, given), *each;
    size_t index, used = 0;
    if (json_array_size(list) == 0 && *cli_text(source, now) != '\0')
        used = (size_t)snprintf(out, room, "%s (the kernel's choice)", cli_text(source, now));
    json_array_foreach(list, index, each) if (used < room) used += (size_t)snprintf(
        out + used, room - used, "%s%s", index == 0 ? "" : " or ", json_string_value(each));
    return MIN(used, room - 1);
}

void explain_source_print(const json_t *source)
{
    char words[WORDS_BYTES] = "", six[WORDS_BYTES / 2] = "";
    size_t used = family_words(source, "ipv4", "ipv4_now", words, sizeof(words) / 3);
    (void)family_words(source, "ipv6", "ipv6_now", six, sizeof(six));
    snprintf(words + used, sizeof(words) - used, "%s%s%sehlo %s", used > 0 ? ", " : "", six,
             *six != '\0' ? ", " : "", cli_text(source, "ehlo"));
    cli_line("source", words);
}

/* ---- throttle ---- */

json_t *explain_throttle(const struct config *config, const struct route *route, const char *key)
{
    static const char *const numbers[] = { "active", "deferred", "held" };
    static const char *const texts[] = { "binds", "error" };
    char path[PATH_BYTES] = "/v1/queue/top";
    json_t *object = json_object(), *answer = NULL;
    unsigned limit =
        route->connections_max != 0 ? route->connections_max : config->delivery.connections_max;
    if (begin(config, object)) {
        client_path_add(path, sizeof(path), "destination", key);
        answer = client_ask_json(config->admin.socket, path);
        if (answer == NULL)
            not_known(object);
    }
    const json_t *row = json_array_get(json_object_get(answer, "destinations"), 0);
    const json_t *site = json_object_get(answer, "site");
    const bool used = number_of(site, "limit") > 0;
    json_object_set_new(object, "destination", cli_string(key));
    json_object_set_new(object, "connections", json_integer(number_of(site, "connections")));
    json_object_set_new(object, "limit", json_integer(used ? number_of(site, "limit") : limit));
    json_object_set_new(object, "rate",
                        json_integer(used ? number_of(site, "rate") : route->rate_max));
    json_object_set_new(object, "waiting", json_integer(number_of(row, "ready")));
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
        json_object_set_new(object, numbers[i], json_integer(number_of(row, numbers[i])));
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        json_object_set_new(object, texts[i], cli_string(cli_text(row, texts[i])));
    json_object_set_new(object, "bind_why", cli_string(cli_text(row, "why")));
    json_decref(answer);
    return object;
}

void explain_throttle_print(const json_t *throttle)
{
    char words[WORDS_BYTES], rate[64] = "";
    if (number_of(throttle, "rate") > 0)
        snprintf(rate, sizeof(rate), ", %lld messages a minute",
                 (long long)number_of(throttle, "rate"));
    if (!json_is_true(json_object_get(throttle, "known"))) {
        snprintf(words, sizeof(words), "%lld connections at most%s; in use: not known, %s",
                 (long long)number_of(throttle, "limit"), rate, cli_text(throttle, "why"));
        cli_line("throttle", words);
        return;
    }
    const json_int_t later = number_of(throttle, "deferred"), held = number_of(throttle, "held");
    int size = snprintf(
        words, sizeof(words), "%lld of %lld connections%s, %lld messages waiting before this one",
        (long long)number_of(throttle, "connections"), (long long)number_of(throttle, "limit"),
        rate, (long long)number_of(throttle, "waiting"));
    if (later + held > 0)
        size += snprintf(words + size, sizeof(words) - (size_t)size, "; %lld deferred, %lld held",
                         (long long)later, (long long)held);
    if (*cli_text(throttle, "bind_why") != '\0')
        snprintf(words + size, sizeof(words) - (size_t)size, "; %s: %s",
                 cli_text(throttle, "binds"), cli_text(throttle, "bind_why"));
    cli_line("throttle", words);
    cli_line("last error", cli_text(throttle, "error"));
}
