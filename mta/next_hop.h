/*
 * next_hop.h - a destination's connections: where it is, who is connected, what they are doing
 *
 * Shared by deliver.c (next hops and their connections), attempt.c (one unit on its way),
 * hop_targets.c (its addresses), hop_lease.c (limits that all shards keep together), hop_own.c
 * (what fails for it alone), hop_aside.c (who waits without being one), hop_share.c
 * (who gets the shard's connections), link_share.c (a connection goes on for another one),
 * link_policy.c (what a host must show, and what is said when it does not),
 * link_tls.c (how it is asked), link_floor.c (may it have mail, by what it has been capable of),
 * link_tlsrpt.c (what reports about TLS say of it) and link_count.c (what their connector did).
 */
#ifndef RINGPOST_MTA_NEXT_HOP_H
#define RINGPOST_MTA_NEXT_HOP_H

#include "core/log.h"
#include "mta/config.h"
#include "mta/deliver.h"
#include "mta/dane_lookup.h"
#include "mta/floor_watch.h"
#include "mta/host_policy.h"
#include "mta/lease_shard.h"
#include "mta/sts_watch.h"
#include "queue/bounce.h"
#include "queue/bounce_look.h"

enum {
    HOP_NAMES_BYTES = 4'096,
    ATTEMPT_RECIPIENTS_SMALL = 8,
    ATTEMPT_TEXTS_SMALL = 2'048,
    ATTEMPT_WARNINGS_MAX = 64, /* attempts at a time that only tell of a delay */
    ATTEMPT_LARGE = 64,        /* attempts with many recipients at a time, at most */
    ATTEMPT_ASIDES = 256,      /* without a connection: for expiry, failures, new ways */
};

struct hop_target {
    struct net_address address;
    const char *host;      /* in names, or NULL: the address stands for it */
    const char *canonical; /* likewise; at the end of its CNAMEs */
    uint32_t rank;         /* as in struct resolve_target */
    bool secure;
    bool mx_secure;
};

/* That a certificate may bear, unless the connector says which. */
struct hop_names {
    struct slice names[2];
    char below[PATTERN_TEXT_MAX + 3];
};

/* What a connection has of a lease. */
struct link_lease {
    struct lease *lease; /* NULL: nothing */
    bool probe;
    bool serves; /* it counts as one that works */
    bool leaves; /* it ends, for other shards are to have its slot */
    uint64_t since_ms;
};

struct next_hop {
    struct list node;
    struct deliver *deliver;
    struct destination *destination;
    struct generation *generation;
    const struct route *route; /* NULL: its connector is gone, units go elsewhere */
    enum tls_level floor; /* that recipients demand, where it is more than the route's; or NONE */
    bool floor_recorded;  /* and no rule does any more */
    struct resolve_request request;
    struct sts_watch sts;
    struct sts_facts sts_facts; /* of the target that is next */
    uint64_t sts_until_ms;      /* so long they may be taken for what the policy still says */
    struct list waiting;        /* of hop_share, while it has no connection and may have one */
    uint8_t waiting_rank;
    bool turn;        /* it was let go ahead, and has no connection yet */
    bool promised;    /* and looks for addresses: one is kept for it */
    struct list idle; /* links that are ready and have no message */
    struct list links;
    unsigned links_count;
    unsigned connecting;
    bool failed_otherwise; /* some host, in this round: not for want of TLS */
    enum route_wish wish;  /* of its messages */
    unsigned lacking;      /* targets without REQUIRETLS, of those tried since the first one */
    bool suspended;        /* by an operator */
    bool skipped;          /* by floor memory, since a host of it took mail last */
    unsigned client_flags; /* enum smtp_client_flags: what this next hop cannot do */
    unsigned targets_count;
    unsigned target_next;
    uint64_t targets_until_ms;
    uint64_t grow_ms;          /* no further connections before this */
    uint64_t pause_ms;         /* none at all: it is crowded */
    struct lease_key site_key; /* hop_lease.c: whose limits it keeps */
    bool site_known;
    bool told;             /* its back-off is the site's */
    bool its_turn;         /* it takes a slot as soon as it knows where to */
    struct lease *site;    /* that it waits in (its own, hop_own.c, at times), or NULL */
    struct link_lease own; /* it looks whether its destination works again */
    struct list waits;
    uint32_t wants_slots, wants_tokens;
    uint32_t names_size;
    struct hop_target targets[RESOLVE_TARGETS_MAX];
    char names[HOP_NAMES_BYTES];
    char domain[PATTERN_TEXT_MAX]; /* whose MX it is; "" when the route has hosts */
};

