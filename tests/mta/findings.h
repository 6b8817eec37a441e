/*
 * findings.h - what a check said, counted
 */
#ifndef RINGPOST_TESTS_MTA_FINDINGS_H
#define RINGPOST_TESTS_MTA_FINDINGS_H

#include <string.h>

#include "mta/config.h"

/* How many findings of this severity have words in them. */
static inline unsigned findings(const struct config_report *report, enum config_severity severity,
                                const char *words)
{
    unsigned count = 0;
    for (unsigned i = 0; i < report->count; i++)
        count += report->messages[i].severity == severity &&
                 strstr(report->messages[i].text, words) != NULL;
    return count;
}

#endif
