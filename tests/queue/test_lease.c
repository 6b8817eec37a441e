/*
 * test_lease.c - several holders and one owner, with messages between them that are as late as
 * chance wants
 *
 * Each holder has a user that opens connections and sends messages as next hops let it. Between
 * any two steps: no more slots are out than the limit, no more tokens were used than the rate made
 * and one bucket. At the end: who wanted something got it.
 */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "core/random.h"
#include "queue/lease.h"
#include "tests/core/fewer.h"

enum {
    HOLDERS_MAX = 6,
    LINKS_MAX = 32,
    POST_MAX = 512,
    MINUTE_MS = 60'000,
    BACK_OFF_MS = 30'000,
    FAULT = 7,
};

struct letter {
    uint64_t due_ms;
    union {
        struct lease_ask ask;
        struct lease_tell tell;
    };
};

/* One direction of one pair: order is kept. */
struct post {
    struct letter letters[POST_MAX];
    unsigned first, count;
    uint64_t last_ms;
};

struct user_link {
    bool open, serving, probe, leaving, failed;
    uint64_t until_ms;
};

struct user {
    struct world *w;
    struct lease_numbers numbers;
    struct lease_holder holder;
    struct lease *lease;
    struct lease_limits limits;
    struct post out, in;
    uint32_t backlog, sent;
    bool stopped;
    uint64_t waits_since_ms; /* 0: it does not wait */
    uint64_t longest_ms;
    uint64_t grow_ms; /* no more connections before */
    uint32_t changes;
    struct user_link links[LINKS_MAX];
};

struct world {
    struct random random;
    uint64_t now_ms;
    struct timers timers;
    struct lease_numbers numbers;
    struct lease_owner owner;
    unsigned holders;
    uint32_t delay_max_ms;
    uint32_t step_max_ms;
    uint32_t refuse_percent;   /* of messages: the way is full, another time */
    uint32_t work_max_ms;      /* a connection or a message takes */
    uint32_t connects, theirs; /* theirs: connections that the next hop takes; 0: any number */
    bool dead;
    uint32_t out_before;
    double level; /* of the bucket that the next hop counts by */
    uint64_t level_ms;
    struct user users[HOLDERS_MAX];
};

static const struct lease_key key = { { 11, 22 } };

static uint64_t draw(struct world *w, uint64_t below)
{
    return random_below(&w->random, below);
}

static void on_changed(void *owner, struct lease *lease)
{
    struct user *u = owner;
    (void)lease;
    u->changes++;
}

static struct world *world_new(uint64_t seed, unsigned holders, uint32_t slots, uint32_t rate)
{
    struct world *w = calloc(1, sizeof(*w));
    random_seed(&w->random, seed);
    w->now_ms = w->level_ms = 1'000'000;
    w->holders = holders;
    w->delay_max_ms = 20;
    w->step_max_ms = 10;
    w->work_max_ms = 200;
    timers_init(&w->timers, w->now_ms);
    cr_assert_eq(lease_owner_init(&w->owner, holders, 4, &w->timers, &w->now_ms, &w->numbers), 0);
    for (unsigned i = 0; i < holders; i++) {
        struct user *u = &w->users[i];
        u->w = w;
        u->limits = (struct lease_limits) { .generation = 1, .slots = slots, .rate = rate };
        cr_assert_eq(lease_holder_init(&u->holder, 4, &w->timers, &w->now_ms, &u->numbers), 0);
        u->holder.changed = on_changed;
        u->holder.owner = u;
    }
    return w;
}

static void world_free(struct world *w)
{
    for (unsigned i = 0; i < w->holders; i++)
        lease_holder_free(&w->users[i].holder);
    lease_owner_free(&w->owner);
    free(w);
}

/* ---- the way ---- */

static struct letter *post_put(struct world *w, struct post *post)
{
    if (post->count == POST_MAX || draw(w, 100) < w->refuse_percent)
        return NULL;
    struct letter *letter = &post->letters[(post->first + post->count++) % POST_MAX];
    post->last_ms = MAX(post->last_ms, w->now_ms + draw(w, w->delay_max_ms + 1));
    letter->due_ms = post->last_ms;
    return letter;
}

static struct letter *post_get(struct world *w, struct post *post)
{
    if (post->count == 0 || post->letters[post->first].due_ms > w->now_ms)
        return NULL;
    struct letter *letter = &post->letters[post->first];
    post->first = (post->first + 1) % POST_MAX;
    post->count--;
    return letter;
}