/* One connection of a next hop. */
struct link {
    struct list node; /* of the next hop's links */
    struct list idle;
    struct list resting;      /* of hop_share, while it is idle */
    uint64_t ready_ms;        /* since when it takes mail */
    bool yields;              /* it ends, so that another next hop has one */
    struct list site_resting; /* of the lease's, likewise */
    struct link_lease lease;
    struct next_hop *hop;
    struct smtp_client *client;
    struct generation *generation; /* its EHLO name lives there */
    struct attempt *attempt;
    struct smtp_client_timeouts timeouts;
    struct host_policy policy;
    struct tls_client_policy tls; /* that follows from it */
    struct sts_facts sts;         /* that went into it */
    unsigned target; /* which of the next hop's it was, and a copy: they may be others now */
    struct hop_target to;
    struct dane_lookup dane;
    struct slice dane_names[2]; /* of a certificate that is anchored by usage 2 */
    enum tls_step step; /* what it offered; TLS_STEPS: it goes in clear, after handshakes failed */
    uint8_t host_key[TLS_CLIENT_HOST_BYTES];
    struct floor_watch floor;
    struct connector_out_row *row; /* where it is counted; NULL: nowhere */
    enum connector_tls tls_kind;   /* as it was when it became ready */
    bool is_hybrid;
    bool forced; /* TLS was demanded */
    struct hop_names names;
    bool ready;                      /* the client may take a transaction */
    bool was_ready;                  /* for this next hop */
    bool passed;                     /* it was ready for another one before */
    bool is_reported;                /* it counts as a session in a report about TLS */
    enum outbound_token reply_means; /* what a reply of its host may be about; or NONE */
    struct smtp_enhanced answered;   /* its host gave no way to mail, by this; klass 0: not so */
    char host[256];
};

enum attempt_purpose {
    ATTEMPT_SEND,
    ATTEMPT_FAIL, /* the destination refuses all: null MX, no such domain */
    ATTEMPT_EXPIRE,
    ATTEMPT_MOVE,    /* only to find its new way */
    ATTEMPT_REROUTE, /* likewise, if it has another one */
    ATTEMPT_RETURN,  /* an operator has it bounce; */
    ATTEMPT_DISCARD, /* or vanish */
    ATTEMPT_WARN,    /* none: its sender is told that it waits */
};

/* An operator's: told when the attempt has ended, however. It lives until then. */
struct attempt_word {
    void (*ended)(struct attempt_word *word, bool done);
    bool was_held; /* so it is again, when it could not be done */
    bool done;
    bool lacks; /* REROUTE: there was no room where some of it should go */
};

struct attempt_failure {
    uint16_t code;
    struct smtp_enhanced enhanced;
    const char *why;           /* copied */
    struct attempt_word *word; /* REROUTE, RETURN, DISCARD */
};

/* Starts an attempt with an ACTIVE unit. link: for SEND. False: no attempt can be had now, the unit
 * is READY or DEFERRED again. */
bool attempt_start(struct deliver *deliver, struct unit *unit, enum attempt_purpose purpose,
                   struct link *link, const struct attempt_failure *failure);
/* Another WARN may be begun. */
bool attempt_may_warn(const struct deliver *deliver);
/* It fails its checksum, and is held. */
void deliver_log_damage(const struct deliver *deliver, const char *id);
/* The client has finished the transaction of link->attempt. */
void attempt_done(struct attempt *attempt, struct smtp_transaction *transaction);
/* An attempt of this link has ended: the link may take another unit. */
void link_free_again(struct link *link);

