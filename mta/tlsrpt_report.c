/*
 * tlsrpt_report.c - JSON of RFC 8460: policies found by what they say, failures by all but numbers
 */
#include "mta/tlsrpt_report.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
    S_IN_DAY = 86'400,
    LINE_MAX = STS_PATTERN_MAX + 16,
    STS_BYTES_MAX = 2'048, /* of the patterns that are told */
    ID_MAX = 640,
};

#define COUNT "failed-session-count"
#define GOOD "total-successful-session-count"
#define FAILED "total-failure-session-count"

/* ---- policies ---- */

static void add_line(json_t *array, const char *key, const char *value)
{
    char line[LINE_MAX];
    snprintf(line, sizeof(line), "%s: %s", key, value);
    json_array_append_new(array, json_string(line));
}

static void sts_json(const struct sts_policy *sts, json_t *strings, json_t *hosts)
{
    char age[16];
    size_t bytes = 0;
    add_line(strings, "version", "STSv1");
    add_line(strings, "mode", sts_mode_name((enum sts_mode)sts->mode));
    for (const char *p = NULL; (p = sts_policy_pattern(sts, p)) != NULL;) {
        bytes += strlen(p);
        if (bytes > STS_BYTES_MAX)
            break;
        add_line(strings, "mx", p);
        json_array_append_new(hosts, json_string(p));
    }
    snprintf(age, sizeof(age), "%u", sts->max_age_s);
    add_line(strings, "max_age", age);
}

static void records_json(struct slice records, json_t *strings)
{
    while (records.size > 0) {
        ptrdiff_t end = slice_find(records, '\n');
        const struct slice line = end < 0 ? records : slice_part(records, 0, (size_t)end);
        json_array_append_new(strings, json_stringn((const char *)line.data, line.size));
        records = slice_from(records, end < 0 ? records.size : (size_t)end + 1);
    }
}

static json_t *policy_json(const struct tlsrpt_policy *policy)
{
    static const char *const types[] = {
        [TLSRPT_NO_POLICY] = "no-policy-found", [TLSRPT_STS] = "sts", [TLSRPT_TLSA] = "tlsa"
    };
    json_t *strings = json_array();
    json_t *hosts = json_array();
    if (policy->type == TLSRPT_STS && policy->sts != NULL)
        sts_json(policy->sts, strings, hosts);
    if (policy->type == TLSRPT_TLSA)
        records_json(slice_of_string(policy->records), strings);
    json_t *object = json_pack("{s:s, s:s}", "policy-type", types[policy->type], "policy-domain",
                               policy->domain);
    if (policy->type != TLSRPT_NO_POLICY)
        json_object_set(object, "policy-string", strings);
    if (json_array_size(hosts) > 0)
        json_object_set(object, "mx-host", hosts);
    json_decref(strings);
    json_decref(hosts);
    return object;
}

static json_t *entry_of(json_t *policies, const struct tlsrpt_policy *policy)
{
    size_t index;
    json_t *entry;
    json_t *object = policy_json(policy);
    json_array_foreach(policies, index, entry)
    {
        if (json_equal(json_object_get(entry, "policy"), object) == 0)
            continue;
        json_decref(object);
        return entry;
    }
    if (json_array_size(policies) >= TLSRPT_POLICIES_MAX) {
        json_decref(object);
        return NULL;
    }
    entry = json_pack("{s:o, s:{s:i, s:i}, s:[]}", "policy", object, "summary", GOOD, 0, FAILED, 0,
                      "failure-details");
    json_array_append_new(policies, entry);
    return entry;
}

/* ---- counting ---- */

static void grow(json_t *object, const char *key, uint64_t count)
{
    const json_int_t before = json_integer_value(json_object_get(object, key));
    json_object_set_new(object, key, json_integer(before + (json_int_t)count));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (*text != '\0')
        json_object_set_new(object, key, json_string(text));
}

static json_t *detail_json(const struct tlsrpt_failure *failure)
{
    json_t *detail = json_pack("{s:s}", "result-type", failure->result);
    set_text(detail, "sending-mta-ip", failure->from);
    set_text(detail, "receiving-mx-hostname", failure->host);
    set_text(detail, "receiving-ip", failure->to);
    set_text(detail, "failure-reason-code", failure->reason);
    return detail;
}