static void check(struct world *w);

static void carry(struct world *w)
{
    struct letter *letter;
    struct lease *lease;
    struct lease_share *share;
    for (unsigned i = 0; i < w->holders; i++) {
        struct user *u = &w->users[i];
        while ((letter = post_get(w, &u->in)) != NULL)
            lease_hear(&u->holder, &letter->tell, false);
        while ((letter = post_get(w, &u->out)) != NULL) {
            lease_owner_hear(&w->owner, i, &letter->ask);
            check(w);
        }
        while ((lease = lease_next(&u->holder)) != NULL &&
               (letter = post_put(w, &u->out)) != NULL) {
            lease_say(lease, &letter->ask);
            lease_said(lease, &letter->ask);
        }
    }
    while ((share = lease_owner_next(&w->owner)) != NULL) {
        letter = post_put(w, &w->users[share->holder].in);
        if (letter == NULL)
            break;
        lease_owner_say(share, &letter->tell);
        lease_owner_said(share);
    }
}

/* ---- a user ---- */

static unsigned links_open(const struct user *u)
{
    unsigned count = 0;
    for (unsigned i = 0; i < LINKS_MAX; i++)
        count += u->links[i].open;
    return count;
}

static uint32_t world_open(const struct world *w)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < w->holders; i++)
        count += links_open(&w->users[i]);
    return count;
}

static uint32_t world_serving(const struct world *w)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < w->holders; i++)
        count += w->users[i].lease == NULL ? 0 : w->users[i].lease->serving;
    return count;
}

static void link_end(struct user *u, struct user_link *link)
{
    if (link->serving)
        lease_serves_less(u->lease);
    if (link->leaving)
        u->lease->leaving--;
    lease_give_slot(u->lease, link->probe);
    lease_put(u->lease);
    link->open = false;
    if (links_open(u) == 0 && (u->backlog == 0 || u->stopped)) {
        lease_want(u->lease, 0, 0);
        lease_put(u->lease); /* the user's own */
        u->lease = NULL;
    }
}

/* The next hop's own count of what it gets. */
static void message_goes(struct user *u)
{
    struct world *w = u->w;
    u->backlog--;
    u->sent++;
    if (u->limits.rate == 0)
        return;
    const double leaked = (double)(w->now_ms - w->level_ms) * u->limits.rate / MINUTE_MS;
    w->level = (w->level > leaked ? w->level - leaked : 0) + 1;
    w->level_ms = w->now_ms;
    cr_assert_leq(w->level, MAX(u->limits.rate / 60, 1U) + 1e-6);
}

static void link_step(struct user *u, struct user_link *link)
{
    struct world *w = u->w;
    struct lease *lease = u->lease;
    if (!link->open || link->until_ms > w->now_ms)
        return;
    if (!link->serving) {
        bool full = w->theirs != 0 && world_serving(w) >= w->theirs;
        if (w->dead || full) {
            if (!lease_failed(lease, lease->failures + 1, w->now_ms + BACK_OFF_MS, FAULT,
                              SLICE("refused")))
                u->grow_ms = w->now_ms + 1'000;
            link_end(u, link);
            return;
        }
        link->serving = true;
        lease_works(lease);
    }
    if (link->leaving || lease_surplus(lease) > 0) {
        lease->leaving += !link->leaving;
        link->leaving = true;
        link_end(u, link);
        return;
    }
    if (u->backlog == 0 || u->stopped) {
        link_end(u, link);
        return;
    }
    if (!lease_take_token(lease, u->backlog - 1))
        return; /* it waits */
    message_goes(u);
    link->until_ms = w->now_ms + 1 + draw(w, w->work_max_ms);
}