/* A client is ready, or floor memory has answered: the link takes mail, unless the memory says no.
 */
void link_open(struct link *link);

/* Whose host it is: the domain whose MX leads to it, or (*named) the host itself, where the
 * configuration names it. "": nobody's. host NULL: an address. */
const char *hop_subject(const struct next_hop *hop, const char *host, bool *named);
/* Names that the certificate of this host may bear where the connector does not say; how many. */
unsigned hop_names(const struct next_hop *hop, const char *host, struct hop_names *names);
/* link_policy.c: asks DNS for what must be known before connecting. True: there is nothing to ask,
 * or it is known; else link_known is called. */
bool link_ask(struct link *link);
void link_known(struct link *link);
/* What a host must show, from what is known of it. */
struct host_policy hop_policy(const struct next_hop *hop, const struct sts_facts *sts,
                              enum host_dane dane, bool mx_secure);
/* What this host must show, from all that is known now. */
void link_policy(struct link *link);
/* Its client is ready, and offers what the messages insist on (RFC 8689). */
bool link_grants_wish(const struct link *link);
/* Why a connection has ended that mail could not go by. */
enum outbound_token link_token(const struct smtp_client_end *end);
/* Of the last failure of all its hosts: for mail whose time is up. */
enum outbound_token hop_token(const struct destination *destination);
/* What is said of that: while it is tried again, or when its time is up. Of what the hosts of a
 * destination were held to nothing is known any more then. */
struct smtp_enhanced hop_status(const struct deliver *deliver, enum outbound_token token,
                                bool over);
/* It was for want of the protection that is wanted: whoever learns of a change there looks for it.
 */
bool hop_waits_for_tls(const struct destination *destination);
/* The host, how the connection is protected, and by whose demand, as fields of a line. */
void link_log(const struct link *link, struct log_line *line);
/* The host is not given mail: counted, and logged. */
void link_refused(const struct link *link, enum outbound_token token, struct slice text);
/* The client is ready: what its host's replies may be about, by how the connection is protected. */
void link_reply_begin(struct link *link);
/* That this one is about it; NONE. */
enum outbound_token link_reply_token(const struct link *link, const struct smtp_result *result);
/* A host that demands TLS in a session in clear, and offered none: somebody on the way may have
 * taken the offer out, and a bounce would do his work. Such results become temporary. One that does
 * not take our certificate is told of, and its replies stay what they are. */
void link_judge_replies(struct link *link, struct smtp_transaction *transaction);
/* hop_share.c: it may begin one more connection. False: it waits for its turn (it is pumped then),
 * or has some already. */
bool hop_may_connect(struct next_hop *hop);
/* Something of the shard's is not to be had now: it is pumped again when its turn comes. */
void hop_wait(struct next_hop *hop);
void hop_wait_no_more(struct next_hop *hop);
/* Its look-up is over, or given up. */
void hop_promise_end(struct next_hop *hop);
/* A connection, or a look-up of addresses, is over. */
void hop_share_freed(struct deliver *deliver);
/* There is room for its connection, and none for its client: it waits, and nobody is asked soon. */
void hop_share_lacks(struct next_hop *hop);
void hop_share_init(struct deliver *deliver);
/* It counts among its next hop's links; it does not any more, and is about to be freed. */
void link_shares(struct link *link);
void link_shares_no_more(struct link *link);
/* From now on it is this next hop's. */
void link_changes_hop(struct link *link, struct next_hop *to);
/* It is without a message: who has it end for others is the shard, or its site's lease. */
void link_rests(struct link *link, bool rests);
/* One that is connected and without a message ends. */
void link_quit(struct link *link);
/* Others wait, and it had its share: it is to be ended instead of being given a message. */
bool link_must_yield(const struct link *link);
void link_yield(struct link *link);

