/*
 * control_dnssec.c - does DNSSEC validation work here? Asked at the start, and until it does
 *
 *   no trust anchor                                   --> off, said once
 *   SOA of the zone that the anchor is for --secure--> works, for good
 *        ^--- RETRY_MS ---anything else-------'            (said when it changes)
 *
 * Nothing is turned on or off by the answer: each DNS answer says for itself whether it was
 * validated, and DANE counts only those that were. But without a resolver path that lets signatures
 * through there are none, or all are bogus, and whoever runs this should hear of it before his mail
 * does. That it works once is enough: later failures are told by what fails.
 */
#include <stdio.h>

#include "mta/control.h"

enum { RETRY_MS = 60'000, LINE_BYTES = 4'096 };

static const struct metric dnssec_metrics[] = {
    { "ringpost_dnssec_works", NULL,
      "1: DNSSEC validation was seen to work; 0: there is none, and no DANE", METRIC_GAUGE, 0,
      offsetof(struct control_dnssec, works) },
    { "ringpost_dnssec_check_failures_total", NULL, "Self-checks of it that failed", METRIC_COUNTER,
      0, offsetof(struct control_dnssec, failures) },
};

static void tell(const struct control *control, const char *why)
{
    const struct shard *shard = &control->shard;
    const struct control_dnssec *dnssec = &control->dnssec;
    struct log_line line;
    log_begin(&line, shard->log, dnssec->works ? LOG_INFO : LOG_WARNING, shard->wall_us, "dnssec");
    log_bool(&line, "works", dnssec->works);
    if (control->config->dns.trust_anchor_file != NULL)
        log_string(&line, "zone", dnssec->zone[0] == '\0' ? "." : dnssec->zone);
    log_string(&line, "why", why);
    log_end(&line);
}

static void answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct control_dnssec *dnssec = container_of(query, struct control_dnssec, query);
    struct control *control = container_of(dnssec, struct control, dnssec);
    if (answer->status == DNS_OK && answer->secure) {
        metric_set(&dnssec->works, 1);
        tell(control, "");
        return;
    }
    static const char *const words[] = {
        [DNS_OK] = "the answer is not signed, or has lost its signatures on the way",
        [DNS_NODATA] = "the zone of the trust anchor is not there",
        [DNS_NXDOMAIN] = "the zone of the trust anchor is not there",
        [DNS_SERVFAIL] = "server failure",
        [DNS_TIMEOUT] = "timeout",
        [DNS_BOGUS] =
            "validation failed: is the anchor old, the clock wrong, or a forwarder in between",
    };
    metric_add(&dnssec->failures, 1);
    if (metric_get(&dnssec->failures) == 1)
        tell(control, words[answer->status]);
    shard_timer_arm(&control->shard, &dnssec->timer, RETRY_MS);
}

static void ask(struct control *control)
{
    struct control_dnssec *dnssec = &control->dnssec;
    dnssec->query = (struct dns_query) { .answered = answered };
    dns_ask(&control->dns, &control->shard, &dnssec->query, dnssec->zone, DNS_SOA);
}

static void timer_fired(struct timer *timer)
{
    ask(container_of(timer, struct control, dnssec.timer));
}

/* Whose records the file has: the owner of the first. The root, unless it says otherwise. */
static void find_zone(const char *path, char zone[static DNS_NAME_MAX])
{
    char line[LINE_BYTES];
    zone[0] = '\0';
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        size_t size = strcspn(line, " \t\r\n;");
        if (size == 0 || line[0] == '$')
            continue; /* a comment, or the rest of a record */
        size -= line[size - 1] == '.';
        if (size < DNS_NAME_MAX) {
            memcpy(zone, line, size);
            zone[size] = '\0';
        }
        break;
    }
    if (file != NULL)
        fclose(file);
}

void control_dnssec_start(struct control *control)
{
    struct control_dnssec *dnssec = &control->dnssec;
    const char *anchor = control->config->dns.trust_anchor_file;
    timer_init(&dnssec->timer, timer_fired);
    metrics_add_source(&control->metrics, &dnssec->source, dnssec_metrics,
                       ARRAY_COUNT(dnssec_metrics), dnssec, -1);
    if (anchor == NULL) {
        tell(control, "dns { trust-anchor } is not given: nothing is validated, DANE is off");
        return;
    }
    find_zone(anchor, dnssec->zone);
    ask(control);
}

void control_dnssec_stop(struct control *control)
{
    dns_forget(&control->dns, &control->dnssec.query);
    shard_timer_disarm(&control->shard, &control->dnssec.timer);
}
