/*
 * smtp_client_world.h - an outbound session and a next hop that follows a script
 *
 * Both run in the simulator: streams are cut and glued anywhere, by seed, and each case runs with
 * several seeds. The script waits for words of the client, lets two seconds pass, and says its
 * line; SAY demands that the client was silent in these two seconds, LATE does not.
 */
#ifndef RINGPOST_TESTS_SMTP_CLIENT_WORLD_H
#define RINGPOST_TESTS_SMTP_CLIENT_WORLD_H

#include <criterion/criterion.h>

#include "mta/smtp_client.h"
#include "tests/sim/sim.h"

enum {
    GOT_MAX = 4 << 20,
    RECIPIENTS = 400,
    BODY_SLICES = 64,
    SEEDS = 6,
    TRANSACTIONS = 8,
    DUES = 64
};

enum then { GO_ON, CLOSE, RESET };

struct line {
    const char *wait; /* in what the client says, behind the last one; "": at once */
    const char *say;  /* NULL: nothing, ever */
    bool alone;
    enum then then;
};

struct peer;
struct due {
    struct peer *peer;
    uint64_t turn;
};

struct peer {
    struct sim *sim;
    struct ring *ring;
    struct op accept, recv, send;
    struct ring_vector vector;
    int socket;
    int raws[4];
    unsigned raws_count, connections, greeted;
    const struct line *lines;
    unsigned at;
    bool due; /* a line is to be said soon */
    bool leaving;
    bool chaos;          /* no script: whatever comes to its mind, by seed */
    bool in_data;        /* chaos: content is due, up to its dot */
    size_t content_left; /* likewise, of a chunk */
    uint64_t pause_ns;   /* before a line */
    uint64_t turn;       /* of the connection, so that a late line is not said to the next one */
    struct due dues[DUES];
    unsigned dues_next;
    uint8_t *got;
    size_t got_size, got_seen;
};

struct body {
    struct slice slices[BODY_SLICES];
    unsigned count, next;
    unsigned stall_at; /* before this one: -EAGAIN, until it is woken; 0: never */
    bool stalled;
    unsigned fail_at; /* at this one: -EIO; 0: never */
    bool lent;
    uint64_t size;
};

struct outcome {
    bool done;
    struct smtp_transaction transaction;
    struct smtp_recipient recipients[RECIPIENTS];
    uint8_t texts[4096];
    struct body body;
};

struct world {
    struct sim *sim;
    struct shard shard;
    struct connection_pools connections;
    struct smtp_clients clients;
    struct smtp_client_timeouts timeouts;
    struct smtp_client_target target;
    struct smtp_client *client;
    struct peer peer;
    struct outcome outcomes[TRANSACTIONS];
    unsigned outcomes_count, next;
    unsigned readies;
    bool quit_when_done; /* all transactions; the default */
    bool gone;
    struct smtp_client_end end;
    char end_text[SMTP_RESPONSE_TEXT_MAX + 1];
};

extern const struct smtp_client_callbacks world_callbacks;
const struct net_address *address(const char *text);
bool world_is_gone(void *argument);
extern unsigned world_flags; /* enum smtp_client_flags, of worlds to come */
struct world *world_new(uint64_t seed, const struct line *lines);
/* Faults on our machine, and a next hop that follows nothing. */
struct world *world_new_chaos(uint64_t seed);
/* Nothing may be held any more. */
void world_free(struct world *w);
/* A message from s@us.test to recipients, blank between them, with a body of one slice. */
struct outcome *world_mail(struct world *w, const char *recipients, struct slice content);
void body_add(struct outcome *o, struct slice slice);
/* Connects, sends all mail one after another, until the client is gone. */
void world_run(struct world *w);
void expect(const struct outcome *o, unsigned index, enum smtp_verdict verdict,
            enum smtp_stage stage, uint16_t code, const char *enhanced);
void expect_text(const struct outcome *o, unsigned index, const char *text);
/* All that the client said. */
void expect_got(const struct world *w, const char *said);
/* Lines of text, some beginning with dots; to be freed. */
uint8_t *big_body(size_t lines, size_t *size);

#define HELLO_ALL                                                                                  \
    "250-mx.test hello\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"   \
    "250-DSN\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES\r\n"
#define HELLO_PIPELINING "250-mx.test hello\r\n250 PIPELINING\r\n"
#define HELLO_BARE "250 mx.test hello\r\n"
#define SAY(wait, say)                                                                             \
    {                                                                                              \
        wait, say, true, GO_ON                                                                     \
    }
#define SAY_CLOSE(wait, say)                                                                       \
    {                                                                                              \
        wait, say, true, CLOSE                                                                     \
    }
#define SAY_RESET(wait, say)                                                                       \
    {                                                                                              \
        wait, say, true, RESET                                                                     \
    }
#define LATE(wait, say)                                                                            \
    {                                                                                              \
        wait, say, false, GO_ON                                                                    \
    }
#define LATE_CLOSE(wait, say)                                                                      \
    {                                                                                              \
        wait, say, false, CLOSE                                                                    \
    }
#define LATE_RESET(wait, say)                                                                      \
    {                                                                                              \
        wait, say, false, RESET                                                                    \
    }
#define GREETING                                                                                   \
    {                                                                                              \
        "", "220 mx.test ESMTP\r\n", true, GO_ON                                                   \
    }
#define EHLO(reply)                                                                                \
    {                                                                                              \
        "EHLO us.test\r\n", reply, true, GO_ON                                                     \
    }
#define BYE                                                                                        \
    {                                                                                              \
        "QUIT\r\n", "221 bye\r\n", true, CLOSE                                                     \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, NULL, false, GO_ON                                                                   \
    }
#define SCRIPT(name, ...) static const struct line name[] = { __VA_ARGS__, END }
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)

#define CONTENT "Subject: x\r\n\r\nbody\r\n"
#define A_B "a@x.test b@x.test"
#define MAIL "MAIL FROM:<s@us.test>"
#define RCPT_A "RCPT TO:<a@x.test>\r\n"
#define RCPT_B "RCPT TO:<b@x.test>\r\n"

#define FLIGHT MAIL " SIZE=20\r\n" RCPT_A RCPT_B "BDAT 20 LAST\r\n" CONTENT
#define FLIGHT_DATA MAIL "\r\n" RCPT_A RCPT_B "DATA\r\n"

#endif