static void user_step(struct user *u)
{
    struct world *w = u->w;
    for (unsigned i = 0; i < LINKS_MAX; i++)
        link_step(u, &u->links[i]);
    if (u->stopped || (u->backlog == 0 && u->lease == NULL))
        return;
    if (u->lease == NULL)
        u->lease = lease_get(&u->holder, &key, &u->limits);
    struct lease *lease = u->lease;
    cr_assert_not_null(lease);
    const unsigned open = links_open(u);
    unsigned more = MIN(u->backlog, LINKS_MAX) > open ? MIN(u->backlog, LINKS_MAX) - open : 0;
    if (open > 0 && u->grow_ms > w->now_ms)
        more = 0;
    const uint32_t connecting = open - lease->serving;
    const uint32_t grow = MAX(lease->serving, 1U); /* as many again as work */
    more = MIN(more, grow > connecting ? grow - connecting : 0);
    bool probe;
    for (unsigned i = 0; i < LINKS_MAX && more > 0; i++) {
        if (u->links[i].open)
            continue;
        if (!lease_take_slot(lease, &probe))
            break;
        (void)lease_get(&u->holder, &key, &u->limits);
        u->links[i] = (struct user_link) { .open = true,
                                           .probe = probe,
                                           .until_ms = w->now_ms + 1 + draw(w, w->work_max_ms) };
        w->connects++;
        more--;
    }
    lease_want(lease, more, u->backlog);
    bool waits = u->backlog > 0 && lease->serving == 0;
    if (!waits)
        u->waits_since_ms = 0;
    else if (u->waits_since_ms == 0)
        u->waits_since_ms = w->now_ms;
    else
        u->longest_ms = MAX(u->longest_ms, w->now_ms - u->waits_since_ms);
    if (open == 0 && u->backlog == 0) {
        lease_want(lease, 0, 0);
        lease_put(lease);
        u->lease = NULL;
    }
}

/* ---- the world ---- */

static const struct lease_site *site_of(const struct world *w)
{
    const struct list *chain = &w->owner.hashes[key.word[1] & w->owner.mask];
    return chain->next == NULL || list_empty(chain)
               ? NULL
               : container_of(chain->next, struct lease_site, node);
}

/* What holders have is never more than the owner counts, and that never grows above the limit: a
 * limit that was lowered is reached from above. */
static void check(struct world *w)
{
    const struct lease_site *site = site_of(w);
    const uint32_t counted = site == NULL ? 0 : site->held;
    uint32_t out = 0;
    for (unsigned i = 0; i < w->holders; i++) {
        const struct lease *lease = lease_find(&w->users[i].holder, &key);
        const uint32_t has = lease == NULL ? 0 : lease->slots_granted - lease->slots_returned;
        cr_assert_eq(lease == NULL ? 0 : lease->slots_used, links_open(&w->users[i]));
        cr_assert_leq(links_open(&w->users[i]), has);
        out += has;
    }
    cr_assert_leq(out, counted);
    cr_assert_leq(counted, MAX(site == NULL ? 0 : site->limits.slots, w->out_before));
    w->out_before = counted;
}

static void run(struct world *w, uint64_t ms)
{
    for (const uint64_t until_ms = w->now_ms + ms; w->now_ms < until_ms;) {
        w->now_ms += 1 + draw(w, w->step_max_ms);
        timers_run(&w->timers, w->now_ms);
        carry(w);
        for (unsigned i = 0; i < w->holders; i++) {
            if (draw(w, 4) > 0)
                user_step(&w->users[i]);
            carry(w);
            check(w);
        }
    }
}

static uint32_t all_sent(const struct world *w)
{
    uint32_t sent = 0;
    for (unsigned i = 0; i < w->holders; i++)
        sent += w->users[i].sent;
    return sent;
}

static void backlog(struct world *w, uint32_t messages)
{
    for (unsigned i = 0; i < w->holders; i++)
        w->users[i].backlog = messages;
}

/* Nobody wants anything any more: nothing is left, here or there. */
static void end(struct world *w)
{
    for (unsigned i = 0; i < w->holders; i++)
        w->users[i].stopped = true;
    w->refuse_percent = 0;
    w->dead = false;
    for (unsigned i = 0; i < w->holders; i++) {
        struct user *u = &w->users[i];
        u->stopped = true;
        if (u->lease != NULL && links_open(u) == 0) {
            lease_want(u->lease, 0, 0);
            lease_put(u->lease);
            u->lease = NULL;
        }
    }
    run(w, 10 * MINUTE_MS);
    for (unsigned i = 0; i < w->holders; i++)
        cr_assert_eq(w->users[i].holder.leases.used, 0);
    cr_assert_eq(w->owner.sites.used, 0);
    cr_assert_eq(w->numbers.sites, 0);
    world_free(w);
}

/* ---- slots ---- */

