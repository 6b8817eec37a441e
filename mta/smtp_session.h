/*
 * smtp_session.h - one inbound session, as its state table and its service see it
 */
#ifndef RINGPOST_MTA_SMTP_SESSION_H
#define RINGPOST_MTA_SMTP_SESSION_H

#include "mta/config.h"
#include "mta/smtp_server.h"

struct smtp_server {
    struct list node;
    struct smtp_service *service;
    struct connection connection;
    struct task runnable;
    struct timer timer;
    struct generation *generation;
    const struct config_listener *listener;
    struct smtp_incoming *transaction;
    struct net_address peer; /* the client, as limits and policy see it */
    struct net_address local;
    struct net_address counted; /* the address whose limits it fills */
    uint64_t deadline_ms;       /* of what the session waits for; 0: none */
    uint64_t connection_deadline_ms;
    uint64_t linger_bytes;
    uint32_t commands;
    uint32_t bad_commands;
    uint32_t messages;
    uint8_t state;
    uint8_t refusal; /* enum smtp_reply_id; SMTP_REPLIES: it is served */
    bool esmtp;
    bool greeted;      /* EHLO or HELO was said */
    bool data_refused; /* what follows may be content: then close */
    bool fired;
    bool drain;
    bool lingering;
    bool shut; /* FIN is sent, the rest of the client's talk is dropped */
    uint16_t helo_size;
    uint8_t helo[SMTP_HELO_BYTES];
};

#endif
