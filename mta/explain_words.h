/*
 * explain_words.h - `ringpost explain`: by what a connector was found, what it demands, who may
 * relay
 */
#ifndef RINGPOST_MTA_EXPLAIN_WORDS_H
#define RINGPOST_MTA_EXPLAIN_WORDS_H

#include <jansson.h>

#include "mta/config.h"
#include "mta/inbound.h"
#include "mta/outbound.h"

enum { EXPLAIN_WORDS_BYTES = 512 };

/* "covers by *.bank.example, restricting; name mx.bank.example": whatever of it applies,
 * or nothing. sender: the domain of MAIL FROM. */
void explain_inbound_words(const struct inbound *connector, const struct inbound_session *session,
                           struct slice sender, const struct inbound_opinion *opinion,
                           char out[static EXPLAIN_WORDS_BYTES]);

/* {"connector", "tls", "tls_min", "min_group", "met", "have"}: what TLS is demanded of the session,
 * by whom, and what it has. connector NULL: nobody demands any. */
json_t *explain_floor(const struct inbound *connector, enum connector_token token,
                      const struct inbound_session *session);

/* "own" (no right is needed), "submission", "connector" (rights = { relay }) or "none". */
const char *explain_relay(const struct config *config, const struct inbound_rcpt *rcpt,
                          struct slice recipient);

/* By what a connector takes a recipient: "*.bank.example", "all-own", "all-mail", "rule NAME"; "":
 * the default route. */
void explain_pattern(const struct outbound_set *set, const struct outbound_choice *choice,
                     struct slice recipient, char out[static EXPLAIN_WORDS_BYTES]);

/* For people. */
void explain_floor_print(const json_t *floor);
void explain_relay_print(const char *relay, const char *connector);

#endif