Test(lease, one_holder_may_have_all)
{
    struct world *w = world_new(1, 3, 10, 0);
    w->users[1].backlog = 100'000;
    run(w, 5'000);
    cr_assert_eq(links_open(&w->users[1]), 10);
    end(w);
}

Test(lease, holders_that_want_more_than_there_is_share_evenly)
{
    struct world *w = world_new(2, 3, 10, 0);
    w->users[0].backlog = 1'000'000;
    run(w, 5'000);
    cr_assert_eq(links_open(&w->users[0]), 10);
    w->users[1].backlog = 1'000'000;
    run(w, 5'000);
    cr_assert_eq(links_open(&w->users[0]), 5);
    cr_assert_eq(links_open(&w->users[1]), 5);
    w->users[2].backlog = 1'000'000;
    run(w, 5'000);
    for (unsigned i = 0; i < 3; i++)
        cr_assert(links_open(&w->users[i]) == 3 || links_open(&w->users[i]) == 4);
    cr_assert_eq(world_open(w), 10);
    uint64_t asked = 0;
    for (unsigned i = 0; i < 3; i++)
        asked += w->users[i].numbers.asked;
    run(w, MINUTE_MS);
    for (unsigned i = 0; i < 3; i++)
        asked -= w->users[i].numbers.asked;
    cr_assert_eq(asked, 0, "a lease in use is silent");
    end(w);
}

Test(lease, who_wants_little_leaves_the_rest_to_others)
{
    struct world *w = world_new(3, 2, 12, 0);
    w->users[0].backlog = 1'000'000;
    run(w, 3'000);
    for (unsigned i = 0; i < 100; i++) {
        w->users[1].backlog = MAX(w->users[1].backlog, 2U);
        run(w, 100);
    }
    cr_assert_geq(links_open(&w->users[0]), 9);
    cr_assert_gt(w->users[1].sent, 20);
    end(w);
}

Test(lease, fewer_slots_than_holders_go_round)
{
    for (uint32_t slots = 1; slots <= 3; slots++) {
        struct world *w = world_new(4 + slots, 5, slots, 0);
        backlog(w, 1'000'000);
        run(w, 2 * MINUTE_MS);
        for (unsigned i = 0; i < 5; i++) {
            cr_assert_gt(w->users[i].sent, 20, "holder %u sent %u", i, w->users[i].sent);
            cr_assert_lt(w->users[i].longest_ms, 15'000);
        }
        end(w);
    }
}

Test(lease, a_lower_limit_is_reached_as_connections_end_their_messages)
{
    struct world *w = world_new(9, 3, 30, 0);
    backlog(w, 1'000'000);
    run(w, 5'000);
    cr_assert_eq(world_open(w), 30);
    for (unsigned i = 0; i < 3; i++)
        w->users[i].limits = (struct lease_limits) { .generation = 2, .slots = 4 };
    lease_put(lease_get(&w->users[2].holder, &key, &w->users[2].limits)); /* one has the news */
    run(w, 5'000);
    cr_assert_eq(world_open(w), 4);
    end(w);
}

/* ---- tokens ---- */

Test(lease, the_rate_is_kept_and_used)
{
    static const uint32_t rates[] = { 1, 7, 60, 300, 6'000, 60'000 };
    for (unsigned r = 0; r < ARRAY_COUNT(rates) - UNDER_ASAN; r++) {
        struct world *w = world_new(20 + r, 3, 40, rates[r]);
        w->work_max_ms = 20;
        w->delay_max_ms = 3;
        w->step_max_ms = 2;
        backlog(w, 1'000'000);
        run(w, 2 * MINUTE_MS);
        const uint32_t sent = all_sent(w);
        const uint32_t due = 2 * rates[r];
        cr_assert_leq(sent, due + MAX(rates[r] / 60, 1U));
        cr_assert_geq(sent, due * 85 / 100, "%u of %u", sent, due);
        for (unsigned i = 0; i < 3 && due >= 30; i++)
            cr_assert_geq(w->users[i].sent, due / 3 / 2, "holder %u: %u", i, w->users[i].sent);
        end(w);
    }
}

Test(lease, a_bucket_is_not_filled_by_forgetting_it)
{
    struct world *w = world_new(30, 2, 10, 6);
    uint32_t sent = 0;
    for (unsigned i = 0; i < 40; i++) { /* one message now and then: the lease goes each time */
        w->users[i % 2].backlog++;
        run(w, 3'000);
    }
    sent = all_sent(w);
    cr_assert_leq(sent, 14);
    cr_assert_geq(sent, 8);
    end(w);
}

/* ---- health ---- */

Test(lease, a_dead_next_hop_costs_one_probe_in_all)
{
    struct world *w = world_new(40, 5, 20, 0);
    w->dead = true;
    backlog(w, 1'000);
    run(w, 10'000);
    const uint32_t first = w->connects;
    const uint64_t probes = w->numbers.probes;
    run(w, 10 * BACK_OFF_MS);
    cr_assert_leq(w->connects - first, 11);
    cr_assert_geq(w->connects - first, 8);
    cr_assert_leq(w->numbers.probes - probes, 11);
    w->dead = false;
    run(w, BACK_OFF_MS + 5'000);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_gt(w->users[i].sent, 0, "holder %u was not woken", i);
    end(w);
}

Test(lease, a_probe_that_nobody_uses_goes_to_another)
{
    for (uint64_t seed = 50; seed < 50 + FEWER(10); seed++) {
        struct world *w = world_new(seed, 4, 20, 0);
        w->dead = true;
        w->work_max_ms = 2'000;
        backlog(w, 1'000);
        run(w, 10'000);
        w->dead = false;
        for (unsigned i = 0; i < 3; i++) { /* all but one lose interest, at any moment */
            run(w, draw(w, BACK_OFF_MS));
            w->users[i].backlog = 0;
        }
        run(w, 2 * BACK_OFF_MS);
        cr_assert_gt(w->users[3].sent, 0);
        end(w);
    }
}

Test(lease, a_next_hop_that_takes_few_is_not_taken_for_dead)
{
    struct world *w = world_new(61, 3, 50, 0);
    w->theirs = 6;
    w->users[0].backlog = 1'000'000;
    run(w, MINUTE_MS);
    backlog(w, 1'000'000);
    run(w, 10 * MINUTE_MS);
    cr_assert_gt(w->numbers.ceilings, 0);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_gt(w->users[i].sent, 1'000, "holder %u sent %u", i, w->users[i].sent);
    cr_assert_lt(w->connects, 5'000, "%u", w->connects);
    end(w);
}

Test(lease, an_operator_ends_a_back_off_for_all)
{
    struct world *w = world_new(62, 3, 20, 0);
    w->dead = true;
    backlog(w, 1'000);
    run(w, 5'000);
    w->dead = false;
    lease_retry(w->users[1].lease, w->now_ms);
    run(w, 5'000);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_gt(w->users[i].sent, 0, "holder %u was not woken", i);
    end(w);
}

/* Who does not know of the back-off yet ends it too: he was told to try, and finds out. */
Test(lease, an_order_by_who_knows_of_no_failure_ends_it_for_all)
{
    struct world *w = world_new(63, 3, 20, 0);
    w->dead = true;
    w->users[0].backlog = w->users[1].backlog = 1'000;
    run(w, 5'000);
    w->dead = false;
    const uint64_t ordered_ms = w->now_ms;
    w->users[2].backlog = 1'000;
    while (w->users[2].lease == NULL)
        run(w, 1);
    cr_assert_eq(w->users[2].lease->failures, 0);
    lease_retry(w->users[2].lease, ordered_ms);
    run(w, 5'000);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_gt(w->users[i].sent, 0, "holder %u was not woken", i);
    end(w);
}

Test(lease, an_order_costs_one_probe_whoever_passes_it_on)
{
    for (uint64_t seed = 64; seed < 70; seed++) {
        struct world *w = world_new(seed, 5, 20, 0);
        w->dead = true;
        backlog(w, 1'000);
        run(w, 5'000);
        const uint64_t ordered_ms = w->now_ms;
        const uint32_t before = w->connects;
        for (unsigned i = 0; i < 20; i++) { /* as one destination after the other is looked at */
            lease_retry(w->users[i % 5].lease, ordered_ms);
            run(w, draw(w, 200));
        }
        cr_assert_eq(w->connects - before, 1, "seed %lu: %u", seed, w->connects - before);
        end(w);
    }
}

/* What an owner remembers of the dead must not keep the living from having a place. */
Test(lease, a_site_that_is_only_remembered_gives_way)
{
    struct timers timers;
    struct lease_owner owner;
    struct lease_numbers numbers = { 0 };
    uint64_t now_ms = 1'000;
    timers_init(&timers, now_ms);
    cr_assert_eq(lease_owner_init(&owner, 1, 4, &timers, &now_ms, &numbers), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        struct lease_ask ask = {
            .key = { { i, i } }, .limits = { .slots = 2 }, .number = 1, .slots_wanted = 1
        };
        struct lease_tell tell;
        lease_owner_hear(&owner, 0, &ask);
        struct lease_share *share = lease_owner_next(&owner);
        cr_assert_not_null(share, "%lu: there is no place", i);
        lease_owner_say(share, &tell);
        lease_owner_said(share);
        cr_assert_eq(tell.key.word[0], i);
        cr_assert_eq(tell.slots, 1);
        ask = (struct lease_ask) {
            .key = ask.key,
            .limits = ask.limits,
            .number = 2,
            .seen = tell.number,
            .slots_granted = 1,
            .slots_returned = 1,
            .report = LEASE_FAILED,
            .failures = 1,
            .failed_ms = now_ms,
            .retry_ms = now_ms + MINUTE_MS,
        };
        lease_owner_hear(&owner, 0, &ask);
        while ((share = lease_owner_next(&owner)) != NULL)
            lease_owner_said(share);
        cr_assert_leq(numbers.sites, 4);
    }
    cr_assert_eq(numbers.sites, 4);
    cr_assert_eq(numbers.full, 0);
    lease_owner_free(&owner);
}

/* ---- anything ---- */

static void mixed(uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    const unsigned holders = 1 + (unsigned)random_below(&random, HOLDERS_MAX);
    const uint32_t slots = 1 + (uint32_t)random_below(&random, 30);
    const uint32_t rate =
        random_below(&random, 2) == 0 ? 0 : 600 + (uint32_t)random_below(&random, 6'000);
    struct world *w = world_new(seed, holders, slots, rate);
    w->delay_max_ms = (uint32_t)draw(w, 400);
    w->refuse_percent = draw(w, 2) == 0 ? 0 : (uint32_t)draw(w, 80);
    w->work_max_ms = 1 + (uint32_t)draw(w, 1'000);
    uint64_t generation = 1;
    for (unsigned i = 0; i < 30; i++) {
        struct user *u = &w->users[draw(w, holders)];
        switch (draw(w, 6)) {
        case 0: u->backlog = 0; break;
        case 1: u->backlog = (uint32_t)draw(w, 1'000); break;
        case 2: w->dead = draw(w, 3) == 0; break;
        case 3: u->stopped = !u->stopped; break;
        case 4: w->theirs = draw(w, 2) == 0 ? 0 : 1 + (uint32_t)draw(w, 20); break;
        case 5: /* a reload reaches the shards one after the other */
            generation++;
            const uint32_t to = 1 + (uint32_t)draw(w, 30);
            for (unsigned k = 0; k < holders; k++) {
                w->users[k].limits.generation = generation;
                w->users[k].limits.slots = to;
                if (w->users[k].lease != NULL)
                    lease_put(lease_get(&w->users[k].holder, &key, &w->users[k].limits));
            }
            break;
        }
        run(w, draw(w, 3'000));
    }
    w->dead = false;
    w->theirs = 0;
    w->refuse_percent = 0;
    for (unsigned i = 0; i < holders; i++)
        w->users[i].stopped = false;
    run(w, 4 * BACK_OFF_MS); /* what is left of back-offs and ceilings */
    for (unsigned i = 0; i < holders; i++) {
        w->users[i].backlog = 1'000'000;
        w->users[i].waits_since_ms = w->users[i].longest_ms = 0;
        w->users[i].sent = 0;
    }
    run(w, 2 * MINUTE_MS);
    for (unsigned i = 0; i < holders; i++) {
        cr_assert_gt(w->users[i].sent, 5, "seed %lu: holder %u sent %u", seed, i, w->users[i].sent);
        cr_assert_lt(w->users[i].longest_ms, 40'000, "seed %lu: holder %u waited %lu ms", seed, i,
                     w->users[i].longest_ms);
    }
    end(w);
}

Test(lease, no_interleaving_exceeds_a_limit_or_starves_anybody)
{
    for (uint64_t seed = 1'000; seed < 1'000 + FEWER(16); seed++)
        mixed(seed);
}