/* hop_lease.c: its way is another one; its site is known by its MX hosts. */
void hop_site_unknown(struct next_hop *hop);
void hop_site_is(struct next_hop *hop, const struct resolve_site *site);
/* Those that wait are others, or want something else. */
void lease_wants_changed(struct lease_shard *leases, struct lease *lease);
/* What it waits in is its site's lease, and not the one that it has for itself. */
bool hop_waits_for_site(const struct next_hop *hop);
/* May a connection be begun? False: the hop is pumped again when it may be. wanted: how many could
 * be begun now. */
bool hop_take_slot(struct next_hop *hop, uint32_t wanted, struct link_lease *taken);
/* The same of this lease; the reference becomes taken's, or is given back. */
bool hop_take_of(struct next_hop *hop, struct lease *lease, uint32_t wanted,
                 struct link_lease *taken);
/* What its health means for a destination that waits in it. */
void hop_told(struct next_hop *hop, const struct lease *lease);
/* It waits at its end, so that it is remembered: with the probe, or when it works. */
void hop_waits_for_probe(struct next_hop *hop, struct lease *lease);
void hop_give_slot(struct next_hop *hop, struct link_lease *taken);
/* It has one connection less: with none left it waits for one, and not for a token alone. */
void hop_lost_link(struct next_hop *hop);
void hop_stops_waiting(struct next_hop *hop);
/* True: it is for others of its site now, or ends to make room for them, instead of being given a
 * message. */
bool link_leaves(struct link *link);
/* max-rate lets a message go by it. False: the hop is pumped again when it does. */
bool link_has_token(struct link *link);
void link_sends(struct link *link);
/* Its next hop has it from now on. It came about. No host of the site could be connected to. */
void link_has_its_turn(struct link *link);
void link_works(struct link *link);
void hop_site_fails(struct next_hop *hop, const struct link *link, enum outbound_token token,
                    struct slice why);
/* For lease_shard_init; owner is the struct lease_shard. */
void hop_lease_changed(void *owner, struct lease *lease);

/* link_share.c: a connection of its site that rests is its own now. False: none can be. */
bool hop_takes_over(struct next_hop *hop);
/* It is that one's now, if it may be. */
bool link_passes(struct link *link, struct next_hop *to);

/* hop_limits.c: a host was given no mail; all of them; one takes it: by which age mail expires. */
void hop_host_failed(struct next_hop *hop, enum outbound_token token);
void hop_all_failed(struct next_hop *hop, enum outbound_token token);
void hop_works(struct next_hop *hop);
/* hop_sts.c: what the policy of MTA-STS says of the target that is next is in sts_facts; false: it
 * is being asked for, and the hop is pumped again. */
bool hop_sts_known(struct next_hop *hop);
/* The same of any target, while the next one is known or no question is under way. */
bool hop_sts_ask(struct next_hop *hop, const struct hop_target *to, struct sts_facts *facts);
/* What a host in testing would have been refused for is told. The connection is as it will be. */
void link_sts_tell(const struct link *link);
/* deliver.c: the one that it has, or gets; NULL: none is to be had now. If *pushes is not 0, one
 * that waits behind many for its site may step aside for it, which takes one off. */
struct next_hop *hop_of(struct deliver *deliver, struct destination *destination, uint32_t *pushes);
/* hop_aside.c: it is about to give way to another one: its destination waits in its lease. */
void hop_steps_aside(struct next_hop *hop);
/* The last one of its line, if that is long, and nothing is under way for that one; or NULL. */
struct next_hop *hop_last_in_line(const struct next_hop *hop);
void hop_line_init(struct deliver *deliver);
/* There is none for it: its turn comes when there is. Harmless when it waits aside already. */
void destination_lines_up(struct deliver *deliver, struct destination *destination);
/* It has a next hop again, or is not wanted any more. */
void destination_not_aside(struct destination *destination);
/* Some of those that wait get a next hop, if the lease lets them. */
void lease_calls_back(struct lease_shard *leases, struct lease *lease);
/* The line is short enough for some of them. */
bool lease_has_room(const struct lease *lease);

