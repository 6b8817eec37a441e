/*
 * connector.h - what inbound and outbound connectors have in common
 *
 * A connector is a named policy. Inbound (mta/inbound.h) it says who a sending host is, what it
 * must fulfil and what it may do; outbound (mta/outbound.h) where mail for some recipients goes and
 * how well protected the way must be. Partner connectors take away, own connectors give.
 *
 * Connectors belong to a configuration generation, are read-only, and stand in it in the order of
 * (cost, name): of two that fit equally well the one with the lower index wins, whatever the order
 * in the file.
 */
#ifndef RINGPOST_MTA_CONNECTOR_H
#define RINGPOST_MTA_CONNECTOR_H

enum {
    CONNECTORS_MAX = 16'384, /* in one direction */
    CONNECTOR_NAME_MAX = 63, /* a title: letters, digits, '.', '_', '-' */
    CONNECTOR_COST = 10,     /* where none is given */
    CONNECTOR_COST_MAX = 1'000'000,
};

enum connector_direction { CONNECTOR_IN, CONNECTOR_OUT, CONNECTOR_DIRECTIONS };

enum connector_type {
    CONNECTOR_PARTNER, /* another organisation: it can only restrict */
    CONNECTOR_OWN,     /* our own servers elsewhere: it can grant rights */
};

enum connector_state {
    CONNECTOR_OFF,     /* as if it were not written; lint reads it */
    CONNECTOR_TEST,    /* evaluated and counted beside what happens; no effect */
    CONNECTOR_ENFORCE, /* full effect */
};

#endif