/* Takes wanted over. NULL: there is none like it, but for the number. */
static json_t *detail_find(json_t *details, json_t *wanted)
{
    size_t index;
    json_t *detail;
    json_t *found = NULL;
    json_array_foreach(details, index, detail)
    {
        json_object_set(wanted, COUNT, json_object_get(detail, COUNT));
        if (json_equal(detail, wanted) != 0) {
            found = detail;
            break;
        }
    }
    json_decref(wanted);
    return found;
}

static size_t details_count(const json_t *policies)
{
    size_t index, count = 0;
    json_t *entry;
    json_array_foreach(policies, index, entry) count +=
        json_array_size(json_object_get(entry, "failure-details"));
    return count;
}

static int add_failure(json_t *policies, json_t *entry, const struct tlsrpt_failure *failure,
                       uint64_t count)
{
    json_t *details = json_object_get(entry, "failure-details");
    json_t *detail = detail_find(details, detail_json(failure));
    const struct tlsrpt_failure rest = { failure->result, "", "", "", "and others of this type" };
    if (detail == NULL && details_count(policies) >= TLSRPT_DETAILS_MAX) {
        failure = &rest;
        detail = detail_find(details, detail_json(failure));
    }
    if (detail == NULL) {
        detail = detail_json(failure);
        if (json_array_append_new(details, detail) < 0)
            return -ENOMEM;
    }
    grow(detail, COUNT, count);
    return 0;
}

int tlsrpt_add(json_t *policies, const struct tlsrpt_policy *policy,
               const struct tlsrpt_failure *failure, uint64_t count)
{
    json_t *entry = entry_of(policies, policy);
    if (entry == NULL)
        return json_array_size(policies) >= TLSRPT_POLICIES_MAX ? -ENOBUFS : -ENOMEM;
    grow(json_object_get(entry, "summary"), failure == NULL ? GOOD : FAILED, count);
    return failure == NULL ? 0 : add_failure(policies, entry, failure, count);
}

/* ---- a report ---- */

void tlsrpt_day_text(uint32_t day, char out[static TLSRPT_DAY_TEXT_MAX])
{
    const time_t at = (time_t)day * S_IN_DAY;
    struct tm date;
    gmtime_r(&at, &date);
    strftime(out, TLSRPT_DAY_TEXT_MAX, "%Y-%m-%d", &date);
}

int tlsrpt_day_read(const char *text, uint32_t *day)
{
    struct tm date = { 0 };
    char again[TLSRPT_DAY_TEXT_MAX];
    const char *end = strptime(text, "%Y-%m-%d", &date);
    if (end == NULL || *end != '\0')
        return -EINVAL;
    const time_t at = timegm(&date);
    if (at < 0 || at / S_IN_DAY > UINT16_MAX)
        return -EINVAL;
    *day = (uint32_t)(at / S_IN_DAY);
    tlsrpt_day_text(*day, again);
    return strcmp(again, text) == 0 ? 0 : -EINVAL; /* 30 February is none */
}

json_t *tlsrpt_report(const struct tlsrpt_head *head, json_t *policies)
{
    char day[TLSRPT_DAY_TEXT_MAX];
    char start[TLSRPT_DAY_TEXT_MAX + 16];
    char end[TLSRPT_DAY_TEXT_MAX + 16];
    char id[ID_MAX];
    tlsrpt_day_text(head->day, day);
    snprintf(start, sizeof(start), "%sT00:00:00Z", day);
    snprintf(end, sizeof(end), "%sT23:59:59Z", day);
    snprintf(id, sizeof(id), "%s_%.255s@%.255s", day, head->domain, head->hostname);
    return json_pack("{s:s, s:{s:s, s:s}, s:s, s:s, s:o}", "organization-name", head->organization,
                     "date-range", "start-datetime", start, "end-datetime", end, "contact-info",
                     head->contact, "report-id", id, "policies", policies);
}
