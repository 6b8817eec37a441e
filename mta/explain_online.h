/*
 * explain_online.h - `ringpost explain --online`: what DNS and policy hosts say now about a way out
 */
#ifndef RINGPOST_MTA_EXPLAIN_ONLINE_H
#define RINGPOST_MTA_EXPLAIN_ONLINE_H

#include <jansson.h>

#include "mta/config.h"

struct explain_way {
    const struct route *route;
    const char *domain;   /* of the recipient */
    enum tls_level floor; /* that is demanded of the recipient; less than the route's: none */
    bool requiretls;
    bool null_sender;
};

/* {"hosts": [..], "why", "mta-sts": {..}, "source": {..}, "throttle": {..}}, "memory" in each host;
 * NULL: said why on standard error. */
json_t *explain_online(const struct config *config, const struct explain_way *way);
/* For people. NULL is nothing. */
void explain_online_print(const json_t *online);

#endif
