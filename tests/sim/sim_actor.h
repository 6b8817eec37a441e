/*
 * sim_actor.h - simulated clients and next hops, and the ledger in which they write what happened
 *
 * Independent of mta/ and queue/: on core/ring.h only, so that both sides can be held against each
 * other. Each message has an id, recipients "r<k>.m<id>@<domain>", sender "s.m<id>@<sender
 * domain>", and content that follows from ledger and id, so that a next hop knows every octet it
 * must get (behind the trace fields that servers put in front). Bounces are recognised by their
 * recipient, the message's sender, and read for "Final-Recipient:" and "Action:" (RFC 3464).
 *
 *   message: unsent --end of data left the client--> unknown --reply--> acknowledged | refused
 *              '--connection cut inside the content--> cut (nobody may ever get it)
 *
 * The rings of actors belong to machines of their own, without faults, run by sim_ring_runs (done
 * here). A ring may serve any number of actors. Actors live until sim_ledger_free.
 */
#ifndef RINGPOST_TESTS_SIM_ACTOR_H
#define RINGPOST_TESTS_SIM_ACTOR_H

#include "tests/sim/sim.h"

enum { SIM_RECIPIENTS_MAX = 8, SIM_REPLY_MAX = 128, SIM_DOMAINS_MAX = 4'096 };

enum sim_verdict {
    SIM_UNSENT,       /* no end of data was sent, and nothing will come of it */
    SIM_CUT,          /* content was begun, its end never sent: must not be delivered */
    SIM_UNKNOWN,      /* the end was sent (or may have been); no reply came */
    SIM_REFUSED,      /* 4xx or 5xx, to the content or the envelope: must not be delivered */
    SIM_ACKNOWLEDGED, /* 250: each accepted recipient must get it, or the sender a bounce */
};

struct sim_recipient {
    bool accepted;      /* 250 to RCPT */
    uint32_t delivered; /* how often a next hop had it whole and said 250 */
    uint32_t unsure;    /* had it whole, and the connection ended before the reply was out */
    uint32_t deferred;  /* 4xx by a next hop, to RCPT or content */
    uint32_t refused;   /* 5xx likewise */
    uint32_t bounced;   /* named in a DSN as failed */
    uint32_t delayed;   /* named in a DSN as delayed */
};

struct sim_message {
    uint32_t id;
    enum sim_verdict verdict;
    int code;                  /* of the reply to the content */
    char reply[SIM_REPLY_MAX]; /* its text, first line (the queue id is in it) */
    unsigned recipients_count;
    struct sim_recipient recipients[SIM_RECIPIENTS_MAX];
    uint16_t domains[SIM_RECIPIENTS_MAX];
    uint32_t content_bytes;
    uint32_t damaged; /* copies that a next hop got with other content */
    uint64_t decided_ms;
    bool discarded; /* an operator said so: its recipients may get it, a bounce, or nothing */
    bool returned;  /* likewise: or a bounce that nobody has refused them for */
    bool protected; /* begun while mail for the protected domain was, and so since */
    bool exposed;   /* a next hop had it in clear meanwhile */
};

struct sim_ledger {
    struct sim *sim;
    uint64_t seed;
    struct sim_message *messages; /* id 0 is unused */
    uint32_t count, size;
    uint32_t strangers; /* messages at a next hop that nobody here sent */
    int protected;      /* index of a domain whose mail must not go in clear; -1: none */
    bool protects;      /* mail that is begun now; */
    bool unprotected;   /* some has been let go: a clock that goes back may take new mail for it */
    uint32_t exposed;   /* acknowledged messages that went in clear in spite of that */
    const char *domains[SIM_DOMAINS_MAX];
    unsigned domains_count;
    struct sim_actor *actors;
    struct sim_actor *clients; /* NULL or more */
};

/* Mail for this domain must not go in clear, from now on. */
void sim_ledger_protect(struct sim_ledger *ledger, unsigned domain);
/* What was begun up to now may go in clear. */
void sim_ledger_unprotect(struct sim_ledger *ledger);

/* Sums over the ledger; per recipient unless said otherwise. */
struct sim_balance {
    uint32_t sent;         /* messages of any verdict but unsent */
    uint32_t acknowledged; /* messages */
    uint32_t expected;     /* accepted recipients of acknowledged messages */
    uint32_t delivered;    /* of expected: at least once */
    uint32_t bounced;      /* of expected: not delivered, bounced */
    uint32_t missing;      /* of expected: neither: lost, or still queued */
    uint32_t duplicates;   /* deliveries beyond the first, of anybody */
    uint32_t false_ones;   /* deliveries of cut or 5xx messages, or to refused recipients */
    uint32_t revived;      /* deliveries of messages refused by 4xx, see seed.c */
    uint32_t damaged;      /* copies */
    uint32_t first_missing, first_false; /* ids; 0: none */
};

/* domains: where recipients are, NULL-terminated; kept. */
struct sim_ledger *sim_ledger_new(struct sim *sim, const char *const *domains);
void sim_ledger_free(struct sim_ledger *ledger);
struct sim_balance sim_ledger_balance(const struct sim_ledger *ledger);
/* What is wrong whatever happened, in words, one call for each. settled: the queue is empty, so
 * that what is missing is lost. */
void sim_ledger_judge(const struct sim_ledger *ledger, const struct sim_balance *balance,
                      bool settled, void (*wrong)(void *argument, const char *words),
                      void *argument);
/* One line on standard error per recipient that is missing, false or damaged; at most max. */
void sim_ledger_print(const struct sim_ledger *ledger, unsigned max);
/* The octets of a message, to be freed by the caller. */
uint8_t *sim_content(const struct sim_ledger *ledger, uint32_t id, uint32_t *bytes);

/* ---- clients ---- */

struct sim_client_options {
    struct net_address to;
    uint32_t messages;         /* in all; then it is done */
    unsigned connections;      /* at a time */
    unsigned per_connection;   /* messages, at most; by seed */
    unsigned recipients_max;   /* 1 to SIM_RECIPIENTS_MAX */
    uint32_t content_max;      /* bytes */
    uint64_t pause_max_ms;     /* between messages and connections */
    uint32_t reply_timeout_ms; /* then it gives up on the connection: unknown */
    const char *sender_domain;
    /* Parts per million. */
    uint32_t pipelined_ppm, bdat_ppm; /* of messages, where offered */
    uint32_t leave_ppm, reset_ppm;    /* of messages: closes, resets somewhere in the middle */
    uint32_t stall_ppm;               /* of messages: a pause of minutes in the middle */
    uint32_t early_ppm;               /* of messages: closes without waiting for the verdict */
};

struct sim_client_options sim_client_plain(const struct net_address *to, uint32_t messages);
struct sim_client_options sim_client_wild(const struct net_address *to, uint32_t messages);
struct sim_actor *sim_client(struct sim_ledger *ledger, struct ring *ring,
                             const struct sim_client_options *options);
/* All its messages have a verdict, or it was stopped, and its connections are closed. */
bool sim_client_done(const struct sim_actor *client);
/* No new messages. */
void sim_client_stop(struct sim_actor *client);
/* So many new ones at most. */
void sim_client_more(struct sim_actor *client, uint32_t messages);
/* All clients of the ledger are done; for sim_run_until. */
bool sim_clients_done(void *ledger);

/* ---- next hops ---- */

struct sim_hop_options {
    struct net_address address;
    bool lmtp; /* LHLO, a reply for each recipient (RFC 2033) */
    bool pipelining, chunking;
    uint64_t delay_max_ms; /* before a reply */
    /* Parts per million. */
    uint32_t busy_ppm;                   /* of connections: 421 or 554 in place of a greeting */
    uint32_t rcpt_4xx_ppm, rcpt_5xx_ppm; /* of recipients */
    uint32_t data_4xx_ppm, data_5xx_ppm; /* of contents; of recipients in LMTP */
    uint32_t leave_ppm, reset_ppm;       /* of commands: instead of a reply */
    uint32_t half_ppm;                   /* of replies: half of it, then it leaves */
    uint32_t mute_ppm;                   /* of commands: no reply ever, connection stays */
    uint32_t after_ppm;                  /* of 250s to content: closes or resets right behind it */
    uint32_t rate;                       /* messages a minute that sim_hop_ahead counts by */
};

struct sim_hop_options sim_hop_plain(const struct net_address *address);
struct sim_hop_options sim_hop_wild(const struct net_address *address);
struct sim_actor *sim_hop(struct sim_ledger *ledger, struct ring *ring,
                          const struct sim_hop_options *options);
/* May be changed during the run: from a wild one to a plain one, so that queues run empty. */
struct sim_hop_options *sim_hop_options(struct sim_actor *hop);
/* So far. */
uint32_t sim_hop_connections(const struct sim_actor *hop);
/* The most messages that left for it beyond what options.rate makes, in any span of time. */
double sim_hop_ahead(struct sim_actor *hop);

/* A ring fit for actors, run by sim_run. */
struct ring *sim_actor_ring(struct sim *sim, unsigned machine);

#endif
