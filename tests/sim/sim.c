/*
 * sim.c - the loop of the simulated world: events, clock, whose turn it is
 *
 * Next is always what comes first: an event of the network or a disk, or a ring that has something
 * to land, a wake, or a timer that is due, and whose thread is not busy. Ties fall by the seed.
 *
 * Owns everything of the world until sim_free, the rings of crashed machines too: a victim's code
 * that still calls them fails a CHECK instead of reading freed memory.
 */
#include "tests/sim/sim_inside.h"

#include <stdlib.h>
#include <xxhash.h>

enum { PPM = 1'000'000 };
static const int64_t WALL_START_US = 1'893'456'000'000'000; /* 2030-01-01T00:00Z */

/* ---- memory, chance, hashes ---- */

void *sim_take(size_t bytes)
{
    void *memory = calloc(1, MAX(bytes, 1));
    CHECK(memory != NULL);
    return memory;
}

void *sim_more(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    CHECK(memory != NULL);
    return memory;
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    return low + random_below(&sim->random, high - low + 1);
}

uint64_t sim_draw(struct sim *sim, struct sim_range range)
{
    /* Doubling steps from min on, one of them taken, then even inside it: roughly logarithmic. */
    if (range.max_ns <= range.min_ns)
        return range.min_ns;
    uint64_t low = MAX(range.min_ns, 1);
    unsigned steps = (unsigned)(__builtin_clzll(low) - __builtin_clzll(range.max_ns));
    steps += low << steps < range.max_ns;
    low <<= random_below(&sim->random, steps);
    return sim_between(sim, low, MIN(2 * low, range.max_ns));
}

bool sim_chance(struct sim *sim, uint32_t ppm)
{
    return ppm > 0 && random_below(&sim->random, PPM) < ppm;
}

uint64_t sim_hash(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t sim_hash_vector(const struct ring_vector *v)
{
    uint64_t h = v->count;
    for (unsigned i = 0; i < v->count; i++)
        h = sim_hash(v->iov[i].iov_base, v->iov[i].iov_len, h);
    return h;
}

void sim_trace_add(struct sim *sim, uint64_t what, uint64_t value)
{
    static const uint64_t K = 0x9e3779b97f4a7c15;
    const uint64_t words[] = { sim->now_ns, what, value };
    for (unsigned i = 0; i < ARRAY_COUNT(words); i++) {
        sim->trace = (sim->trace ^ words[i]) * K;
        sim->trace ^= sim->trace >> 32;
    }
}

int sim_fault(struct sim *sim, unsigned machine, enum sim_operation kind, uint32_t ppm, int error)
{
    struct sim_machine *m = &sim->machines[machine];
    struct sim_order *order = &m->orders[kind];
    m->counts[kind]++;
    sim->operations++;
    if (sim->watch != NULL && kind == sim->watch_kind && machine == sim->watch_machine)
        sim->watch(sim->watch_argument);
    if (order->count > 0) {
        if (order->skip == 0) {
            order->count--;
            return order->error;
        }
        order->skip--;
    }
    return sim_faulty(sim, machine, ppm) ? error : 0;
}

bool sim_faulty(struct sim *sim, unsigned machine, uint32_t ppm)
{
    return sim->machines[machine].faults && sim_chance(sim, ppm);
}

/* ---- events: a binary heap ---- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

struct sim_event *sim_event(struct sim *sim, uint64_t delay_ns,
                            void (*fire)(struct sim *sim, const struct sim_event *event))
{
    if (sim->events_count == sim->events_size) {
        sim->events_size = MAX(2 * sim->events_size, 256);
        sim->events = sim_more(sim->events, sim->events_size * sizeof(*sim->events));
    }
    struct sim_event event = {
        .at_ns = sim->now_ns + delay_ns,
        .order = random_next(&sim->random) << 32 | sim->events_made++,
        .fire = fire,
    };
    uint32_t i = sim->events_count++;
    while (i > 0 && event_before(&event, &sim->events[(i - 1) / 2])) {
        sim->events[i] = sim->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->events[i] = event;
    return &sim->events[i]; /* the caller fills in the rest at once */
}

static struct sim_event event_pop(struct sim *sim)
{
    struct sim_event first = sim->events[0];
    struct sim_event last = sim->events[--sim->events_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= sim->events_count)
            break;
        if (child + 1 < sim->events_count &&
            event_before(&sim->events[child + 1], &sim->events[child]))
            child++;
        if (!event_before(&sim->events[child], &last))
            break;
        sim->events[i] = sim->events[child];
        i = child;
    }
    sim->events[i] = last;
    return first;
}

static void at_fire(struct sim *sim, const struct sim_event *event)
{
    (void)sim;
    void (*call)(void *);
    memcpy(&call, &event->number, sizeof(call));
    call(event->pointer);
}

void sim_at(struct sim *sim, uint64_t delay_ns, void (*call)(void *), void *argument)
{
    struct sim_event *event = sim_event(sim, delay_ns, at_fire);
    static_assert(sizeof(call) == sizeof(event->number));
    memcpy(&event->number, &call, sizeof(call));
    event->pointer = argument;
}