/* hop_own.c: the destination fails by itself, not with its site: for all shards. May it be looked
 * at, after that? False: the hop is pumped again when it may be. It was: that is over. */
void hop_fail(struct next_hop *hop, enum outbound_token token, struct slice why);
bool hop_may_look(struct next_hop *hop);
void hop_looked(struct next_hop *hop, bool works);
/* deliver.c: backs off as a whole. Bounces all that is ready. */
void hop_backs_off(struct next_hop *hop, enum outbound_token token, struct slice why);
void hop_refuse_all(struct next_hop *hop, const struct attempt_failure *failure);
/* hop_targets.c: asks for its addresses; it is pumped when they are there. False: it cannot be
 * asked now. */
bool hop_resolve(struct next_hop *hop);
/* hop_binds.c: what its ready mail waits for. */
enum hop_bind {
    HOP_BINDS_NOTHING, /* none is ready */
    HOP_BINDS_PARKED,  /* the configuration has no way there */
    HOP_BINDS_BLOCKED, /* its connector is, by an operator */
    HOP_BINDS_BACK_OFF,
    HOP_BINDS_PROBE, /* another destination or shard looks whether the site works again */
    HOP_BINDS_DNS,
    HOP_BINDS_POLICY,      /* MTA-STS is being asked for */
    HOP_BINDS_CONNECTING,  /* the first connection is under way */
    HOP_BINDS_RATE,        /* our max-rate */
    HOP_BINDS_CONNECTIONS, /* our limit of connections */
    HOP_BINDS_THEIRS,      /* they take no more connections */
    HOP_BINDS_WORK,        /* its connections are at work */
    HOP_BINDS
};
enum { HOP_BINDS_WORDS_MAX = 128 };
const char *hop_bind_name(enum hop_bind bind);
/* Also in words for a person. From the destination's own shard. */
enum hop_bind hop_binds(const struct destination *destination,
                        char words[static HOP_BINDS_WORDS_MAX]);
/* To look for ways again, from the loop. */
void hop_pump(struct next_hop *hop);

/* link_tls.c: what its session will be, in tls. */
void link_tls(struct link *link, const struct hop_target *to, struct smtp_client_tls *tls);
/* TLS came about: what worked comes first next time. */
void link_learn(const struct link *link);
/* The handshake failed. True: another try, with less, is worth it, now. */
bool link_step_down(struct link *link, const struct smtp_client_end *end);

/* link_floor.c: begins to ask, before it connects. */
void link_floor_watch(struct link *link, const struct hop_target *to);
/* REFUSE: why, and the client is about to quit. WAIT: link_open is called again. */
enum floor_judgement link_floor_judge(struct link *link, char why[static FLOOR_WHY_MAX]);
/* The connection has ended for want of STARTTLS: remembered too. */
void link_floor_missed(struct link *link);

/* link_tlsrpt.c: counted for reports about TLS: the client is ready; has ended; there will be none,
 * by the policy. */
void link_tlsrpt_ready(struct link *link);
void link_tlsrpt_gone(const struct link *link, const struct smtp_client *client,
                      const struct smtp_client_end *end);
void link_tlsrpt_unused(const struct link *link);

/* link_count.c: what became of a recipient; a connection begins; is ready; is refused; an
 * attempt has ended. */
void deliver_count(struct deliver *deliver, const struct unit *unit, const struct outcome *outcome);
/* An operator has marked the connector, or suspended it or the destination: nothing is sent, mail
 * waits. */
bool hop_is_blocked(const struct next_hop *hop);
void link_count_begun(struct link *link, enum tls_level level);
void link_count_ready(struct link *link);
void link_count_refused(const struct link *link, enum outbound_token token);
void link_count_message(struct link *link, const struct outcome *outcomes, uint32_t count,
                        const struct envelope *envelope);

size_t attempt_bytes(void);
size_t attempt_large_bytes(void);

#endif
