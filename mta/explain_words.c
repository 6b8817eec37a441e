/*
 * explain_words.c - reasons in words: patterns, names, networks, floors and rights
 *
 * Only what the decisions have found already is put into words here; nothing is decided.
 */
#include "mta/explain_words.h"

#include <stdio.h>
#include <string.h>

#include "mta/cli.h"
#include "mta/networks.h"
#include "tls/tls_server.h"

enum { V4_BITS = 96 };

static void prefix_text(const struct net_prefix *prefix, char *out, size_t room)
{
    struct net_address address = { .port = 0 };
    char text[NET_TEXT_MAX];
    memcpy(address.octets, prefix->octets, sizeof(address.octets));
    net_text(&address, false, text);
    const bool v4 = net_is_v4(&address) && prefix->bits >= V4_BITS;
    snprintf(out, room, "%s/%u", text, v4 ? prefix->bits - (unsigned)V4_BITS : prefix->bits);
}

static size_t add(char out[static EXPLAIN_WORDS_BYTES], size_t used, const char *format, ...)
    PRINTF_LIKE(3, 4);
static size_t add(char out[static EXPLAIN_WORDS_BYTES], size_t used, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(out + used, EXPLAIN_WORDS_BYTES - used, format, arguments);
    va_end(arguments);
    return size < 0 ? used : MIN(used + (size_t)size, (size_t)EXPLAIN_WORDS_BYTES - 1);
}

/* ---- inbound ---- */

static size_t cover_words(const struct inbound *c, struct slice sender,
                          char out[static EXPLAIN_WORDS_BYTES])
{
    struct pattern_match match;
    size_t used = 0;
    if (sender.size == 0)
        used = add(out, used, "covers the null sender");
    else if (c->senders != NULL && pattern_set_find(c->senders, sender, &match))
        used = add(out, used, "covers by %s%.*s", match.kind == PATTERN_WILDCARD ? "*." : "",
                   match.kind == PATTERN_ALL ? 1 : (int)match.text.size,
                   match.kind == PATTERN_ALL ? "*" : (const char *)match.text.data);
    return used > 0 && c->restricts ? add(out, used, ", restricting") : used;
}

static size_t identity_words(const struct inbound *c, const struct inbound_session *session,
                             const struct inbound_identity *identity, size_t used,
                             char out[static EXPLAIN_WORDS_BYTES])
{
    const char *between = used > 0 ? "; " : "";
    if (identity->by_certificate)
        return identity->name.size > 0
                   ? add(out, used, "%sname %.*s", between, (int)identity->name.size,
                         (const char *)identity->name.data)
                   : add(out, used, "%sits key is pinned", between);
    const struct net_prefix *prefix =
        identity->by_address ? networks_find(c->addresses, session->peer, NULL) : NULL;
    if (prefix == NULL)
        return used;
    char text[NET_TEXT_MAX + 8];
    prefix_text(prefix, text, sizeof(text));
    return add(out, used, "%snetwork %s", between, text);
}

void explain_inbound_words(const struct inbound *c, const struct inbound_session *session,
                           struct slice sender, const struct inbound_opinion *opinion,
                           char out[static EXPLAIN_WORDS_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    if (opinion->reason == INBOUND_IS_OFF || opinion->reason == INBOUND_NOT_COVERING ||
        opinion->reason == INBOUND_NOT_SENDER)
        return;
    if (c->type == CONNECTOR_PARTNER)
        used = cover_words(c, sender, out);
    (void)identity_words(c, session, &opinion->identity, used, out);
}

json_t *explain_floor(const struct inbound *c, enum connector_token token,
                      const struct inbound_session *session)
{
    const bool met = token != TOKEN_TLS_REQUIRED && token != TOKEN_TLS_TOO_WEAK;
    const char *have = session->tls_version == 0                ? "none"
                       : session->tls_version == TLS_VERSION_13 ? "1.3"
                                                                : "1.2";
    const bool demands = c != NULL && (c->needs_tls || !met);
    return json_pack("{s:o, s:s, s:s, s:s, s:b, s:s, s:b}", "connector",
                     c == NULL ? json_null() : cli_string(c->name), "tls",
                     demands ? "required" : "optional", "tls_min",
                     c != NULL && c->tls_min == TLS_VERSION_13 ? "1.3" : "1.2", "min_group",
                     c != NULL && c->needs_hybrid ? "hybrid" : "any", "met", (int)met, "have", have,
                     "have_hybrid", (int)session->is_hybrid);
}

const char *explain_relay(const struct config *config, const struct inbound_rcpt *rcpt,
                          struct slice recipient)
{
    if (recipient.size == 0 || outbound_is_own(&config->outbound, recipient))
        return "own";
    if (rcpt->token == TOKEN_RELAY_DENIED)
        return "none";
    return rcpt->kind == INBOUND_SUBMISSION ? "submission"
           : rcpt->kind == INBOUND_OWN      ? "connector"
                                            : "none";
}

/* ---- outbound ---- */

void explain_pattern(const struct outbound_set *set, const struct outbound_choice *choice,
                     struct slice recipient, char out[static EXPLAIN_WORDS_BYTES])
{
    const struct outbound *c = choice->connector;
    struct pattern_match match = { .kind = PATTERN_NONE };
    out[0] = '\0';
    if (c == NULL)
        return;
    if (choice->rule != NULL) {
        (void)add(out, 0, "rule %s", choice->rule->name);
        return;
    }
    if (c->domains.patterns != NULL)
        (void)pattern_set_find(c->domains.patterns, recipient, &match);
    const bool own = c->domains.own && outbound_is_own(set, recipient);
    switch (match.kind) {
    case PATTERN_EXACT:
        (void)add(out, 0, "%.*s", (int)match.text.size, (const char *)match.text.data);
        return;
    case PATTERN_WILDCARD:
        (void)add(out, 0, "*.%.*s", (int)match.text.size, (const char *)match.text.data);
        return;
    case PATTERN_ALL:
    case PATTERN_NONE: break;
    }
    (void)add(out, 0, "%s", own ? "all-own" : match.kind == PATTERN_ALL ? "*" : "all-mail");
}

/* ---- for people ---- */

void explain_floor_print(const json_t *floor)
{
    char words[EXPLAIN_WORDS_BYTES];
    const char *connector = cli_text(floor, "connector"), *have = cli_text(floor, "have");
    const bool any = strcmp(cli_text(floor, "min_group"), "any") == 0;
    const bool clear = strcmp(have, "none") == 0;
    if (*connector == '\0')
        return;
    snprintf(words, sizeof(words), "%s, %s%s (%s); %s: %s%s%s", cli_text(floor, "tls"),
             cli_text(floor, "tls_min"), any ? "" : ", hybrid", connector,
             json_is_true(json_object_get(floor, "met")) ? "met" : "NOT met",
             clear ? "plain text" : "TLS ", clear ? "" : have,
             json_is_true(json_object_get(floor, "have_hybrid")) ? ", hybrid" : "");
    cli_line("floor", words);
}

void explain_relay_print(const char *relay, const char *connector)
{
    char words[EXPLAIN_WORDS_BYTES];
    if (strcmp(relay, "own") == 0)
        snprintf(words, sizeof(words), "an own domain, no right to relay is needed");
    else if (strcmp(relay, "submission") == 0)
        snprintf(words, sizeof(words),
                 "relayed: the client may send anywhere (relay { networks })");
    else if (strcmp(relay, "connector") == 0)
        snprintf(words, sizeof(words), "relayed by the right of %s", connector);
    else
        snprintf(words, sizeof(words), "no own domain, and no right to relay");
    cli_line("rcpt", words);
}