/* ---- crashes ---- */

void sim_crash(struct sim *sim, unsigned machine, enum sim_crash how)
{
    CHECK(machine < sim->machines_count);
    bool power = how == SIM_POWER;
    sim_trace_add(sim, 0xc0 + (uint64_t)how, machine);
    /* In the order of numbers, so that luck is the seed's. */
    for (uint32_t i = 0; i < sim->flights_count; i++) {
        struct sim_flight *flight = sim->flights[i];
        if (flight->op == NULL || flight->ring->machine != machine)
            continue;
        if (flight->kind >= FLIGHT_OPEN && flight->kind <= FLIGHT_SYNC && !flight->posted)
            sim_file_crash(sim, flight, power);
        if (flight->end != NULL)
            flight->end->ops--;
        sim_flight_free(sim, flight);
    }
    sim_net_exit(sim, machine, power);
    for (unsigned i = 0; i < sim->rings_count; i++)
        if (sim->rings[i]->machine == machine && !sim->rings[i]->dead)
            sim_ring_die(sim->rings[i]);
    sim_disk_crash(sim->machines[machine].disk, power);
}

/* ---- running ---- */

static void ring_look(struct sim_ring *r)
{
    r->timer_ns = UINT64_MAX;
    r->sim->turn_known = false;
    if (r->shard == NULL)
        return;
    uint64_t due_ms = timers_next(&r->shard->timers);
    if (due_ms < UINT64_MAX / SIM_MS)
        r->timer_ns = due_ms * SIM_MS;
    if (!list_empty(&r->shard->runnable) || r->shard->woken)
        r->timer_ns = 0;
}

/* When it can run next; UINT64_MAX: nothing is known that would make it. */
static uint64_t ring_ready(const struct sim_ring *r)
{
    if (r->dead || (r->shard == NULL && !r->runs) || (r->shard != NULL && r->shard->stop))
        return UINT64_MAX;
    if (r->completions_count > 0 || r->woken)
        return r->busy_until_ns;
    return MAX(r->timer_ns, r->busy_until_ns);
}

static void ring_step(struct sim *sim, struct sim_ring *r)
{
    if (r->shard != NULL)
        CHECK(shard_step(r->shard, sim->now_ns / SIM_MS) == 0);
    else
        (void)ring_wait(&r->ring, 0);
    sim->turn_known = false;
    if (r->dead)
        return;
    uint64_t busy = sim_draw(sim, sim->options.step);
    if (r->shard != NULL && sim_faulty(sim, r->machine, sim->options.stall_ppm))
        busy += sim_draw(sim, (struct sim_range) { SIM_MS, 3 * SIM_S });
    r->busy_until_ns = sim->now_ns + MAX(busy, 1);
    ring_look(r);
    if (sim->look == NULL || r->shard == NULL || --sim->look_left > 0)
        return;
    sim->look_left = sim->look_steps;
    sim->look(sim->look_argument);
}

void sim_look(struct sim *sim, unsigned steps, void (*call)(void *), void *argument)
{
    CHECK(steps > 0);
    sim->look = call;
    sim->look_argument = argument;
    sim->look_steps = sim->look_left = steps;
}

/* The ring has more to do than before: it may come earlier. */
void sim_turn(struct sim_ring *r)
{
    struct sim *sim = r->sim;
    const uint64_t ready = sim->turn_known ? ring_ready(r) : 0;
    if (!sim->turn_known || ready >= sim->turn_ns)
        return;
    sim->turn_ns = ready;
    sim->turn = r;
}

static void turn_find(struct sim *sim)
{
    sim->turn = NULL;
    sim->turn_ns = UINT64_MAX;
    sim->turn_known = true;
    for (unsigned i = 0; i < sim->alive_count; i++)
        sim_turn(sim->alive[i]);
}

/* The next thing, unless it lies after until_ns. stepped: it was a ring's. */
static bool run_next(struct sim *sim, uint64_t until_ns, bool *stepped)
{
    if (!sim->turn_known)
        turn_find(sim);
    struct sim_ring *ring = sim->turn;
    uint64_t at = MAX(sim->turn_ns, sim->now_ns);
    bool event_first = sim->events_count > 0 && sim->events[0].at_ns <= at;
    if (event_first)
        at = sim->events[0].at_ns;
    else if (ring == NULL)
        return false;
    if (at > until_ns)
        return false;
    sim->now_ns = at;
    *stepped = !event_first;
    if (event_first) {
        struct sim_event event = event_pop(sim);
        sim->operations++;
        event.fire(sim, &event);
    } else {
        ring_step(sim, ring);
    }
    return true;
}

static void run_look(struct sim *sim)
{
    for (unsigned i = 0; i < sim->alive_count; i++)
        ring_look(sim->alive[i]);
}

bool sim_run_until(struct sim *sim, uint64_t until_ms, bool (*done)(void *), void *argument)
{
    CHECK(until_ms < UINT64_MAX / SIM_MS);
    uint64_t until_ns = until_ms * SIM_MS;
    run_look(sim); /* the test may have armed timers or queued tasks meanwhile */
    bool stepped = true;
    do {
        if (stepped && done != NULL && done(argument))
            return true;
    } while (run_next(sim, until_ns, &stepped));
    sim->now_ns = MAX(sim->now_ns, until_ns);
    return done != NULL && done(argument);
}

