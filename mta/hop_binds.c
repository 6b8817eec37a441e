/*
 * hop_binds.c - what the mail of a destination waits for, in one word and in a few
 *
 * In the order in which hop_pump asks: the first thing that stands in the way is what binds. Looks
 * only; changes nothing.
 */
#include <stdarg.h>
#include <stdio.h>

#include "mta/next_hop.h"

enum { MS_IN_S = 1'000 };

const char *hop_bind_name(enum hop_bind bind)
{
    static const char *const names[HOP_BINDS] = {
        [HOP_BINDS_NOTHING] = "nothing",
        [HOP_BINDS_PARKED] = "no-route",
        [HOP_BINDS_BLOCKED] = "blocked",
        [HOP_BINDS_BACK_OFF] = "back-off",
        [HOP_BINDS_PROBE] = "probe",
        [HOP_BINDS_DNS] = "dns",
        [HOP_BINDS_POLICY] = "mta-sts",
        [HOP_BINDS_CONNECTING] = "connecting",
        [HOP_BINDS_RATE] = "our-rate",
        [HOP_BINDS_CONNECTIONS] = "our-connections",
        [HOP_BINDS_THEIRS] = "their-connections",
        [HOP_BINDS_WORK] = "work",
    };
    return names[bind];
}

static enum hop_bind say(char words[static HOP_BINDS_WORDS_MAX], enum hop_bind bind,
                         const char *format, ...) PRINTF_LIKE(3, 4);
static enum hop_bind say(char words[static HOP_BINDS_WORDS_MAX], enum hop_bind bind,
                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, HOP_BINDS_WORDS_MAX, format, arguments);
    va_end(arguments);
    return bind;
}

/* It waits in its lease. */
static enum hop_bind waits_for(const struct next_hop *hop, char words[static HOP_BINDS_WORDS_MAX])
{
    const struct lease *lease = hop->site;
    if (lease->failures > 0)
        return say(words, HOP_BINDS_PROBE, "one connection looks whether it works again");
    if (!lease_has_token(lease))
        return say(words, HOP_BINDS_RATE, "max-rate lets %u messages a minute go there",
                   lease->limits.rate);
    if (lease->ceiling)
        return say(words, HOP_BINDS_THEIRS,
                   "it took no more connections; this shard has %u of them", lease->slots_used);
    return say(words, HOP_BINDS_CONNECTIONS, "%u connections are allowed there; this shard has %u",
               lease->limits.slots, lease->slots_used);
}

enum hop_bind hop_binds(const struct destination *d, char words[static HOP_BINDS_WORDS_MAX])
{
    const struct next_hop *hop = d->owner;
    words[0] = '\0';
    if (d->ready_count == 0)
        return HOP_BINDS_NOTHING;
    const uint64_t now_ms = d->queue->shard->now_ms;
    const unsigned working = hop == NULL ? 0 : hop->links_count - hop->connecting;
    if (hop == NULL ? d == d->queue->parking : hop->route == NULL)
        return say(words, HOP_BINDS_PARKED, "the configuration has no way there now");
    if (hop != NULL && hop_is_blocked(hop))
        return say(words, HOP_BINDS_BLOCKED, "connector %s is blocked", hop->route->name);
    if (d->retry_ms > now_ms && working == 0)
        return say(words, HOP_BINDS_BACK_OFF, "%u failures in a row; tried again in %llu s",
                   d->failures, (unsigned long long)((d->retry_ms - now_ms) / MS_IN_S));
    if (hop == NULL)
        return say(words, HOP_BINDS_CONNECTIONS, "other next hops are looked after before it");
    if (hop->request.resolve != NULL && working == 0)
        return say(words, HOP_BINDS_DNS, "its hosts are looked up");
    if (hop->sts.sts != NULL && working == 0)
        return say(words, HOP_BINDS_POLICY, "its MTA-STS policy is asked for");
    if (hop->site != NULL)
        return waits_for(hop, words);
    if (hop->pause_ms > now_ms || (working > 0 && hop->grow_ms > now_ms))
        return say(words, HOP_BINDS_THEIRS, "it took no more connections than %u of this shard",
                   working);
    if (working == 0)
        return say(words, HOP_BINDS_CONNECTING, "the first connection is under way");
    return say(words, HOP_BINDS_WORK, "%u connections are at work", working);
}