void sim_run(struct sim *sim, uint64_t until_ms)
{
    (void)sim_run_until(sim, until_ms, NULL, NULL);
}

bool sim_run_one(struct sim *sim)
{
    bool stepped;
    run_look(sim);
    return run_next(sim, UINT64_MAX - 1, &stepped);
}

/* ---- the world ---- */

struct sim_options sim_calm(uint64_t seed)
{
    return (struct sim_options) {
        .seed = seed,
        .network = { 50 * SIM_US, 50 * SIM_MS },
        .disk = { 50 * SIM_US, 20 * SIM_MS },
        .step = { 1 * SIM_US, 50 * SIM_US },
        .socket_bytes_min = 1 << 10,
        .socket_bytes_max = 1 << 17,
    };
}

struct sim_options sim_storm(uint64_t seed)
{
    struct sim_options options = sim_calm(seed);
    struct random random;
    random_seed(&random, seed ^ 0x57012);
    struct {
        uint32_t *ppm;
        uint32_t most;
    } const kinds[] = {
        { &options.slow_ppm, 20'000 },        { &options.stall_ppm, 500 },
        { &options.refuse_ppm, 200'000 },     { &options.connect_timeout_ppm, 100'000 },
        { &options.reset_ppm, 30'000 },       { &options.emfile_ppm, 50'000 },
        { &options.short_write_ppm, 50'000 }, { &options.write_error_ppm, 10'000 },
        { &options.sync_error_ppm, 20'000 },  { &options.read_error_ppm, 5'000 },
        { &options.open_error_ppm, 50'000 },  { &options.enobufs_ppm, 50'000 },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
        uint64_t level = random_below(&random, 4); /* off, off, rare, frequent */
        if (level >= 2)
            *kinds[i].ppm = level == 2 ? kinds[i].most / 50 + 1 : kinds[i].most;
    }
    return options;
}

struct sim *sim_new(const struct sim_options *options)
{
    struct sim *sim = sim_take(sizeof(*sim));
    sim->options = *options;
    random_seed(&sim->random, options->seed);
    sim->wall_us = options->wall_us != 0 ? options->wall_us : WALL_START_US;
    sim->now_ns = 1000 * SIM_S; /* a machine that was up for a while: 0 is a time like no other */
    sim->connections_free = UINT32_MAX;
    sim->next_port = 32'768;
    return sim;
}

void sim_free(struct sim *sim)
{
    for (unsigned i = 0; i < sim->rings_count; i++) {
        if (!sim->rings[i]->dead)
            sim_ring_die(sim->rings[i]);
        free(sim->rings[i]);
    }
    sim_dns_free(sim);
    sim_net_free(sim);
    for (unsigned i = 0; i < sim->machines_count; i++)
        sim_disk_free(sim->machines[i].disk);
    for (uint32_t i = 0; i < sim->flights_count; i++)
        free(sim->flights[i]);
    free(sim->flights);
    free(sim->flights_idle);
    free(sim->events);
    free(sim);
}

unsigned sim_machine(struct sim *sim, const char *address)
{
    CHECK(sim->machines_count < SIM_MACHINES_MAX);
    struct sim_machine *m = &sim->machines[sim->machines_count];
    CHECK(net_parse(slice_of_string(address), 0, &m->address) == 0);
    m->disk = sim_disk_new(sim, sim->options.disk_bytes);
    return sim->machines_count++;
}

void sim_faults(struct sim *sim, unsigned machine, bool on)
{
    CHECK(machine < sim->machines_count);
    sim->machines[machine].faults = on;
}

void sim_fail(struct sim *sim, unsigned machine, enum sim_operation kind, uint64_t skip,
              uint64_t count, int error)
{
    CHECK(machine < sim->machines_count);
    CHECK(count == 0 || error < 0);
    sim->machines[machine].orders[kind] =
        (struct sim_order) { .skip = skip, .count = count, .error = error };
}

void sim_watch(struct sim *sim, unsigned machine, enum sim_operation kind, void (*call)(void *),
               void *argument)
{
    sim->watch = call;
    sim->watch_argument = argument;
    sim->watch_machine = machine;
    sim->watch_kind = kind;
}

uint64_t sim_count(const struct sim *sim, unsigned machine, enum sim_operation kind)
{
    return sim->machines[machine].counts[kind];
}

struct sim_options *sim_options(struct sim *sim)
{
    return &sim->options;
}

struct random *sim_random(struct sim *sim)
{
    return &sim->random;
}

uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_ns / SIM_MS;
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->now_ns;
}

void sim_wall_jump(struct sim *sim, int64_t by_us)
{
    sim->wall_us += by_us;
}

uint64_t sim_trace(const struct sim *sim)
{
    return sim->trace;
}

uint64_t sim_operations(const struct sim *sim)
{
    return sim->operations;
}
